"""Journal entries merged into what one transaction writes: each task, attempt and setting once, in its last shape.

Everything here runs once for each row of the journal, on the cores the workers need: plain lists, no classes per row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol

from msgpack import OutOfData, Unpacker, unpackb

from tqctl_runtime.core.attempt import clean_text
from tqctl_runtime.core.errors import PayloadError
from tqctl_runtime.core.ids import TAIL_LENGTH
from tqctl_runtime.core.states import FINAL, OUTCOMES_BY_CODE, STATES_BY_CODE, State
from tqctl_runtime.core.submission import ENVELOPE_LAYOUT
from tqctl_runtime.record.columns import ATTEMPTS, TASK_RESETS, TASKS
from tqctl_runtime.record.fingerprint import error_fingerprint

Row = list[Any]

_POSITION = {name: number for number, name in enumerate(TASKS)}
ID, VERSION, STATE, SCHEDULED = (_POSITION[name] for name in ("id", "version", "state", "scheduled_at"))
STARTED, FINISHED, WORKER = (_POSITION[name] for name in ("started_at", "finished_at", "worker"))
FAILURES, DEATHS, REASON = (_POSITION[name] for name in ("failures", "deaths", "reason"))
CANCEL, PROGRESS, RESULT = (_POSITION[name] for name in ("cancel_requested_at", "progress", "result"))
ERROR_TYPE, ERROR_MESSAGE = _POSITION["error_type"], _POSITION["error_message"]
FINGERPRINT, TRACEBACK = _POSITION["error_fingerprint"], _POSITION["error_traceback"]
_RESETS = tuple(_POSITION[name] for name in TASK_RESETS)
_WIDTH = len(TASKS)
_ATTEMPT_VERSION = list(ATTEMPTS).index("version")

_STATES = {code: str(state) for code, state in STATES_BY_CODE.items()}
_OUTCOMES = {code: str(outcome) for code, outcome in OUTCOMES_BY_CODE.items()}
_FINAL = frozenset(map(str, FINAL))
_SUCCEEDED, _DEAD, _RUNNING = str(State.SUCCEEDED), str(State.DEAD), str(State.RUNNING)
_TAIL = -TAIL_LENGTH - 1


class JournalEntry(Protocol):
    """One entry of the journal. *rows* is its ``r`` field: msgpack arrays one after the other; *seq* 0: not ours."""

    @property
    def stream_id(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def rows(self) -> bytes: ...


class Place(NamedTuple):
    """Where a row stands in the journal: the key of its event."""

    epoch: int
    stream_id: str
    position: int


class Batch:
    """What a transaction writes. Lists are rows in the order of :mod:`columns`.

    *new* are whole tasks, *changed* tasks known already with None for what stays; *resets* are (id, version) of
    operator retries; *deaths* are (task, at, reason, error type, message, fingerprint); *closed* are (at, how, who,
    task); *finished* are final tasks and their v, which the broker may forget.
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
        "tags",
        "workers",
    )

    def __init__(self) -> None:
        self.new: dict[str, Row] = {}
        self.changed: dict[str, Row] = {}
        self.resets: list[tuple[str, int]] = []
        self.attempts: dict[tuple[str, int], Row] = {}
        self.tags: list[Row] = []
        self.events: list[Row] = []
        self.deaths: list[Row] = []
        self.closed: list[Row] = []
        self.settings: dict[tuple[str, str], Row] = {}
        self.handlers: dict[str, Row] = {}
        self.workers: dict[str, Row] = {}
        self.finished: dict[str, int] = {}
        self.count = 0
        self.size = 0

    def task(self, task_id: str) -> Row:
        """The row to merge a change of *task_id* into."""
        task = self.new.get(task_id) or self.changed.get(task_id)
        if task is None:
            task = self.changed[task_id] = [None] * _WIDTH
            task[ID], task[VERSION] = task_id, 0
        return task

    def event(self, place: Place, kind: str, at: int, subject: str, *rest: Any) -> None:
        """Note a decision; *rest* is version, state, reason and who."""
        self.events.append([*place, at, kind, subject, *rest])


def merge(entries: Iterable[JournalEntry]) -> Batch:
    """The batch that *entries*, in journal order, come to.

    Raises:
        Exception: of any kind where an entry is not what the broker's scripts write.
    """
    batch = Batch()
    unpacker = Unpacker(raw=True, strict_map_key=False)
    for entry in entries:
        stream_id, epoch, data = entry.stream_id, entry.epoch, entry.rows
        if not entry.seq:
            raise PayloadError(f"journal entry {stream_id} was not written by the broker's scripts")
        shift = epoch << 32
        unpacker.feed(data)
        batch.size += len(data)
        for position, row in enumerate(unpacker):
            batch.count += 1
            kind = row[0]
            if kind == b"F":
                _finished(batch, row, shift)
            elif kind == b"S":
                _submitted(batch, row, shift)
            else:
                _OTHERS[kind](batch, row, shift, Place(epoch, stream_id, position))
        if unpacker.tell() != batch.size:
            raise PayloadError(f"journal entry {stream_id} is cut off")
    return batch


