"""Calls of clients and operators: submit, watch, look, cancel, retry, queues, dead letters, overview."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqctl_runtime.broker.call import Call, pairs, script_call, text
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.core.builtins import builtin_row, builtin_rows
from tqctl_runtime.core.serializer import pack_for_lua
from tqctl_runtime.core.states import STATES_BY_CODE, State
from tqctl_runtime.core.submission import Submission

#: Tasks in one submit at most; also the most ids in any bulk call.
CHUNK = 1_000
#: A recorder that gave no sign for this long counts as not running, ms.
RECORDER_SILENT_MS = 5_000


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the journal: recorded once the watermark of the same epoch has passed it."""

    epoch: int
    seq: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of one submission. *id* is the earlier task's where *is_duplicate* or *is_conflict*."""

    id: str
    state: State | None
    is_known: bool = False
    is_duplicate: bool = False
    is_conflict: bool = False


@dataclass(frozen=True, slots=True)
class SubmitReply:
    """The answer to one submit call."""

    position: Position
    is_recorder_alive: bool
    accepted: list[Accepted]


def submit(keys: Keys, submissions: Sequence[Submission], *, now: int = 0) -> Call[SubmitReply]:
    """Submit at most :data:`CHUNK` tasks. Safe to repeat: an id that is known is not queued again."""
    args: list[bytes] = []
    for item in submissions:
        args.append(item.head())
        args.append(item.envelope())
    return script_call(keys, "submit", _read_submit, *args, now=now, timeout=15.0)


def _read_submit(reply: list[Any]) -> SubmitReply:
    accepted = []
    for index in range(4, len(reply), 2):
        code, task_id = reply[index], text(reply[index + 1])
        accepted.append(Accepted(task_id, STATES_BY_CODE.get(code), code == -1, code == -2, code == -3))
    alive = reply[3] - int(reply[2]) < RECORDER_SILENT_MS
    return SubmitReply(Position(int(reply[0]), int(reply[1])), alive, accepted)


@dataclass(frozen=True, slots=True)
class Watermark:
    """What the recorder has committed; *at* is the server's time of its last sign in ms, 0 where there was none."""

    position: Position
    rows: int
    bytes: int
    at: int

    def covers(self, position: Position) -> bool:
        """Whether what stands at *position* is recorded."""
        return self.position.epoch == position.epoch and self.position.seq >= position.seq


def watermark(keys: Keys) -> Call[Watermark]:
    """Read what is committed."""
    args = ["HMGET", keys.build("wm"), "epoch", "seq", "rows", "bytes", "at"]
    return Call("watermark", args, lambda r: Watermark(Position(*map(_int, r[:2])), *map(_int, r[2:])))


def journal_position(keys: Keys) -> Call[Position | None]:
    """Read the end of the journal; None where the namespace is not open."""
    args = ["HMGET", keys.meta, "epoch", "seq"]
    return Call("journal_position", args, lambda r: Position(int(r[0]), _int(r[1])) if r[0] else None)


def _int(value: bytes | None) -> int:
    return int(value) if value else 0


def catalogue_row(keys: Keys, handler: str) -> Call[dict[str, Any] | None]:
    """Read the catalogue row of *handler*; None where no worker ever said it can run it and it is not built in."""
    args = ["HGET", keys.build("catalogue"), handler]
    return Call("catalogue_row", args, lambda r: json.loads(r) if r else builtin_row(handler))


def catalogue(keys: Keys) -> Call[dict[str, dict[str, Any]]]:
    """Read all catalogue rows by handler name, the built-in ones included."""

    def read(reply: list[bytes]) -> dict[str, dict[str, Any]]:
        rows = builtin_rows() | {name: json.loads(row) for name, row in pairs(reply).items()}
        return dict(sorted(rows.items()))

    return Call("catalogue", ["HGETALL", keys.build("catalogue")], read)


@dataclass(frozen=True, slots=True)
class Watched:
    """A waited task. *state* is None where it is not live: recorded (*is_forgotten*) or unknown here.

    *detail* is the finish detail of a final task, empty where only the record has it.
    """

    id: str
    state: State | None
    v: int
    is_forgotten: bool
    detail: bytes


def watch(keys: Keys, ids: Sequence[str], *, now: int = 0) -> Call[list[Watched]]:
    """Mark *ids* as waited for and tell how they stand. Listen on ``keys.done_channel`` before calling this."""

    def read(reply: list[Any]) -> list[Watched]:
        found = []
        for number, task_id in enumerate(ids):
            state, v, detail = reply[1 + 3 * number : 4 + 3 * number]
            found.append(Watched(task_id, STATES_BY_CODE.get(state), v, state == 0 and v == 1, detail))
        return found

    return script_call(keys, "watch", read, *ids, now=now)


