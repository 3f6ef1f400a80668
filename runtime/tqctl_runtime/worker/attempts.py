"""One attempt inside an executor: from the row of a frame to the call, from its result or exception to an outcome."""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from tqctl_runtime.core.attempt import Detail, clean_text
from tqctl_runtime.core.current import CurrentTask
from tqctl_runtime.core.errors import (
    Cancel,
    CancelRequested,
    Interrupted,
    PayloadError,
    Retry,
    TimeLimitReached,
    TqctlError,
)
from tqctl_runtime.core.handler import HandlerSpec, registry
from tqctl_runtime.core.serializer import dump_json, pack
from tqctl_runtime.core.states import OUTCOME_CODES, Outcome
from tqctl_runtime.core.submission import ENVELOPE_LAYOUT
from tqctl_runtime.core.task import ErrorInfo
from tqctl_runtime.worker import frames

SUCCEEDED = OUTCOME_CODES[Outcome.SUCCEEDED]
FAILED = OUTCOME_CODES[Outcome.FAILED]
TIMED_OUT = OUTCOME_CODES[Outcome.TIMED_OUT]
REJECTED = OUTCOME_CODES[Outcome.REJECTED]
CANCELLED = OUTCOME_CODES[Outcome.CANCELLED]

_decode = json.JSONDecoder().decode
#: Types of the catalogue whose values need no second look.
_PLAIN: dict[str, type] = {"int": int, "float": float, "bool": bool, "str": str}
_OWN_CODE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_MESSAGE_LIMIT = 4_096
_TRACEBACK_LIMIT = 32_768
_REASON_LIMIT = 200
#: The detail of a handler that returned None and said nothing.
_NULL = pack([b"null", None, b"", 0, None])

#: One row of a frame: seq, task id, attempt number, queue, unpacked envelope.
Row = list[Any]
#: What a STEP carries of the ended task: outcome code, retry, detail, reason.
Ending = tuple[int, int, bytes, str]


class Asking(Protocol):
    """How an attempt reaches its supervisor from inside the handler."""

    def tell(self, message: Sequence[Any]) -> None:
        """Send *message*, whole, also when a signal comes."""

    def ask(self, seq: int, call: Mapping[str, Any]) -> Any:
        """Send a child task's fields and wait for its id."""

    async def ask_async(self, seq: int, call: Mapping[str, Any]) -> Any:
        """As :meth:`ask`, while the loop that calls it goes on."""

    def find_doom(self, seq: int) -> int | None:
        """Why the task was asked to stop, or None."""