def _text(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def _submitted(batch: Batch, row: Row, shift: int) -> None:
    _, at, raw_id, v, state, queue, priority, max_retries, due, expires, idempotency, fingerprint, env = row
    envelope = unpackb(env, strict_map_key=False)
    if envelope[0] != ENVELOPE_LAYOUT:
        raise PayloadError(f"envelope layout {envelope[0]} is not {ENVELOPE_LAYOUT}: another version wrote it")
    task_id = raw_id.decode()
    tags = envelope[5]
    text = None
    if tags:
        batch.tags.extend([key, value, at, task_id] for key, value in tags.items())
        text = json.dumps(tags)
    batch.new[task_id] = [
        task_id,
        task_id[:_TAIL:-1],
        shift + v,
        _STATES[state],
        envelope[1],
        queue.decode(),
        priority,
        envelope[6],
        at,
        due or None,
        expires or None,
        None,
        None,
        None,
        0,
        0,
        max_retries,
        envelope[3] or None,
        None,
        None,
        None,
        None,
        None,
        None,
        text,
        envelope[7],
        envelope[8],
        _text(idempotency) or None,
        fingerprint.decode() or None,
        None,
        None,
        env,
    ]


def _finished(batch: Batch, row: Row, shift: int) -> None:
    _, at, raw_id, v, code, state_code, number, raw_worker, started, failures, deaths, due, raw_reason, detail = row
    task_id = raw_id.decode()
    version = shift + v
    state = _STATES[state_code]
    worker = raw_worker.decode()
    reason = _text(raw_reason) if raw_reason else ""
    result = error = progress = dropped = log = None
    if detail:
        result, error, log, dropped, progress = unpackb(detail, strict_map_key=False)
    kind = message = traceback = None
    if error:
        kind, message = clean_text(error[0]), clean_text(error[1])
        traceback = clean_text(error[2]) if error[2] is not None else None
    key = (task_id, number)
    known = batch.attempts.get(key)
    if known is None or known[_ATTEMPT_VERSION] < version:
        # fmt: off
        batch.attempts[key] = [task_id, number, version, _OUTCOMES[code], worker, started or None, at,
                               reason or None, kind, message, traceback, dropped or None, log or None]
        # fmt: on
    task = batch.task(task_id)
    if version <= task[VERSION]:
        return
    task[VERSION], task[STATE], task[WORKER] = version, state, worker
    task[FAILURES], task[DEATHS], task[REASON] = failures, deaths, reason
    if started:
        task[STARTED] = started
    if due:
        task[SCHEDULED] = due
    if progress:
        task[PROGRESS] = json.dumps(progress)
    if error:
        task[ERROR_TYPE], task[ERROR_MESSAGE], task[TRACEBACK] = kind, message, traceback or ""
        task[FINGERPRINT] = error_fingerprint(kind or "", message or "")
    if state in _FINAL:
        task[FINISHED], task[RESULT] = at, result
        batch.finished[task_id] = v
        if state == _SUCCEEDED:
            # Earlier attempts keep their errors; the task itself has none.
            task[ERROR_TYPE] = task[ERROR_MESSAGE] = task[FINGERPRINT] = task[TRACEBACK] = ""
        elif state == _DEAD:
            batch.deaths.append([task_id, at, reason, kind, message, task[FINGERPRINT]])


def _started(batch: Batch, row: Row, shift: int, place: Place) -> None:
    _, at, raw_id, v, number, raw_worker, started = row
    task_id, worker, version = raw_id.decode(), raw_worker.decode(), shift + v
    attempt: Row = [None] * len(ATTEMPTS)
    attempt[:3] = task_id, number, version
    attempt[4:6] = worker, started or at
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
        task[FINISHED] = at
        batch.finished[task_id] = v
        if state == _DEAD:
            batch.deaths.append([task_id, at, _text(reason), None, None, None])


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


def _discarded(batch: Batch, row: Row, shift: int, place: Place) -> None:
    _, at, raw_id, _, reason, who = row
    task_id = raw_id.decode()
    batch.event(place, "discarded", at, task_id, None, None, _text(reason), _text(who))
    batch.closed.append([at, "discarded", _text(who), task_id])


def _set(batch: Batch, row: Row, shift: int, place: Place) -> None:
    _, at, raw_section, raw_key, raw_value = row
    section, key, value = _text(raw_section), _text(raw_key), _text(raw_value)
    if section == "handler":
        queue = json.loads(value).get("queue", "") if value else ""
        batch.handlers[key] = [key, queue, value, at]
        return
    batch.event(place, section, at, key, None, None, value, "")
    batch.settings[section, key] = [section, key, value, at]


def _worker(batch: Batch, row: Row, shift: int, place: Place) -> None:
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
        for row in _readable_rows(entry.rows):
            kind = row[0]
            code = row[5] if kind == b"F" else row[4] if kind in (b"T", b"O") else None
            if code is None:
                continue
            if _STATES[code] in _FINAL:
                found[row[2].decode()] = row[3]
            else:
                found.pop(row[2].decode(), None)
    return found


def count_rows(entry: JournalEntry) -> int:
    """How many rows of *entry* can be read: what a quarantined one adds to the watermark."""
    return sum(1 for _ in _readable_rows(entry.rows))


def _readable_rows(data: bytes) -> Iterator[Row]:
    unpacker = Unpacker(raw=True, strict_map_key=False)
    unpacker.feed(data)
    while True:
        try:
            row = unpacker.unpack()
        except (OutOfData, ValueError):
            return
        if isinstance(row, list) and row:
            yield row
