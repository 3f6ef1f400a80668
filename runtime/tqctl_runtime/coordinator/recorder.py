"""The recorder: copies the journal into SQL, tells how far it is, and lets the broker forget what is recorded."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from tqctl_runtime.broker.calls import CHUNK, Position
from tqctl_runtime.broker.leader_calls import Entry, forget, publish, read_journal
from tqctl_runtime.broker.repair_calls import survey
from tqctl_runtime.checks.situation import assess
from tqctl_runtime.coordinator.recoveries import Recoveries
from tqctl_runtime.core.errors import NeedsRepair
from tqctl_runtime.observe.logging import get_logger
from tqctl_runtime.record.batch import final_tasks
from tqctl_runtime.record.write import QUARANTINE_TOLD

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.store import Store
    from tqctl_runtime.record.write import Applied, Checkpoint

#: Journal bytes in one transaction, about 2,000 tasks: more gains little, and SQLite's must end within 100 ms.
BATCH_BYTES = 524_288
#: Entries in one read at most, and in the first one, whose sizes nobody knows: with entries of 256 KiB it is 16 MiB.
MAX_ENTRIES, FIRST_ENTRIES = 512, 64
#: Seconds between two signs of life, and the longest wait for entries: a stop is noticed after it.
PUBLISH_SECONDS, _BLOCK_SECONDS = 1.0, 0.5
#: How long the journal keeps what is recorded, ms: a record that lost its last second finds it there.
KEEP_MS = 60_000
#: How long a watched task stays for those who wait for it, ms.
WAIT_MS = 60_000
#: Seconds between two questions for a task that the broker keeps for longer than was expected.
_AGAIN_SECONDS = 1.0
_KEEP_ALL_MS = 2**52
_START = "0-0"
_HINT = "nothing was written; what would be mended: tqctl doctor --repair -n"
_log = get_logger("recorder")


class _Staying(NamedTuple):
    """A recorded task that the broker keeps. *again_at* is when to ask again, by ``time.monotonic``; the journal tells
    of it since *since*, ms.
    """

    again_at: float
    id: str
    v: int
    since: int


class _Older(NamedTuple):
    """A record that is an older copy, at *checkpoint*: entries up to number *recorded* were in it once. *since* is by
    ``time.monotonic``.
    """

    recorded: int
    checkpoint: Checkpoint
    since: float

    @property
    def found(self) -> str:
        """What it was told by, in words."""
        ends = self.checkpoint.sequence
        return (
            f"the record went back by {self.recorded - ends:,} entries: it ended at {ends}, "
            f"{self.recorded} was recorded once"
        )


class Recorder:
    """The recorder in one term. After an error the next step starts again from SQL's checkpoint."""

    def __init__(
        self,
        *,
        store: Store,
        wire: Wire,
        keys: Keys,
        term: int,
        settings: Settings,
        recoveries: Recoveries | None = None,
    ) -> None:
        self._wire = wire
        self._keys = keys
        self._writer = store.writer(term)
        self._term = term
        self._checkpoint: Checkpoint | None = None
        self._count = FIRST_ENTRIES
        #: Where the second look at what is recorded already has come to; None once it is over.
        self._again: str | None = None
        self._again_until = _START
        #: Watched tasks that were recorded, the one that ended first in front.
        self._staying: deque[_Staying] = deque()
        #: Numbers of the latest entries of this epoch that are in quarantine.
        self._quarantined: list[int] = []
        self._published_at = 0.0
        self._server_now = 0
        self._recoveries = recoveries or Recoveries()
        self._older: _Older | None = None

    def run_once(self) -> int:
        """Record what there is, waiting up to half a second for it; returns the number of entries.

        Raises:
            LeaseLost: the term is over.
            NeedsRepair: Redis and SQL do not fit together; nothing was written.
            RecordUnavailable: SQL cannot be reached; the journal waits.
        """
        try:
            checkpoint = self._checkpoint or self._begin()
            self._forget_again()
            entries = self._read(checkpoint)
            if entries:
                for batch in split(entries):
                    checkpoint = self._record(checkpoint, batch)
            elif time.monotonic() - self._published_at >= PUBLISH_SECONDS:
                self._writer.check(checkpoint)
                self._publish(checkpoint, KEEP_MS)
            self._forget_waited()
        except BaseException:
            self._checkpoint = None
            raise
        return len(entries)

    def _begin(self) -> Checkpoint:
        """Take the checkpoint and make sure that this journal is the one it speaks of, no older than it."""
        checkpoint = self._writer.take()
        end = self._recoveries.journal_end
        seen = self._wire.call(survey(self._keys, checkpoint.stream_id))
        found = assess(checkpoint, seen, self._wire.address.display)
        if not found.is_usable:
            raise NeedsRepair(found.message, hint=_HINT)
        self._recoveries.settle_journal(end, Position(checkpoint.epoch, seen.seq))
        if seen.mark.epoch == checkpoint.epoch and seen.mark.seq > checkpoint.sequence:
            self._older = _Older(seen.mark.seq, checkpoint, time.monotonic())
            _log.warning("the record is an older copy; the journal still has what it lacks", found=self._older.found)
        # What was read last may have been too much for the time there is.
        self._count = FIRST_ENTRIES
        self._again, self._again_until = _START, checkpoint.stream_id
        self._staying.clear()
        self._quarantined = self._writer.quarantined(checkpoint.epoch)
        self._checkpoint = checkpoint
        self._publish(checkpoint, _KEEP_ALL_MS)
        _log.info("recording", term=self._term, epoch=checkpoint.epoch, sequence=checkpoint.sequence)
        return checkpoint

    def _read(self, checkpoint: Checkpoint) -> list[Entry]:
        waits = 0.0 if self._again is not None else self._published_at + PUBLISH_SECONDS - time.monotonic()
        # BLOCK 0 would wait for ever.
        block = max(1, round(min(waits, _BLOCK_SECONDS) * 1000))
        call = read_journal(self._keys, checkpoint.stream_id, count=self._count, block_ms=block)
        entries = self._wire.call(call)
        if entries:
            self._count = next_count(entries)
            entries = _in_sequence(checkpoint, entries)
        return entries

    def _record(self, checkpoint: Checkpoint, entries: Sequence[Entry]) -> Checkpoint:
        done = self._writer.apply(entries, checkpoint)
        self._checkpoint = done.checkpoint
        self._tell(done)
        # Trimmed only behind this batch: were we killed now, the next recorder finds here what it must forget.
        span = stamp(done.checkpoint.stream_id) - stamp(entries[0].stream_id)
        self._publish(done.checkpoint, KEEP_MS + span)
        self._forget(done.finished.items(), stamp(entries[0].stream_id))
        self._tell_replayed(done.checkpoint)
        return done.checkpoint

    def _tell_replayed(self, reached: Checkpoint) -> None:
        older = self._older
        if older is None or reached.sequence < older.recorded:
            return
        self._older = None
        entries, rows = reached.sequence - older.checkpoint.sequence, reached.rows - older.checkpoint.rows
        told = f"{older.found}; replayed from the journal: {entries:,} entries with {rows:,} rows"
        self._recoveries.note("repair", "record", told, length_ms=round((time.monotonic() - older.since) * 1000))
        _log.warning("the record has again what it lacked", entries=entries, rows=rows)

    def _publish(self, checkpoint: Checkpoint, keep_ms: int) -> None:
        """Tell the watermark and trim the journal to *keep_ms* before it, by the clock where nothing more came.

        What tells of tasks that stay is kept: only from there does the next recorder know what it must forget.
        """
        if self._again is not None:
            keep_ms = _KEEP_ALL_MS
        elif self._staying:
            keep_ms = max(keep_ms, stamp(checkpoint.stream_id) - self._staying[0].since)
        elif keep_ms == KEEP_MS:
            keep_ms = max(0, KEEP_MS - max(0, self._server_now - stamp(checkpoint.stream_id)))
        published = self._wire.call(
            publish(
                self._keys,
                term=self._term,
                epoch=checkpoint.epoch,
                seq=checkpoint.sequence,
                stream_id=checkpoint.stream_id,
                rows=checkpoint.rows,
                size=checkpoint.bytes,
                keep_ms=keep_ms,
                quarantined=self._quarantined,
            )
        )
        self._published_at = time.monotonic()
        self._server_now = published.now

    def _tell(self, done: Applied) -> None:
        for entry in done.quarantined:
            _log.error(
                "a journal entry could not be recorded and is in quarantine",
                stream_id=entry.stream_id,
                sequence=entry.sequence,
                error=entry.error,
            )
        numbers = [entry.sequence for entry in done.quarantined if entry.sequence]
        self._quarantined = [*self._quarantined, *numbers][-QUARANTINE_TOLD:]

    def _forget(self, tasks: Iterable[tuple[str, int]], since: int) -> None:
        """Let the broker drop recorded final tasks, told since *since* (ms) in the journal.

        Those that somebody waits for are tried again later.
        """
        for chunk in chunks(tasks, CHUNK):
            versions, again_at = dict(chunk), time.monotonic() + WAIT_MS / 1000
            self._staying.extend(_Staying(again_at, kept, versions[kept], since) for kept in self._drop(chunk))

    def _drop(self, tasks: list[tuple[str, int]]) -> list[str]:
        """Forget *tasks*, at most CHUNK; returns those that stay."""
        known = self._with_end(tasks)
        return self._wire.call(forget(self._keys, known, term=self._term, wait_ms=WAIT_MS)) if known else []

    def _with_end(self, tasks: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Those of *tasks* whose end the record has: the beginning or the end of another may be in quarantine."""
        if not self._quarantined or self._checkpoint is None:
            return tasks
        return self._writer.ended(tasks, self._checkpoint.epoch)

    def _forget_waited(self) -> None:
        now = time.monotonic()
        due: list[_Staying] = []
        while self._staying and self._staying[0].again_at <= now and len(due) < CHUNK:
            due.append(self._staying.popleft())
        if due:
            kept = set(self._drop([(item.id, item.v) for item in due]))
            again = [item._replace(again_at=now + _AGAIN_SECONDS) for item in due if item.id in kept]
            self._staying.extendleft(reversed(again))

    def _forget_again(self) -> None:
        """Forget once more what an earlier recorder committed: it may have ended before it could tell the broker."""
        if self._again is None:
            return
        entries = self._wire.call(read_journal(self._keys, self._again, count=self._count))
        limit = order(self._again_until)
        recorded = [entry for entry in entries if order(entry.stream_id) <= limit]
        if recorded:
            self._forget(final_tasks(recorded).items(), stamp(recorded[0].stream_id))
        self._again = recorded[-1].stream_id if recorded and len(recorded) == len(entries) else None


def _in_sequence(checkpoint: Checkpoint, entries: list[Entry]) -> list[Entry]:
    """The entries up to the first gap, of which there is at least one.

    Raises:
        NeedsRepair: they do not follow the checkpoint.
    """
    wanted = checkpoint.sequence
    for place, entry in enumerate(entries):
        # Entries without a number are none of ours: the writer puts them into quarantine.
        if not entry.seq:
            continue
        wanted += 1
        if entry.epoch == checkpoint.epoch and entry.seq == wanted:
            continue
        if place:
            return entries[:place]
        raise NeedsRepair(
            f"the journal goes on with entry {entry.seq} of epoch {entry.epoch}, "
            f"not with {wanted} of epoch {checkpoint.epoch}",
            hint=_HINT,
        )
    return entries


def next_count(entries: Sequence[Entry]) -> int:
    """As many entries as make a batch, by the size of those just read."""
    size = sum(len(entry.rows) for entry in entries) // len(entries) + 1
    return min(max(BATCH_BYTES // size, 1), MAX_ENTRIES)


def split(entries: Sequence[Entry], limit: int = BATCH_BYTES) -> Iterator[Sequence[Entry]]:
    """*entries* in runs of at most *limit* bytes; a larger entry is a run of its own."""
    start, size = 0, 0
    for index, entry in enumerate(entries):
        size += len(entry.rows)
        if size > limit and index > start:
            yield entries[start:index]
            start, size = index, len(entry.rows)
    yield entries[start:]


def chunks(items: Iterable[tuple[str, int]], size: int) -> Iterator[list[tuple[str, int]]]:
    """*items* in lists of *size*."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk


def stamp(stream_id: str) -> int:
    """The milliseconds in a stream id."""
    return int(stream_id.partition("-")[0])


def order(stream_id: str) -> tuple[int, int]:
    """A stream id as it is ordered."""
    head, _, tail = stream_id.partition("-")
    return int(head), int(tail)
