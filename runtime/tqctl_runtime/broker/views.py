"""Reads for display: live tasks and their logs, and the live figures of a namespace."""

import json
import struct
from collections.abc import Sequence
from typing import Any, NamedTuple

from tqctl_runtime.broker.call import Call, pairs, script_call, text
from tqctl_runtime.broker.calls import RECORDER_SILENT_MS, Position, Watermark
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.core.states import STATES_BY_CODE, State


class LiveTask(NamedTuple):
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
    return read_line(task_id, epoch, raw)._replace(
        envelope=envelope,
        progress=json.loads(progress) if progress else None,
        detail=detail,
        cancel_reason=text(reason),
        rank=rank,
    )


def read_line(task_id: str, epoch: int, raw: bytes) -> LiveTask:
    """The task in *raw*, its line in ``st``; envelope, progress, detail, reason and rank stand elsewhere."""
    line = _LINE.unpack_from(raw)
    queue, token, key = raw[_LINE.size :].split(b"\x00")[:3]
    return LiveTask(
        id=task_id,
        state=STATES_BY_CODE[line[1]],
        version=epoch << 32 | line[2],
        queue=text(queue),
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
        idempotency_key=text(key),
        envelope=b"",
        progress=None,
        detail=b"",
        cancel_reason="",
        rank=-1,
    )


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


#: A claim loop is back from any lost reply or half-open connection sooner, in milliseconds.
_DEAF_AFTER_MS = 15_000
#: Between two signs of life of a coordinator, in milliseconds.
COORDINATOR_BEAT_MS = 5_000


class LiveQueue(NamedTuple):
    """A queue as Redis knows it. *head* is the id of the next task; *pause* None where it is not paused."""

    name: str
    ready: int
    suspects: int
    head: str | None
    pause: dict[str, Any] | None


class LiveWorker(NamedTuple):
    """A registered worker: what it said at its start, at its last heartbeat, and its lease's end in ms."""

    id: str
    info: dict[str, Any]
    figures: dict[str, Any]
    lease_until: int
    held: int

    @property
    def seen_at(self) -> int | None:
        """When it renewed its lease last, ms by the server's clock; None where it did not tell the lease's length."""
        lease = self.info.get("lease_ms")
        return None if lease is None else self.lease_until - int(lease)

    def state(self, now: int) -> str:
        """``late``: its lease has ended; ``silent``: it missed a beat, of which a lease has three; ``deaf``; else what
        it said last.
        """
        if self.lease_until <= now:
            return "late"
        if self.seen_at is not None and now - self.seen_at > int(self.info["lease_ms"]) * 2 // 3:
            return "silent"
        return "deaf" if self.is_deaf else str(self.figures.get("state") or "running")

    @property
    def is_deaf(self) -> bool:
        """Whether it renews its lease and claims nothing, though it has places: it said so with its last heartbeat."""
        return int(self.figures.get("claim_silence_ms", 0)) > _DEAF_AFTER_MS


class Leader(NamedTuple):
    """Who leads a role, in which term and until when (ms)."""

    role: str
    holder: str
    term: int
    until: int


class Overview(NamedTuple):
    """The live figures of a namespace; instants are ms by the server's clock.

    *recorded_to* is the stream id of the last journal entry that is recorded, *moved_at* when that was told first, 0
    where it is not known; *coordinators* is what each said last, with ``seen_at``, the instant.
    """

    now: int
    meta: dict[str, str]
    watermark: Watermark
    recorded_to: str
    moved_at: int
    counters: dict[str, int]
    scheduled: int
    first_due: int
    queues: list[LiveQueue]
    workers: list[LiveWorker]
    coordinators: dict[str, dict[str, Any]]
    leaders: dict[str, Leader]
    handlers: int
    journal_entries: int

    @property
    def is_recorder_alive(self) -> bool:
        """Whether the recorder gave a sign lately."""
        return self.now - self.watermark.at < RECORDER_SILENT_MS

    def is_silent(self, coordinator: str) -> bool:
        """Whether *coordinator* gave no sign for three beats: it ended without a word, hangs, or is cut off."""
        return self.now - int(self.coordinators[coordinator]["seen_at"]) > 3 * COORDINATOR_BEAT_MS

    def coordinator_state(self, coordinator: str) -> str:
        """``live``, or ``silent`` after three beats without a sign."""
        return "silent" if self.is_silent(coordinator) else "live"

    @property
    def lag_rows(self) -> int:
        """Journal rows not yet recorded."""
        return int(self.meta.get("rows", "0")) - self.watermark.rows

    @property
    def lag_bytes(self) -> int:
        """Bytes of those rows."""
        return int(self.meta.get("bytes", "0")) - self.watermark.bytes


def overview(keys: Keys, *, now: int = 0) -> Call[Overview]:
    """Read the live figures of the namespace."""
    return script_call(keys, "overview", _read_overview, now=now)


def _read_overview(reply: list[Any]) -> Overview:
    told = pairs(reply[2])
    mark = {name: int(value) if value.isdigit() else 0 for name, value in told.items()}
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
        recorded_to=text(told.get("sid", b"")) or "0-0",
        moved_at=mark.get("moved", 0),
        counters={name: int(value) for name, value in pairs(reply[3]).items()},
        scheduled=reply[4],
        first_due=int(float(reply[5] or 0)),
        queues=sorted((_queue(queues[at : at + 5]) for at in range(0, len(queues), 5)), key=lambda q: q.name),
        workers=[_worker(workers[at : at + 5]) for at in range(0, len(workers), 5)],
        coordinators={name: _coordinator(text(value)) for name, value in sorted(pairs(reply[8]).items())},
        leaders={
            text(leaders[at]): Leader(text(leaders[at]), text(leaders[at + 1]), leaders[at + 2], leaders[at + 3])
            for at in range(0, len(leaders), 4)
        },
        handlers=reply[10],
        journal_entries=reply[11],
    )


def _coordinator(row: str) -> dict[str, Any]:
    seen, _, info = row.partition(" ")
    return {**json.loads(info), "seen_at": int(seen)}


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
