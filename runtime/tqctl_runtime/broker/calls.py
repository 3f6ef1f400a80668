"""Calls of clients and operators: submit, watch, cancel, retry, queues, dead letters. Reads for display: views.py.

Replies are named tuples: a data class takes a shell command six times as long to define and a bulk submit twice as
long to fill.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from tqctl_runtime.broker.call import Call, pairs, script_call, text
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.core.builtins import builtin_row, builtin_rows
from tqctl_runtime.core.serializer import pack_for_lua
from tqctl_runtime.core.states import STATES_BY_CODE, State

#: Tasks in one submit at most; also the most ids in any bulk call.
CHUNK = 1_000
#: A recorder that gave no sign for this long counts as not running, ms.
RECORDER_SILENT_MS = 5_000


class Wish(Protocol):
    """What the broker is given for one task."""

    @property
    def id(self) -> str:
        """The task's id."""

    def head(self) -> bytes:
        """What the broker decides with."""

    def envelope(self) -> bytes:
        """What the worker runs."""


class Position(NamedTuple):
    """A place in the journal: recorded once the watermark of the same epoch has passed it."""

    epoch: int
    seq: int


class Accepted(NamedTuple):
    """What became of one submission. *id* is the earlier task's where *is_duplicate* or *is_conflict*."""

    id: str
    state: State | None
    is_known: bool = False
    is_duplicate: bool = False
    is_conflict: bool = False


class SubmitReply(NamedTuple):
    """The answer to one submit call: what it wrote stands behind entry *before* and up to *position*."""

    position: Position
    before: int
    is_recorder_alive: bool
    accepted: list[Accepted]


def submit(keys: Keys, submissions: Sequence[Wish], *, now: int = 0) -> Call[SubmitReply]:
    """Submit at most :data:`CHUNK` tasks. Safe to repeat: an id that is known is not queued again."""
    args: list[bytes] = []
    for item in submissions:
        args.append(item.head())
        args.append(item.envelope())
    return script_call(keys, "submit", _read_submit, *args, now=now, timeout=15.0)


def _read_submit(reply: list[Any]) -> SubmitReply:
    accepted = []
    for index in range(5, len(reply), 2):
        code, task_id = reply[index], text(reply[index + 1])
        accepted.append(Accepted(task_id, STATES_BY_CODE.get(code), code == -1, code == -2, code == -3))
    alive = reply[3] - int(reply[2]) < RECORDER_SILENT_MS
    return SubmitReply(Position(int(reply[0]), int(reply[1])), reply[4], alive, accepted)


class Watermark(NamedTuple):
    """What the recorder has committed; *at* is the server's time of its last sign in ms, 0 where there was none.

    *quarantined* are the numbers of the entries of this epoch, the latest ones, that the record could not take.
    """

    position: Position
    rows: int
    bytes: int
    at: int
    quarantined: tuple[int, ...] = ()

    def covers(self, position: Position) -> bool:
        """Whether what stands at *position* is recorded."""
        return self.position.epoch == position.epoch and self.position.seq >= position.seq

    def has_refused(self, reply: SubmitReply) -> bool:
        """Whether the record could not take something that stands where *reply* says."""
        return any(reply.before < number <= reply.position.seq for number in self.quarantined)


def watermark(keys: Keys) -> Call[Watermark]:
    """Read what is committed."""
    args = ["HMGET", keys.build("wm"), "epoch", "seq", "rows", "bytes", "at", "quarantined"]

    def read(reply: list[Any]) -> Watermark:
        epoch, seq, rows, size, at = map(_int, reply[:5])
        return Watermark(Position(epoch, seq), rows, size, at, tuple(map(int, (reply[5] or b"").split())))

    return Call("watermark", args, read)


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


class Watched(NamedTuple):
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


class BulkReply(NamedTuple):
    """The answer to a bulk change: where it stands in the journal, and a code for each id."""

    position: int
    codes: list[int]


CANCELLED, REQUESTED, FINAL, ABSENT, DONE = 1, 2, 3, 0, 1


def _read_bulk(reply: list[Any]) -> BulkReply:
    return BulkReply(reply[1], list(reply[2:]))


def cancel(keys: Keys, ids: Sequence[str], *, reason: str, who: str, now: int = 0) -> Call[BulkReply]:
    """Cancel tasks. Codes: CANCELLED, REQUESTED (somebody runs it), FINAL (too late), ABSENT (not live)."""
    return script_call(keys, "cancel", _read_bulk, reason, who, *ids, now=now)


class Recorded(NamedTuple):
    """What SQL knows of a forgotten task that is to run again; *created_at* is its first submit in ms."""

    envelope: bytes
    version: int
    attempts: int
    queue: str
    priority: int
    max_retries: int
    idempotency_key: str
    fingerprint: str
    created_at: int

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
                self.created_at,
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


def resume(keys: Keys, queue: str, *, who: str = "", now: int = 0) -> Call[bool]:
    """Resume *queue*; returns whether it was paused."""
    return script_call(keys, "pause", lambda r: r[2] == -1, queue, "", "", who, now=now)


def purge(keys: Keys, queue: str, *, reason: str, who: str, now: int = 0) -> Call[tuple[int, int]]:
    """Cancel one chunk of the queued tasks: (cancelled, left). Repeat until none is left or none was cancelled."""
    return script_call(keys, "purge", lambda r: (r[2], r[3]), queue, reason, who, CHUNK, now=now)


def discard(keys: Keys, ids: Sequence[str], *, reason: str, who: str, now: int = 0) -> Call[int]:
    """Tell the record that dead letters are discarded; returns the journal's sequence."""
    return script_call(keys, "discard", lambda r: int(r[1]), reason, who, *ids, now=now)