@dataclass(frozen=True, slots=True)
class LiveTask:
    """A task as Redis knows it; instants are ms, 0 for none. *rank* is how many stand before it, -1 not in line."""

    id: str
    state: State
    version: int
    queue: str
    priority: int
    max_retries: int
    failures: int
    deaths: int
    attempts: int
    created_at: int
    expires_at: int
    due_at: int
    started_at: int
    worker: str | None
    is_held: bool
    is_suspect: bool
    is_cancel_requested: bool
    idempotency_key: str
    envelope: bytes
    progress: dict[str, Any] | None
    detail: bytes
    cancel_reason: str
    rank: int


def look(keys: Keys, ids: Sequence[str], *, now: int = 0) -> Call[list[LiveTask | None]]:
    """Read live tasks; None for each that Redis does not hold."""

    def read(reply: list[Any]) -> list[LiveTask | None]:
        epoch = int(reply[1])
        return [_live(task_id, epoch, reply[2 + 6 * n : 8 + 6 * n]) for n, task_id in enumerate(ids)]

    return script_call(keys, "look", read, *ids, now=now)


#: The fixed part of a line in ``st``; queue, token and idempotency key follow, each ended by NUL (see line.lua).
_LINE = struct.Struct(">BBIBHHHIQQQQQBBBQ")


def _live(task_id: str, epoch: int, values: list[Any]) -> LiveTask | None:
    raw, envelope, progress, detail, reason, rank = values
    if not raw:
        return None
    line = _LINE.unpack_from(raw)
    queue, token, key = raw[_LINE.size :].split(b"\x00")[:3]
    return LiveTask(
        id=task_id,
        state=STATES_BY_CODE[line[1]],
        version=epoch << 32 | line[2],
        queue=queue.decode(),
        priority=line[3],
        max_retries=line[4],
        failures=line[5],
        deaths=line[6],
        attempts=line[7],
        created_at=line[8],
        expires_at=line[10],
        due_at=line[11],
        started_at=line[12],
        worker=text(token).split("-", 2)[2].rpartition("-")[0] if line[13] else None,
        is_held=bool(line[13]),
        is_suspect=bool(line[14]),
        is_cancel_requested=bool(line[15]),
        idempotency_key=key.decode(),
        envelope=envelope,
        progress=json.loads(progress) if progress else None,
        detail=detail,
        cancel_reason=text(reason),
        rank=rank,
    )


@dataclass(frozen=True, slots=True)
class BulkReply:
    """The answer to a bulk change: where it stands in the journal, and a code for each id."""

    position: int
    codes: list[int]


CANCELLED, REQUESTED, FINAL, ABSENT, DONE = 1, 2, 3, 0, 1


def _read_bulk(reply: list[Any]) -> BulkReply:
    return BulkReply(reply[1], list(reply[2:]))


def cancel(keys: Keys, ids: Sequence[str], *, reason: str, who: str, now: int = 0) -> Call[BulkReply]:
    """Cancel tasks. Codes: CANCELLED, REQUESTED (somebody runs it), FINAL (too late), ABSENT (not live)."""
    return script_call(keys, "cancel", _read_bulk, reason, who, *ids, now=now)


@dataclass(frozen=True, slots=True)
class Recorded:
    """What SQL knows of a forgotten task that is to run again."""

    envelope: bytes
    version: int
    attempts: int
    queue: str
    priority: int
    max_retries: int
    idempotency_key: str
    fingerprint: str

    def known(self) -> bytes:
        """The form ``retry.lua`` reads."""
        return pack_for_lua(
            [
                self.version >> 32,
                self.version & 0xFFFFFFFF,
                self.attempts,
                self.queue,
                self.priority,
                self.max_retries,
                self.idempotency_key,
                self.fingerprint,
            ]
        )


def retry(
    keys: Keys, tasks: Iterable[tuple[str, Recorded | None]], *, reason: str, who: str, now: int = 0
) -> Call[BulkReply]:
    """Run tasks again (or now). Codes: DONE, FINAL (its state does not permit it), ABSENT (give a ``Recorded``)."""
    args: list[str | bytes] = [reason, who]
    for task_id, recorded in tasks:
        args += [task_id, recorded.envelope, recorded.known()] if recorded else [task_id, b"", b""]
    return script_call(keys, "retry", _read_bulk, *args, now=now)


def pause(keys: Keys, queue: str, *, for_ms: int = 0, reason: str = "", who: str = "", now: int = 0) -> Call[int]:
    """Pause *queue* for *for_ms* (0: until resumed); returns until when in ms."""
    return script_call(keys, "pause", lambda r: int(r[2]), queue, for_ms, reason, who, now=now)


def resume(keys: Keys, queue: str, *, who: str = "", now: int = 0) -> Call[None]:
    """Resume *queue*."""
    return script_call(keys, "pause", lambda _: None, queue, "", "", who, now=now)


