"""Journal entries merged into what one transaction writes: each task, attempt and setting once, in its last shape.

Everything here runs once for each row of the journal, on the cores the workers need: plain lists, no classes per row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar

from msgpack import Unpacker, unpackb

from tqctl_runtime.core.attempt import clean_text
from tqctl_runtime.core.errors import PayloadError
from tqctl_runtime.core.ids import TAIL_LENGTH
from tqctl_runtime.core.states import FINAL, OUTCOMES_BY_CODE, STATES_BY_CODE, State
from tqctl_runtime.core.submission import ENVELOPE_LAYOUT
from tqctl_runtime.record.columns import ATTEMPT_HOT, TASK_HOT, TASK_ORDER, TASK_RESETS
from tqctl_runtime.record.fingerprint import error_fingerprint

Row = list[Any]
R = TypeVar("R")

_POSITION = {name: number for number, name in enumerate(TASK_ORDER)}
ID, VERSION, STATE, STARTED, FINISHED = (_POSITION[c] for c in ("id", "version", "state", "started_at", "finished_at"))
WORKER, RESULT, TENANT, TIMEOUT = (_POSITION[c] for c in ("worker", "result", "tenant", "timeout_ms"))
SCHEDULED, EXPIRES, FAILURES, DEATHS = (_POSITION[c] for c in ("scheduled_at", "expires_at", "failures", "deaths"))
REASON, CANCEL, PROGRESS, TAGS = (_POSITION[c] for c in ("reason", "cancel_requested_at", "progress", "tags"))
ERROR_TYPE, ERROR_MESSAGE = _POSITION["error_type"], _POSITION["error_message"]
ERROR_PRINT, TRACEBACK = _POSITION["error_fingerprint"], _POSITION["error_traceback"]
CORRELATION, PARENT = _POSITION["correlation_id"], _POSITION["parent"]
KEY, FINGERPRINT = _POSITION["idempotency_key"], _POSITION["fingerprint"]
_RESETS = tuple(_POSITION[name] for name in TASK_RESETS)
_HOT, _WIDTH = len(TASK_HOT), len(TASK_ORDER)
#: What stands in the columns beyond the hot ones of a task that has nothing to tell there.
_COLD: Row = [0 if name in ("failures", "deaths") else None for name in TASK_ORDER[_HOT:]]
_ATTEMPT_VERSION = ATTEMPT_HOT.index("version")

_STATES = {code: str(state) for code, state in STATES_BY_CODE.items()}
_OUTCOMES = {code: str(outcome) for code, outcome in OUTCOMES_BY_CODE.items()}
_FINAL = frozenset(map(str, FINAL))
_SUCCEEDED, _DEAD, _RUNNING = str(State.SUCCEEDED), str(State.DEAD), str(State.RUNNING)
_TAIL = -TAIL_LENGTH - 1


class JournalEntry(Protocol):
    """One entry of the journal. *rows* is its ``r`` field: msgpack arrays one after the other; *seq* 0: not ours."""

    @property
    def stream_id(self) -> str:
        """Its id in the stream."""

    @property
    def epoch(self) -> int:
        """The epoch it was written in."""

    @property
    def seq(self) -> int:
        """Its number in the epoch."""

    @property
    def rows(self) -> bytes:
        """Its rows, packed."""


class Place(NamedTuple):
    """Where a row stands in the journal: the key of its event."""

    epoch: int
    stream_id: str
    position: int


class Batch:
    """What a transaction writes. Lists are rows in the order of :mod:`columns`.

    *new* are whole tasks, cut to ``TASK_HOT`` where the rest is empty; *changed* are tasks known already, with None
    for what stays; *succeeded* are ``TASK_SUCCESS`` of known tasks with nothing else to tell. *attempts* may be cut to
    ``ATTEMPT_HOT``. *resets* are (id, version) of operator retries; *deaths* are (task, at, reason, error type,
    message, fingerprint); *closed* are (at, how, who, task); *windows* are by fingerprint; *finished* are final tasks
    and their v, which the broker may forget.
    """

    __slots__ = (
        "attempts",
        "changed",
        "closed",
        "count",
        "deaths",
        "events",
        "finished",
        "handlers",
        "new",
        "resets",
        "settings",
        "size",
        "succeeded",
        "tags",
        "windows",
        "workers",
    )

    def __init__(self) -> None:
        self.new: dict[str, Row] = {}
        self.changed: dict[str, Row] = {}
        self.succeeded: dict[str, tuple[Any, ...]] = {}
        self.resets: list[tuple[str, int]] = []
        self.attempts: dict[tuple[str, int], Row] = {}
        self.tags: list[Row] = []
        self.events: list[Row] = []
        self.deaths: list[Row] = []
        self.closed: list[Row] = []
        self.settings: dict[tuple[str, str], Row] = {}
        self.handlers: dict[str, Row] = {}
        self.windows: dict[str, Row] = {}
        self.workers: dict[str, Row] = {}
        self.finished: dict[str, int] = {}
        self.count = 0
        self.size = 0

    def task(self, task_id: str) -> Row:
        """The whole row to merge a change of *task_id* into."""
        task = self.new.get(task_id)
        if task is not None:
            if len(task) == _HOT:
                task.extend(_COLD)
            return task
        task = self.changed.get(task_id)
        if task is None:
            task = self.changed[task_id] = [None] * _WIDTH
            task[ID], task[VERSION] = task_id, 0
        return task

    def event(self, place: Place, kind: str, at: int, subject: str, *rest: Any) -> None:
        """Note a decision; *rest* is version, state, reason and who."""
        self.events.append([*place, at, kind, subject, *rest])


def by_id(rows: Mapping[Any, R]) -> list[R]:
    """The rows in the order of their keys: always the same order of locks, and neighbours in the index."""
    return [rows[key] for key in sorted(rows)]


def by_width(rows: Mapping[Any, Row], hot: int) -> tuple[list[Row], list[Row]]:
    """The rows by key: those of *hot* columns, and the others, which are filled up to whole ones by their makers."""
    ordered = by_id(rows)
    return [row for row in ordered if len(row) == hot], [row for row in ordered if len(row) != hot]


#: A nil behind each entry: an entry that was cut off swallows it.
_END = b"\xc0"


def merge(entries: Iterable[JournalEntry]) -> Batch:
    """The batch that *entries*, in journal order, come to.

    Raises:
        Exception: of any kind where an entry is not what the broker's scripts write.
    """
    batch = Batch()
    unpacker = _unpacker()
    end = 0
    for entry in entries:
        stream_id, epoch, data = entry.stream_id, entry.epoch, entry.rows
        if not entry.seq:
            raise PayloadError(f"journal entry {stream_id} was not written by the broker's scripts")
        shift = epoch << 32
        unpacker.feed(data)
        unpacker.feed(_END)
        batch.size += len(data)
        end += len(data) + len(_END)
        for position, row in enumerate(unpacker):
            if row is None:
                break
            batch.count += 1
            kind = row[0]
            if kind == b"F":
                _finished(batch, row, shift)
            elif kind == b"S":
                _submitted(batch, row, shift)
            else:
                _OTHERS[kind](batch, row, shift, Place(epoch, stream_id, position))
        else:
            raise PayloadError(f"journal entry {stream_id} is cut off")
        if unpacker.tell() != end:
            raise PayloadError(f"journal entry {stream_id} has more after its end")
    return batch


def _unpacker() -> Any:
    # A row may be larger than msgpack's own limit of 100 MiB: what fitted into Redis is read.
    return Unpacker(raw=True, strict_map_key=False, max_buffer_size=0)


def _text(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def _submitted(batch: Batch, row: Row, shift: int) -> None:
    _, at, raw_id, v, state, queue, priority, max_retries, due, expires, key, fingerprint, env = row
    layout, handler, _, timeout, _, tags, *who = envelope = unpackb(env, strict_map_key=False)
    if layout != ENVELOPE_LAYOUT:
        raise PayloadError(f"envelope layout {envelope[0]} is not {ENVELOPE_LAYOUT}: another version wrote it")
    task_id = raw_id.decode()
    # fmt: off
    batch.new[task_id] = task = [task_id, task_id[:_TAIL:-1], shift + v, _STATES[state], handler, queue.decode(),
                                 priority, at, max_retries, None, None, None, None, env]
    # fmt: on
    if due or expires or timeout or tags or key or fingerprint or who != _NOBODY:
        task.extend(_COLD)
        task[SCHEDULED], task[EXPIRES], task[TIMEOUT] = due or None, expires or None, timeout or None
        task[TENANT], task[CORRELATION], task[PARENT] = who[:3]
        task[KEY], task[FINGERPRINT] = _text(key) or None, fingerprint.decode() or None
        if tags:
            batch.tags.extend([name, value, at, task_id] for name, value in tags.items())
            task[TAGS] = json.dumps(tags)
        if len(who) > len(_NOBODY):
            window = fingerprint.decode()
            batch.windows[window] = [window, task_id, at + who[-1]]


#: Tenant, correlation id, parent and idempotency key of most envelopes; the length of a unique window may follow.
_NOBODY: Row = [None] * 4


def _finished(batch: Batch, row: Row, shift: int) -> None:
    _, at, raw_id, v, code, state_code, number, raw_worker, started, failures, deaths, due, raw_reason, detail = row
    task_id = raw_id.decode()
    version = shift + v
    state = _STATES[state_code]
    worker = raw_worker.decode()
    result = error = log = progress = None
    dropped = 0
    if detail:
        result, error, log, dropped, progress = unpackb(detail, strict_map_key=False)
    if error:
        error = [clean_text(error[0]), clean_text(error[1]), clean_text(error[2]) if error[2] is not None else None]
    key = (task_id, number)
    known = batch.attempts.get(key)
    if known is None or known[_ATTEMPT_VERSION] < version:
        batch.attempts[key] = attempt = [task_id, number, version, _OUTCOMES[code], worker, started or None, at]
        if error or log or raw_reason:
            attempt += (_text(raw_reason) or None, *(error or _NO_ERROR), dropped or None, log or None)
    if state in _FINAL:
        batch.finished[task_id] = v
    if state == _SUCCEEDED and not (progress or raw_reason or due):
        task = batch.new.get(task_id)
        if task is None and task_id not in batch.changed:
            batch.succeeded[task_id] = (version, started or None, at, worker, failures, deaths, result, task_id)
            return
        if task is not None and len(task) == _HOT and version > task[VERSION] and not (failures or deaths):
            task[VERSION], task[STATE] = version, state
            task[STARTED], task[FINISHED], task[WORKER], task[RESULT] = started or None, at, worker, result
            return
    task = batch.task(task_id)
    if version <= task[VERSION]:
        return
    task[VERSION], task[STATE], task[WORKER] = version, state, worker
    task[FAILURES], task[DEATHS], task[REASON] = failures, deaths, _text(raw_reason)
    if started:
        task[STARTED] = started
    if due:
        task[SCHEDULED] = due
    if progress:
        task[PROGRESS] = json.dumps(progress)
    _end(batch, task, at, result, error)


_NO_ERROR: Row = [None] * 3


def _end(batch: Batch, task: Row, at: int, result: bytes | None, error: Row | None) -> None:
    if error:
        task[ERROR_TYPE], task[ERROR_MESSAGE], task[TRACEBACK] = error[0], error[1], error[2] or ""
        task[ERROR_PRINT] = error_fingerprint(error[0], error[1])
    state = task[STATE]
    if state not in _FINAL:
        return
    task[FINISHED], task[RESULT] = at, result
    if state == _SUCCEEDED:
        # Earlier attempts keep their errors; the task itself has none.
        task[ERROR_TYPE] = task[ERROR_MESSAGE] = task[ERROR_PRINT] = task[TRACEBACK] = ""
    elif state == _DEAD:
        about = (error[0], error[1], task[ERROR_PRINT]) if error else _NO_ERROR
        batch.deaths.append([task[ID], at, task[REASON], *about])


def _started(batch: Batch, row: Row, shift: int, _place: Place) -> None:
    _, at, raw_id, v, number, raw_worker, started = row
    task_id, worker, version = raw_id.decode(), raw_worker.decode(), shift + v
    attempt: Row = [task_id, number, version, None, worker, started or at, None]
    batch.attempts.setdefault((task_id, number), attempt)
    task = batch.task(task_id)
    if version > task[VERSION]:
        task[VERSION], task[STATE], task[WORKER], task[STARTED] = version, _RUNNING, worker, started or at


def _moved(batch: Batch, row: Row, shift: int, place: Place) -> None:
    _, at, raw_id, v, code, due, reason, who = row
    task_id, version, state = raw_id.decode(), shift + v, _STATES[code]
    batch.event(place, "moved", at, task_id, version, state, _text(reason), _text(who))
    task = batch.task(task_id)
    if version <= task[VERSION]:
        return
    task[VERSION], task[STATE], task[REASON] = version, state, _text(reason)
    if due:
        task[SCHEDULED] = due
    if state in _FINAL:
        batch.finished[task_id] = v
        _end(batch, task, at, None, None)


def _retried(batch: Batch, row: Row, shift: int, place: Place) -> None:
    _, at, raw_id, v, code, due, reason, who = row
    task_id, version, state = raw_id.decode(), shift + v, _STATES[code]
    batch.event(place, "retried", at, task_id, version, state, _text(reason), _text(who))
    batch.closed.append([at, "requeued", _text(who), task_id])
    batch.finished.pop(task_id, None)
    task = batch.task(task_id)
    if version <= task[VERSION]:
        return
    batch.resets.append((task_id, version))
    for column in _RESETS:
        task[column] = None
    task[VERSION], task[STATE], task[FAILURES], task[DEATHS] = version, state, 0, 0
    if due:
        task[SCHEDULED] = due


def _cancel_requested(batch: Batch, row: Row, shift: int, place: Place) -> None:
    _, at, raw_id, v, reason, who = row
    task_id, version = raw_id.decode(), shift + v
    batch.event(place, "cancel requested", at, task_id, version, None, _text(reason), _text(who))
    task = batch.task(task_id)
    if version > task[VERSION]:
        task[VERSION], task[CANCEL], task[REASON] = version, at, _text(reason)


def _discarded(batch: Batch, row: Row, _shift: int, place: Place) -> None:
    _, at, raw_id, _, reason, who = row
    task_id = raw_id.decode()
    batch.event(place, "discarded", at, task_id, None, None, _text(reason), _text(who))
    batch.closed.append([at, "discarded", _text(who), task_id])


def _set(batch: Batch, row: Row, _shift: int, place: Place) -> None:
    _, at, raw_section, raw_key, raw_value = row
    section, key, value = _text(raw_section), _text(raw_key), _text(raw_value)
    if section == "handler":
        queue = json.loads(value).get("queue", "") if value else ""
        batch.handlers[key] = [key, queue, value, at]
        return
    batch.event(place, section, at, key, None, None, value, "")
    batch.settings[section, key] = [section, key, value, at]


def _worker(batch: Batch, row: Row, _shift: int, place: Place) -> None:
    _, at, raw_id, raw_state, raw_info = row
    worker, state, info = _text(raw_id), _text(raw_state), _text(raw_info)
    batch.event(place, "worker", at, worker, None, state, "", "")
    known = batch.workers.get(worker)
    told = json.loads(info) if info else {}
    if not told and known is not None:
        known[1], known[5] = state, at
        return
    started = told.get("started_at")
    started = int(started) if isinstance(started, int | float) else None
    batch.workers[worker] = [worker, state, told.get("name"), told.get("host"), started, at, info if told else None]


_OTHERS: dict[bytes, Callable[[Batch, Row, int, Place], None]] = {
    b"R": _started,
    b"T": _moved,
    b"O": _retried,
    b"C": _cancel_requested,
    b"L": _discarded,
    b"K": _set,
    b"W": _worker,
}


def final_tasks(entries: Iterable[JournalEntry]) -> dict[str, int]:
    """The tasks that *entries*, recorded already, left final, with their v: what a restarted recorder forgets again."""
    found: dict[str, int] = {}
    for entry in entries:
        # What nobody of ours wrote is in quarantine, and nothing of it is recorded.
        for row in _readable_rows(entry.rows) if entry.seq else ():
            told = _told_state(row)
            if told is None:
                continue
            task_id, v, state = told
            if state in _FINAL:
                found[task_id] = v
            else:
                found.pop(task_id, None)
    return found


#: Where the state stands in rows that may end a task, or begin it anew.
_STATE_AT = {b"F": 5, b"T": 4, b"O": 4}


def _told_state(row: Row) -> tuple[str, int, str] | None:
    """Task, v and state that *row* tells; None where it tells none, or where nobody understands it."""
    try:
        return row[2].decode(), int(row[3]), _STATES[row[_STATE_AT[row[0]]]]
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def count_rows(entry: JournalEntry) -> int:
    """How many rows of *entry* can be read: what a quarantined one adds to the watermark."""
    return sum(1 for _ in _readable_rows(entry.rows))


def _readable_rows(data: bytes) -> Iterator[Row]:
    unpacker = _unpacker()
    unpacker.feed(data)
    while True:
        try:
            row = unpacker.unpack()
        except Exception:  # noqa: BLE001  msgpack has many for bytes that are not its own
            return
        if isinstance(row, list) and row:
            yield row
