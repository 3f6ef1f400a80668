"""Calls of the coordinator: opening, election, and each role's writes under its term."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqctl_runtime.broker.call import Call, Word, script_call, text
from tqctl_runtime.broker.calls import Position
from tqctl_runtime.broker.keys import Keys

#: The one lease under which a coordinator's roles write.
COORDINATOR = "coordinator"
#: The role that copies the journal into SQL, as heartbeats name it.
RECORDER = "recorder"


@dataclass(frozen=True, slots=True)
class Opened:
    """The epoch and pairing id of an open namespace; *is_new* where this call opened it."""

    epoch: int
    pairing: str
    is_new: bool


def open_gate(keys: Keys, *, epoch: int, pairing: str, repair_term: int | None = None, now: int = 0) -> Call[Opened]:
    """Open a namespace that has no epoch, or learn the one it has. One under repair is opened in its term alone."""
    args = (epoch, pairing, "" if repair_term is None else repair_term)
    return script_call(keys, "open", lambda r: Opened(int(r[0]), text(r[1]), r[2] == 1), *args, now=now)


@dataclass(frozen=True, slots=True)
class Election:
    """Who holds a role: *until* is ms by the server's clock. *is_free*: a greater term would lead now."""

    is_leader: bool
    holder: str
    term: int
    until: int
    is_free: bool = False


def elect(keys: Keys, *, role: str, holder: str, term: int, lease_ms: int, now: int = 0) -> Call[Election]:
    """Take or renew the lease of *role*; a lease of 0 resigns. A new holder needs a term above all earlier ones.

    A *term* of 0 wins nothing, it only looks.
    """

    def read(reply: list[Any]) -> Election:
        return Election(reply[1] == 1, text(reply[2]), reply[3], reply[4], reply[5] == 1)

    return script_call(keys, "elect", read, role, holder, term, lease_ms, now=now)


def promote(keys: Keys, *, term: int, limit: int = 500, now: int = 0) -> Call[tuple[int, int]]:
    """Queue due tasks, expire late ones: (moved, looked at). Repeat while *limit* were looked at."""
    return script_call(keys, "promote", lambda r: (r[1], r[2]), COORDINATOR, term, limit, now=now)


@dataclass(frozen=True, slots=True)
class Reaped:
    """Workers found dead and tasks taken back; nobody is reaped before *reap_from* (ms)."""

    now: int
    workers: int
    tasks: int
    reap_from: int


def reap(keys: Keys, *, term: int, interval_ms: int, lease_ms: int, now: int = 0) -> Call[Reaped]:
    """Take back what workers with an expired lease held."""
    return script_call(keys, "reap", lambda r: Reaped(*r), COORDINATOR, term, interval_ms, lease_ms, now=now)


@dataclass(frozen=True, slots=True)
class Published:
    """The journal after publishing: its last sequence and the entries that are left."""

    now: int
    seq: int
    entries: int


def publish(
    keys: Keys,
    *,
    term: int,
    epoch: int,
    seq: int,
    stream_id: str,
    rows: int,
    size: int,
    keep_ms: int = 60_000,
    quarantined: Sequence[int] = (),
    now: int = 0,
) -> Call[Published]:
    """Tell what is committed (*rows* and *size* bytes of the journal in all) and trim the journal behind it.

    *quarantined* are numbers of entries that the record could not take: whoever waits for one must not be told that
    it is recorded.
    """
    args = (COORDINATOR, term, epoch, seq, stream_id, rows, size, keep_ms, " ".join(map(str, quarantined)))
    return script_call(keys, "publish", lambda r: Published(*r), *args, now=now)


def forget(
    keys: Keys, tasks: Sequence[tuple[str, int]], *, term: int, wait_ms: int = 60_000, now: int = 0
) -> Call[list[str]]:
    """Drop recorded final tasks, (id, v in this epoch); returns those that stay until their wait time is over."""
    flat: list[Word] = [word for pair in tasks for word in pair]
    args = (COORDINATOR, term, wait_ms, *flat)
    return script_call(keys, "forget", lambda r: [text(item) for item in r[1:]], *args, now=now)