def purge(keys: Keys, queue: str, *, reason: str, who: str, now: int = 0) -> Call[tuple[int, int]]:
    """Cancel one chunk of the queued tasks: (cancelled, left). Repeat until none is left or none was cancelled."""
    return script_call(keys, "purge", lambda r: (r[2], r[3]), queue, reason, who, CHUNK, now=now)


def discard(keys: Keys, ids: Sequence[str], *, reason: str, who: str, now: int = 0) -> Call[int]:
    """Tell the record that dead letters are discarded; returns the journal's sequence."""
    return script_call(keys, "discard", lambda r: int(r[1]), reason, who, *ids, now=now)


def log_entries(
    keys: Keys, task_id: str, after: str = "0-0", *, count: int = 100
) -> Call[list[tuple[str, int, bytes]]]:
    """Live log chunks of *task_id* after stream id *after*: (stream id, attempt, bytes)."""

    def read(reply: list[Any] | None) -> list[tuple[str, int, bytes]]:
        chunks = []
        for stream_id, fields in reply or []:
            values = pairs(fields)
            chunks.append((text(stream_id), int(values["a"]), values["d"]))
        return chunks

    return Call("log_entries", ["XRANGE", keys.build("log", task_id), f"({after}", "+", "COUNT", count], read)


@dataclass(frozen=True, slots=True)
class LiveQueue:
    """A queue as Redis knows it. *head* is the id of the next task; *pause* None where it is not paused."""

    name: str
    ready: int
    suspects: int
    head: str | None
    pause: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A registered worker: what it said at its start, at its last heartbeat, and its lease's end in ms."""

    id: str
    info: dict[str, Any]
    figures: dict[str, Any]
    lease_until: int
    held: int


@dataclass(frozen=True, slots=True)
class Leader:
    """Who leads a role, in which term and until when (ms)."""

    role: str
    holder: str
    term: int
    until: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The live figures of a namespace; instants are ms by the server's clock."""

    now: int
    meta: dict[str, str]
    watermark: Watermark
    counters: dict[str, int]
    scheduled: int
    first_due: int
    queues: list[LiveQueue] = field(default_factory=list)
    workers: list[LiveWorker] = field(default_factory=list)
    coordinators: dict[str, dict[str, Any]] = field(default_factory=dict)
    leaders: dict[str, Leader] = field(default_factory=dict)
    handlers: int = 0
    journal_entries: int = 0

    @property
    def is_recorder_alive(self) -> bool:
        """Whether the recorder gave a sign lately."""
        return self.now - self.watermark.at < RECORDER_SILENT_MS

    @property
    def lag_rows(self) -> int:
        """Journal rows not yet recorded."""
        return int(self.meta.get("rows", "0")) - self.watermark.rows


def overview(keys: Keys, *, now: int = 0) -> Call[Overview]:
    """Read the live figures of the namespace."""
    return script_call(keys, "overview", _read_overview, now=now)


def _read_overview(reply: list[Any]) -> Overview:
    mark = {name: int(value) if value.isdigit() else 0 for name, value in pairs(reply[2]).items()}
    queues, workers, leaders = reply[6], reply[7], reply[9]
    return Overview(
        now=reply[0],
        meta={name: text(value) for name, value in pairs(reply[1]).items()},
        watermark=Watermark(
            Position(mark.get("epoch", 0), mark.get("seq", 0)),
            mark.get("rows", 0),
            mark.get("bytes", 0),
            mark.get("at", 0),
        ),
        counters={name: int(value) for name, value in pairs(reply[3]).items()},
        scheduled=reply[4],
        first_due=int(float(reply[5] or 0)),
        queues=sorted((_queue(queues[at : at + 5]) for at in range(0, len(queues), 5)), key=lambda q: q.name),
        workers=[_worker(workers[at : at + 5]) for at in range(0, len(workers), 5)],
        coordinators={
            name: json.loads(text(value).partition(" ")[2]) for name, value in sorted(pairs(reply[8]).items())
        },
        leaders={
            text(leaders[at]): Leader(text(leaders[at]), text(leaders[at + 1]), leaders[at + 2], leaders[at + 3])
            for at in range(0, len(leaders), 4)
        },
        handlers=reply[10],
        journal_entries=reply[11],
    )


def _queue(row: list[Any]) -> LiveQueue:
    name, ready, suspects, head, why = row
    return LiveQueue(text(name), ready, suspects, text(head) or None, json.loads(why) if why else None)


def _worker(row: list[Any]) -> LiveWorker:
    worker_id, info, figures, until, held = row
    return LiveWorker(
        text(worker_id),
        json.loads(info) if info else {},
        json.loads(figures) if figures else {},
        int(float(until)),
        held,
    )
