"""What attempts wrote: kept by the record when they ended, live through the broker while they run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tqctl_runtime.broker import views
from tqctl_runtime.broker.call import Call, Word, pairs, text
from tqctl_runtime.core.errors import RecordUnavailable
from tqctl_runtime.core.states import FINAL

if TYPE_CHECKING:
    from tqctl_runtime.inspector.live import Live
    from tqctl_runtime.record import Store

#: How long one question for new lines waits on the server, ms; then the task's state is looked at.
_BLOCK_MS = 500
_PAGE = 100
#: How long the last lines of an ended attempt are waited for: they come with its end, by the record.
_LAST_LINES_SECONDS = 3.0
#: How much of what was shown live is remembered, and how little of it is enough to find the place in the record.
_TOLD_BYTES, _MARK_BYTES = 16_384, 256

Chunk = tuple[int, bytes]
#: A live chunk: its place in the stream, the attempt, the bytes.
Entry = tuple[str, int, bytes]


def read(live: Live, store: Store, task_id: str, attempt: int | None) -> list[Chunk]:
    """(attempt, bytes) of what was kept, and of what a running attempt has written so far."""
    kept = recorded(store, task_id)
    running = _read_live(live, task_id, "0-0")
    chunks = kept + [(number, data) for _, number, data in running if number not in dict(kept)]
    return [chunk for chunk in chunks if attempt is None or chunk[0] == attempt]


def recorded(store: Store, task_id: str) -> list[Chunk]:
    """(attempt, bytes) of what the record has; where the middle was cut out, a line in it says so."""
    try:
        return [(number, data) for number, data, _ in store.lookup.logs(task_id) if data]
    except RecordUnavailable:
        return []


def _read_live(live: Live, task_id: str, after: str) -> list[Entry]:
    found: list[Entry] = []
    while True:
        page = live.try_ask(views.log_entries(live.keys, task_id, after, count=_PAGE)) or []
        found += page
        if len(page) < _PAGE:
            return found
        after = page[-1][0]


def follow(live: Live, store: Store, task_id: str) -> Iterator[Chunk]:
    """What attempts wrote so far, then what they write, until the task ends."""
    kept = recorded(store, task_id)
    yield from kept
    told = dict(kept)
    known = frozenset(told)
    after = "0-0"
    while True:
        state = live.look([task_id]).get(task_id)
        is_over = state is None or state.state in FINAL
        for place, number, data in live.try_ask(_wait(live, task_id, after, 1 if is_over else _BLOCK_MS)) or []:
            after = place
            if number not in known:
                told[number] = (told.get(number, b"") + data)[-_TOLD_BYTES:]
                yield number, data
        if is_over:
            break
    live.catch_up(_LAST_LINES_SECONDS)
    for number, data in recorded(store, task_id):
        rest = data if number not in told else untold(data, told[number])
        if rest and number not in known:
            yield number, rest


def untold(kept: bytes, told: bytes) -> bytes:
    """What of *kept*, the log in the record, comes after *told*, the last of what was shown live."""
    for size in (len(told), _MARK_BYTES):
        mark = told[-size:]
        place = kept.rfind(mark)
        if mark and place >= 0:
            return kept[place + len(mark) :]
    return b""


def _wait(live: Live, task_id: str, after: str, block_ms: int) -> Call[list[Entry]]:
    """Chunks after *after*, waiting *block_ms* for the first."""

    def read_entries(reply: list[list[list[list[bytes]]]] | None) -> list[Entry]:
        entries: list[Entry] = []
        for stream_id, fields in reply[0][1] if reply else ():
            values = pairs(fields)
            entries.append((text(stream_id), int(values["a"]), values["d"]))
        return entries

    words: list[Word] = ["XREAD", "COUNT", _PAGE, "BLOCK", block_ms, "STREAMS", live.keys.build("log", task_id), after]
    return Call("follow_log", words, read_entries, timeout=block_ms / 1000 + 5.0)