def set_marks(
    keys: Keys,
    *,
    term: int,
    busy_rows: int,
    busy_bytes: int,
    stop_rows: int,
    stop_bytes: int,
    is_memory_short: bool,
    now: int = 0,
) -> Call[Position]:
    """Write the marks of back-pressure; returns where the journal ends."""
    args = (COORDINATOR, term, busy_rows, busy_bytes, stop_rows, stop_bytes, int(is_memory_short))
    return script_call(keys, "marks", lambda r: Position(r[1], r[2]), *args, now=now)


def coordinator_beat(keys: Keys, coordinator: str, info: Mapping[str, Any] | None, *, now: int = 0) -> Call[int]:
    """Show that *coordinator* lives; *info* None: it leaves. Answers with the server's time in ms."""
    blob = "" if info is None else json.dumps(info)
    return script_call(keys, "coordinator", lambda r: int(r[0]), coordinator, blob, now=now)


@dataclass(frozen=True, slots=True)
class Entry:
    """One journal entry: *rows* is a stream of msgpack rows (``serializer.unpack_stream``)."""

    stream_id: str
    epoch: int
    seq: int
    rows: bytes


def read_journal(keys: Keys, after: str, *, count: int, block_ms: int | None = None) -> Call[list[Entry]]:
    """Read up to *count* entries after stream id *after*, waiting *block_ms* for the first."""
    words: list[Word] = ["XREAD", "COUNT", count]
    if block_ms is not None:
        words += ["BLOCK", block_ms]
    words += ["STREAMS", keys.build("journal"), after]

    def read(reply: list[Any] | None) -> list[Entry]:
        return [] if not reply else [_entry(item) for item in reply[0][1]]

    return Call("read_journal", words, read, timeout=(block_ms or 0) / 1000 + 5.0)


def _entry(item: list[Any]) -> Entry:
    fields = item[1]
    values = {fields[at]: fields[at + 1] for at in range(0, len(fields), 2)}
    return Entry(item[0].decode(), _whole(values.get(b"e")), _whole(values.get(b"s")), values.get(b"r", b""))


def _whole(value: bytes | None) -> int:
    # An entry that nobody of ours wrote must reach the quarantine, not stop the reading.
    return int(value) if value and value.isdigit() else 0


def journal_last(keys: Keys) -> Call[str | None]:
    """The stream id of the journal's last entry; None where it is empty."""
    return Call(
        "journal_last",
        ["XREVRANGE", keys.build("journal"), "+", "-", "COUNT", 1],
        lambda r: r[0][0].decode() if r else None,
    )


def pairing(keys: Keys) -> Call[tuple[int, str] | None]:
    """The epoch and pairing id of the namespace; None where it is not open."""
    args = ["HMGET", keys.meta, "epoch", "pairing"]
    return Call("pairing", args, lambda r: (int(r[0]), text(r[1])) if r[0] else None)


def server_info(*sections: str) -> Call[dict[str, str]]:
    """The server's INFO as a dictionary."""

    def read(reply: bytes) -> dict[str, str]:
        found = {}
        for line in reply.decode("utf-8", "replace").splitlines():
            name, colon, value = line.partition(":")
            if colon and not name.startswith("#"):
                found[name] = value
        return found

    return Call("server_info", ["INFO", *sections], read)


def server_time() -> Call[int]:
    """The server's clock, ms."""
    return Call("server_time", ["TIME"], lambda r: int(r[0]) * 1000 + int(r[1]) // 1000)


#: The share of ``maxmemory`` from which submits answer busy: finishing what is there needs the rest.
MEMORY_SHARE = 0.85


def is_memory_short(info: dict[str, str]) -> bool:
    """Whether INFO *memory* tells of more than :data:`MEMORY_SHARE` in use; a server without a limit is never short."""
    limit = int(info.get("maxmemory", "0"))
    return limit > 0 and int(info.get("used_memory", "0")) > limit * MEMORY_SHARE