class AttemptChannel:
    """The :class:`~tqctl_runtime.core.current.Channel` of one attempt."""

    __slots__ = ("_children", "_folder", "_line", "_root", "_seq", "last_progress")

    def __init__(self, seq: int, line: Asking, root: str) -> None:
        self._seq = seq
        self._line = line
        self._root = root
        self._children = 0
        self._folder: Path | None = None
        self.last_progress: tuple[float, str] | None = None

    def submit(self, call: Mapping[str, Any]) -> str:
        """Submit a child task; the supervisor derives its id from this task and the ordinal of the call."""
        return str(self._line.ask(self._seq, self._numbered(call)))

    async def submit_async(self, call: Mapping[str, Any]) -> str:
        """As :meth:`submit`, while the loop of an async handler goes on."""
        return str(await self._line.ask_async(self._seq, self._numbered(call)))

    def _numbered(self, call: Mapping[str, Any]) -> dict[str, Any]:
        self._children += 1
        return {**call, "ordinal": self._children}

    def progress(self, percent: float, message: str) -> None:
        """Tell how far the task is."""
        self.last_progress = (percent, clean_text(message, _REASON_LIMIT))
        self._line.tell((frames.PROGRESS, self._seq, *self.last_progress))

    def is_cancelled(self) -> bool:
        """Whether the task was asked to stop."""
        return self._line.find_doom(self._seq) is not None

    def folder(self) -> Path:
        """A temporary folder of this attempt."""
        if self._folder is None:
            self._folder = Path(self._root, f"task-{self._seq}")
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder

    def close(self) -> None:
        """Remove what the attempt left behind."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def make_stop(reason: int) -> Interrupted:
    """The exception that stops a handler for *reason*."""
    if reason == frames.TIME_LIMIT:
        return TimeLimitReached("the attempt ran longer than its time limit")
    return CancelRequested("the task was asked to stop")


class Rejected(Exception):
    """The payload or the envelope cannot be run by this handler, now or ever."""


class Plan:
    """What is prepared once for each handler: its spec, and a quick look at payloads that plainly fit."""

    __slots__ = ("_required", "_types", "spec")

    def __init__(self, spec: HandlerSpec) -> None:
        self.spec = spec
        self._types = {p.name: _PLAIN[p.type] for p in spec.parameters if p.type in _PLAIN}
        self._required = frozenset(p.name for p in spec.parameters if p.is_required)

    def bind(self, payload: dict[str, Any]) -> dict[str, Any]:
        """The keyword arguments of *payload*; as ``HandlerSpec.bind``, which is asked whatever is not plain."""
        types = self._types
        for name, value in payload.items():
            if types.get(name) is not type(value):
                return self.spec.bind(payload)
        return payload if self._required <= payload.keys() else self.spec.bind(payload)


_plans: dict[str, Plan] = {}


def find_plan(handler: str) -> Plan | None:
    """The plan of *handler*, or None where this process has no such handler."""
    plan = _plans.get(handler)
    if plan is None:
        spec = registry.find(handler)
        if spec is None:
            return None
        plan = _plans[handler] = Plan(spec)
    return plan


def open_payload(row: Row, plan: Plan | None) -> dict[str, Any]:
    """The keyword arguments of *row*, checked by *plan*.

    Raises:
        Rejected: they do not fit.
    """
    envelope = row[4]
    if envelope[frames.LAYOUT] != ENVELOPE_LAYOUT:
        raise Rejected(f"the envelope has layout {envelope[frames.LAYOUT]}, this worker reads {ENVELOPE_LAYOUT}")
    if plan is None:
        raise Rejected(f"this worker has no handler {envelope[frames.HANDLER]!r}")
    try:
        text = envelope[frames.PAYLOAD]
        payload = {} if text == b"{}" else _decode(text.decode())
        if not isinstance(payload, dict):
            raise Rejected("the payload is not a JSON object")
        return plan.bind(payload)
    except PayloadError as error:
        raise Rejected(error.message) from None
    except (ValueError, RecursionError) as error:
        raise Rejected(f"the payload is not JSON: {error}") from None


def make_task(row: Row, channel: AttemptChannel, needs: Mapping[str, str]) -> CurrentTask:
    """The :class:`CurrentTask` of *row*; *needs* is what this executor was given."""
    _, task_id, attempt, queue, envelope = row
    return CurrentTask(
        task_id,
        envelope[frames.HANDLER],
        attempt,
        queue,
        envelope[frames.TAGS] or {},
        envelope[frames.TENANT],
        envelope[frames.CORRELATION],
        envelope[frames.PARENT],
        channel,
        needs,
    )


def succeed(value: object, log: tuple[bytes, int], progress: tuple[float, str] | None, limit: int) -> Ending:
    """The ending of a handler that returned *value*; a result that cannot be kept is a failure that is final."""
    if value is None and not log[0] and progress is None:
        return SUCCEEDED, frames.BY_BACKOFF, _NULL, ""
    try:
        result = dump_json(value, what="result", limit=limit)
    except PayloadError as error:
        # The work was done: to do it again would only repeat its effects and end the same way.
        info = ErrorInfo("PayloadError", clean_text(error.message, _MESSAGE_LIMIT))
        detail = Detail(None, info, log[0], log[1], progress)
        return FAILED, frames.NEVER, detail.to_bytes(), "the result cannot be kept"
    return SUCCEEDED, frames.BY_BACKOFF, pack([result, None, log[0], log[1], progress]), ""


def fail(
    error: BaseException,
    spec: HandlerSpec | None,
    log: tuple[bytes, int],
    progress: tuple[float, str] | None,
    doom: int | None,
) -> Ending:
    """The ending of a handler that raised *error*; *doom* tells why it had been asked to stop, if it had."""
    if doom == frames.TIME_LIMIT:
        code, retry, reason = TIMED_OUT, frames.BY_BACKOFF, "time limit"
    elif doom == frames.CANCELLED:
        code, retry, reason = CANCELLED, frames.NEVER, "cancelled"
    else:
        code, retry, reason = _judge(error, spec)
    info = describe_error(error, with_traceback=not isinstance(error, Retry | Cancel | Rejected))
    if doom is not None and info.type == "CancelledError":  # how an event loop says it; tell why
        stop = make_stop(doom)
        info = ErrorInfo(type(stop).__name__, str(stop), info.traceback)
    return code, retry, Detail(None, info, log[0], log[1], progress).to_bytes(), clean_text(reason, _REASON_LIMIT)


def _judge(error: BaseException, spec: HandlerSpec | None) -> tuple[int, int, str]:
    """(outcome code, retry, reason) of an exception."""
    if isinstance(error, Rejected):
        return REJECTED, frames.NEVER, "rejected"
    if isinstance(error, Cancel):
        return CANCELLED, frames.NEVER, safe_text(error) or "cancelled by its handler"
    if isinstance(error, Retry):
        after = frames.BY_BACKOFF if error.after is None else max(round(error.after * 1000), 0)
        return FAILED, after, safe_text(error)
    if spec is not None and isinstance(error, spec.never_retry_on):
        return FAILED, frames.NEVER, "not to be retried"
    # SystemExit and its like are no Exception, yet a retry is what their handler would get if it had crashed.
    wanted = spec is None or isinstance(error, spec.retry_on) or not isinstance(error, Exception)
    return FAILED, frames.BY_BACKOFF if wanted else frames.NEVER, "" if wanted else "not to be retried"


def describe_error(error: BaseException, *, with_traceback: bool = True) -> ErrorInfo:
    """Type, message and traceback of *error* as text, without the frames of the executor."""
    name = type(error).__qualname__
    message = clean_text(safe_text(error), _MESSAGE_LIMIT)
    if name == "CancelledError":  # asyncio's, which says nothing; it is not imported where nothing is async
        message = message or "the handler was cancelled from inside"
    if not with_traceback:
        return ErrorInfo("PayloadError" if isinstance(error, Rejected) else name, message)
    try:
        lines = traceback.format_exception(type(error), error, _user_frames(error.__traceback__))
        text: str | None = clean_text("".join(lines), _TRACEBACK_LIMIT)
    except Exception:  # noqa: BLE001  a user's exception may break while it is shown; type and message still tell
        text = None
    return ErrorInfo(name, message, text)


def _user_frames(trace: TracebackType | None) -> TracebackType | None:
    """*trace* without the frames of ours that called the handler, and without those that stopped it."""
    entries: list[TracebackType] = []
    while trace is not None:
        entries.append(trace)
        trace = trace.tb_next
    own = [entry.tb_frame.f_code.co_filename.startswith(_OWN_CODE) for entry in entries]
    if False not in own:
        return entries[0] if entries else None
    first = own.index(False)
    last = len(own) - own[::-1].index(False)
    rest: TracebackType | None = None
    for entry in reversed(entries[first:last]):
        rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return rest


def safe_text(error: BaseException) -> str:
    """``str(error)``, also when that itself fails; the hint of our own errors included."""
    try:
        text = str(error)
    except Exception as second:  # noqa: BLE001  any exception of a user may come out of its __str__
        return f"<its text cannot be shown: {type(second).__name__}>"
    if isinstance(error, TqctlError) and error.hint:
        return f"{text} ({error.hint})"
    return text


def take_answer(answer: tuple[list[str] | None, Any]) -> Any:
    """The value of *answer*, or its error as the exception that a client would have raised itself."""
    error, value = answer
    if error is None:
        return value
    code, message = error
    kinds: list[type[TqctlError]] = [TqctlError]
    for kind in kinds:
        if kind.code == code:
            break
        kinds.extend(kind.__subclasses__())
    else:
        kind = TqctlError
    failure = kind.__new__(kind)
    TqctlError.__init__(failure, message)
    raise failure
