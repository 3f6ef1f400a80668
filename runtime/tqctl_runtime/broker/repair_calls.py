"""Calls of opening and repair: the only ones that a namespace answers that is not open."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tqctl_runtime.broker.call import Call, Word, script_call, text
from tqctl_runtime.broker.calls import RECORDER_SILENT_MS, Position
from tqctl_runtime.broker.keys import BY_NAME, Keys
from tqctl_runtime.core.serializer import pack_for_lua
from tqctl_runtime.core.states import STATE_CODES, State

#: A repair that gave no sign for this long is dead, ms.
SILENT_MS = 10_000
#: Keys that a repair leaves: what it works with itself, counters, and unique windows: those of tasks that ended are not
#: in an older copy of the record.
_KEPT = ("meta", "stat", "unique")


class Survey(NamedTuple):
    """How a namespace stands. Numbers are 0 where there is nothing, instants ms by the server's clock.

    *epoch* is None where it is not open; *was* is the epoch before the repair that closed it. *mark* is the watermark
    and *mark_at* when it was told last. *anchor* is the entry at the record's checkpoint (sequence 0: not one of ours;
    None: not there), *following* the next one of ours. *term* is the greatest that a leader or a repair ever had here.
    """

    now: int
    epoch: int | None
    pairing: str
    seq: int
    was: int | None
    repair_term: int
    repair_epoch: int
    repair_at: int
    term: int
    mark: Position
    mark_at: int
    anchor: Position | None
    following: Position | None
    tasks: int
    repair_since: int
    repair_by: str

    @property
    def is_recorded(self) -> bool:
        """Whether somebody records it now."""
        return self.epoch is not None and self.now - self.mark_at < RECORDER_SILENT_MS

    @property
    def is_under_repair(self) -> bool:
        """Whether somebody works on it, as far as one can tell."""
        return self.repair_term > 0 and abs(self.now - self.repair_at) < SILENT_MS


def survey(keys: Keys, stream_id: str = "0-0", *, now: int = 0) -> Call[Survey]:
    """Read how the namespace stands; *stream_id* is the record's checkpoint."""
    return script_call(keys, "survey", _read_survey, stream_id, now=now)


def _read_survey(reply: list[Any]) -> Survey:
    anchor = Position(reply[13], reply[14]) if reply[12] else None
    following = Position(reply[15], reply[16]) if reply[16] else None
    return Survey(
        now=reply[0],
        epoch=int(reply[1]) if reply[1] else None,
        pairing=text(reply[2]),
        seq=reply[3],
        was=int(reply[4]) if reply[4] else None,
        repair_term=reply[5],
        repair_epoch=reply[6],
        repair_at=reply[7],
        term=max(reply[8], reply[5]),
        mark=Position(reply[9], reply[10]),
        mark_at=reply[11],
        anchor=anchor,
        following=following,
        tasks=reply[17],
        repair_since=reply[18],
        repair_by=text(reply[19]),
    )


def close_gate(
    keys: Keys,
    *,
    term: int,
    epoch: int,
    seen: int | None,
    pairing: str,
    by: str,
    silent_ms: int = SILENT_MS,
    now: int = 0,
) -> Call[bool]:
    """Close the namespace for the repair of *term* that leads to *epoch*; again: a sign of its life.

    *by* is the repair's id, then a blank and whose it is.

    *seen* is the epoch that was found open. False: another repair is at work, or it is not that epoch any more.
    """
    args = (term, epoch, "" if seen is None else seen, pairing, silent_ms, by)
    return script_call(keys, "close", lambda r: r[1] == 1, *args, now=now)


def wipe(keys: Keys, names: Sequence[bytes], *, term: int, is_last: bool = False, now: int = 0) -> Call[int]:
    """Drop keys by name; at last also what meta tells of the old journal. Returns how many were there."""
    return script_call(keys, "wipe", lambda r: int(r[1]), term, int(is_last), *names, now=now)


def rebuild(keys: Keys, tasks: Sequence[Sequence[Any]], *, term: int, reason: str, now: int = 0) -> Call[int]:
    """Put tasks back, at most ``calls.CHUNK``, each a row as ``rebuild.lua`` reads it with the state as its name."""
    rows = [[row[0], STATE_CODES[State(row[1])], *row[2:]] for row in tasks]
    args: list[Word] = [term, reason, pack_for_lua(rows)]
    return script_call(keys, "rebuild", lambda r: int(r[1]), *args, now=now, timeout=15.0)


def restore(
    keys: Keys,
    *,
    term: int,
    pauses: Sequence[tuple[str, int, str]] = (),
    handlers: Sequence[tuple[str, str]] = (),
    held: Sequence[tuple[str, str, str, int]] = (),
    windows: Sequence[tuple[str, str, int]] = (),
    tombs: Sequence[tuple[str, int, int, int, int]] = (),
    now: int = 0,
) -> Call[None]:
    """Put back what is not a task, each part at most ``calls.CHUNK`` long.

    *pauses* are (queue, until, why), *handlers* (name, row of the catalogue), *held* idempotency keys (key, task,
    fingerprint, ms left), *windows* (fingerprint, task, ms left), *tombs* tombstones (task, epoch, v, state's number,
    ms left).
    """
    args = [pack_for_lua([list(item) for item in part]) for part in (pauses, handlers, held, windows, tombs)]
    return script_call(keys, "restore", lambda _: None, term, *args, now=now, timeout=15.0)


def scan_names(keys: Keys, cursor: int) -> Call[tuple[int, list[bytes]]]:
    """The next cursor (0: that was all) and some names of keys that a repair wipes."""
    kept = tuple((keys.prefix + BY_NAME[name].pattern.removesuffix("{}")).encode() for name in _KEPT)

    def read(reply: list[Any]) -> tuple[int, list[bytes]]:
        return int(reply[0]), [name for name in reply[1] if not name.startswith(kept)]

    words: list[Word] = ["SCAN", cursor, "MATCH", keys.prefix + "*", "COUNT", 2_000]
    return Call("scan_names", words, read)


def scan_lines(keys: Keys, cursor: int) -> Call[tuple[int, list[tuple[str, bytes]]]]:
    """The next cursor (0: that was all) and some live tasks with their lines; see ``views.read_line``."""

    def read(reply: list[Any]) -> tuple[int, list[tuple[str, bytes]]]:
        flat = reply[1]
        return int(reply[0]), [(text(flat[at]), flat[at + 1]) for at in range(0, len(flat), 2)]

    words: list[Word] = ["HSCAN", keys.build("st"), cursor, "COUNT", 1_000]
    return Call("scan_lines", words, read)


def extras(keys: Keys, ids: Sequence[str]) -> list[Call[list[bytes]]]:
    """Calls for the envelopes, results and cancel reasons of live tasks, in the order of *ids*; empty for none."""

    def read(reply: list[bytes | None]) -> list[bytes]:
        return [value or b"" for value in reply]

    return [Call(name, ["HMGET", keys.build(name), *ids], read) for name in ("env", "res", "cancel")]


def tombstones(keys: Keys, ids: Sequence[str]) -> Call[list[tuple[int, int, State] | None]]:
    """Epoch, v and state of those of *ids* that ended and were forgotten lately."""
    by_code = {code: state for state, code in STATE_CODES.items()}

    def read(reply: list[bytes | None]) -> list[tuple[int, int, State] | None]:
        parts = [value.split(b" ") if value else None for value in reply]
        return [(int(part[0]), int(part[1]), by_code[int(part[2])]) if part else None for part in parts]

    return Call("tombstones", ["MGET", *[keys.build("tomb", task_id) for task_id in ids]], read)
