# ruff: noqa: S608  statements are put together from our own column names; values are always parameters
"""The recorder's writes: a batch and its checkpoint in one transaction, under the leader's term."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tqctl_runtime.core.attempt import clean_text
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.errors import LeaseLost, RecordUnavailable, TqctlError
from tqctl_runtime.core.states import FINAL
from tqctl_runtime.record import statements
from tqctl_runtime.record.batch import Batch, JournalEntry, count_rows, merge
from tqctl_runtime.record.columns import CHECKPOINT, QUARANTINE
from tqctl_runtime.record.database import Database

_CHECKPOINT_COLUMNS = list(CHECKPOINT)[1:]
_READ = f"SELECT {', '.join(_CHECKPOINT_COLUMNS[:-1])} FROM checkpoint WHERE id = 1"
_CREATE = statements.insert("checkpoint", CHECKPOINT) + statements.DO_NOTHING
_TAKE = "UPDATE checkpoint SET term = ? WHERE id = 1 AND term <= ?"
_ADVANCE = (
    "UPDATE checkpoint SET epoch = ?, stream_id = ?, sequence = ?, rows = ?, bytes = ?, committed_at = ? "
    "WHERE id = 1 AND pairing = ? AND term = ? AND epoch = ? AND stream_id = ? AND sequence = ?"
)
QUARANTINE_ENTRY = statements.insert("quarantine", QUARANTINE) + statements.DO_NOTHING
_NEXT_TERM = (
    "INSERT INTO terms (role, term, holder, elected_at) VALUES (?, ?, ?, ?) ON CONFLICT (role) DO UPDATE SET "
    "term = CASE WHEN terms.term < excluded.term THEN excluded.term ELSE terms.term + 1 END, "
    "holder = excluded.holder, elected_at = excluded.elected_at RETURNING term"
)
_QUARANTINED = "SELECT sequence FROM quarantine WHERE epoch = ? ORDER BY sequence DESC LIMIT ?"
_VERSIONS = "SELECT id, version, state FROM tasks WHERE id IN ({})"
_MOVE = "UPDATE checkpoint SET broker = ? WHERE id = 1 AND pairing = ? AND broker <> ?"
_ERROR_LIMIT = 2_000
#: How many of the latest quarantined entries are told to those who wait for the record.
QUARANTINE_TOLD = 100
#: Ids in one statement.
_CHUNK = 500
_FINAL = frozenset(map(str, FINAL))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far the journal of *epoch* is recorded; *rows* and *bytes* count from its start. *term* wrote it last.

    *broker* is where Redis was when it was opened last; it says nothing of how far the record is.
    """

    pairing: str
    epoch: int
    stream_id: str
    sequence: int
    rows: int
    bytes: int
    term: int
    broker: str = field(default="", compare=False)

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was ever recorded. A repair begins to count anew, but in a later epoch."""
        return self.epoch == 1 and self.sequence == 0 and self.rows == 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An entry that could not be recorded, and why."""

    stream_id: str
    sequence: int
    error: str


@dataclass(slots=True)
class Applied:
    """What :meth:`Writer.apply` did. *finished* are final tasks with their v, which the broker may forget."""

    checkpoint: Checkpoint
    finished: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)


class Writer:
    """Writes the journal under one term."""

    def __init__(self, database: Database, term: int) -> None:
        self._database = database
        self.term = term

    def take(self) -> Checkpoint:
        """The checkpoint, ours from now on: a writer of an earlier term is refused at its next commit.

        Raises:
            LeaseLost: a later term has it.
            RecordUnavailable: the database cannot be reached, or was never paired with a broker.
        """
        with self._database.transaction():
            taken = self._database.execute(_TAKE, (self.term, self.term))
        checkpoint = read_checkpoint(self._database)
        if checkpoint is None:
            raise RecordUnavailable("the record was never paired with a broker", hint="tqctl coordinator start")
        if not taken or checkpoint.term != self.term:
            raise LeaseLost(f"term {self.term} of the recorder is over: term {checkpoint.term} writes now")
        return checkpoint

    def check(self, checkpoint: Checkpoint) -> None:
        """Make sure that SQL answers and *checkpoint* is still ours: what an idle recorder's sign of life promises.

        Raises:
            LeaseLost: somebody else writes.
            RecordUnavailable: SQL does not answer.
        """
        if read_checkpoint(self._database) != checkpoint:
            raise LeaseLost(f"term {self.term} of the recorder is over: somebody else moved the checkpoint")

    def apply(self, entries: Sequence[JournalEntry], checkpoint: Checkpoint) -> Applied:
        """Record *entries*, which follow *checkpoint*. One that cannot be recorded is put into quarantine, alone.

        Raises:
            LeaseLost: the checkpoint is not where this writer left it; nothing was written.
            RecordUnavailable: what was written is unknown; :meth:`take` tells.
        """
        done = Applied(checkpoint)
        self._apply(entries, done)
        return done

    def quarantined(self, epoch: int) -> list[int]:
        """The numbers of the latest entries of *epoch* in quarantine, :data:`QUARANTINE_TOLD` at most, in order."""
        return [row[0] for row in reversed(self._database.rows(_QUARANTINED, (epoch, QUARANTINE_TOLD)))]

    def ended(self, tasks: Sequence[tuple[str, int]], epoch: int) -> list[tuple[str, int]]:
        """Those of *tasks*, (id, v in *epoch*), whose end the record has in this version or a later one."""
        versions: dict[str, int] = {}
        for start in range(0, len(tasks), _CHUNK):
            ids = [task_id for task_id, _ in tasks[start : start + _CHUNK]]
            rows = self._database.rows(_VERSIONS.format(", ".join("?" * len(ids))), ids)
            versions.update((task_id, version) for task_id, version, state in rows if state in _FINAL)
        return [(task_id, v) for task_id, v in tasks if versions.get(task_id, -1) >= epoch << 32 | v]

    def _apply(self, entries: Sequence[JournalEntry], done: Applied) -> None:
        try:
            batch = merge(entries)
            self._commit(entries, done, batch)
        except Exception as error:
            if is_outage(error):
                raise
            if len(entries) == 1:
                self._set_aside(entries[0], done, error)
                return
            middle = len(entries) // 2
            self._apply(entries[:middle], done)
            self._apply(entries[middle:], done)

    def _commit(self, entries: Sequence[JournalEntry], done: Applied, batch: Batch) -> None:
        reached = _reached(done.checkpoint, entries, batch.count, batch.size)
        with self._database.transaction():
            self._advance(done.checkpoint, reached)
            self._database.write(batch)
        done.checkpoint = reached
        for task_id in batch.new.keys() | batch.changed.keys():
            done.finished.pop(task_id, None)
        done.finished.update(batch.finished)

    def _set_aside(self, entry: JournalEntry, done: Applied, error: Exception) -> None:
        reached = _reached(done.checkpoint, [entry], count_rows(entry), len(entry.rows))
        text = told(error)
        row = (entry.epoch, entry.stream_id, entry.seq, now_ms(), text, entry.rows)
        with self._database.transaction():
            self._advance(done.checkpoint, reached)
            self._database.execute(QUARANTINE_ENTRY, row)
        done.checkpoint = reached
        done.quarantined.append(Quarantined(entry.stream_id, entry.seq, text))

    def _advance(self, old: Checkpoint, new: Checkpoint) -> None:
        values = (new.epoch, new.stream_id, new.sequence, new.rows, new.bytes, now_ms())
        where = (old.pairing, self.term, old.epoch, old.stream_id, old.sequence)
        if self._database.execute(_ADVANCE, (*values, *where)) != 1:
            raise LeaseLost(f"term {self.term} of the recorder is over: somebody else moved the checkpoint")


def is_outage(error: Exception) -> bool:
    """Whether *error* would meet every batch now: what is written is not to blame."""
    if isinstance(error, TqctlError) and error.code == "config":
        return True
    return isinstance(error, RecordUnavailable | LeaseLost | OSError | MemoryError)


def told(error: Exception) -> str:
    """*error* as a row in quarantine tells it."""
    return clean_text(f"{type(error).__name__}: {error}", _ERROR_LIMIT)


def _reached(old: Checkpoint, entries: Sequence[JournalEntry], rows: int, size: int) -> Checkpoint:
    last = next((entry for entry in reversed(entries) if entry.seq), None)
    return replace(
        old,
        epoch=last.epoch if last else old.epoch,
        sequence=last.seq if last else old.sequence,
        stream_id=entries[-1].stream_id,
        rows=old.rows + rows,
        bytes=old.bytes + size,
    )


def read_checkpoint(database: Database) -> Checkpoint | None:
    """The checkpoint; None where the record was never paired."""
    found = database.rows(_READ)
    return Checkpoint(*found[0]) if found else None


def create_checkpoint(database: Database, pairing: str, epoch: int, broker: str) -> Checkpoint:
    """Pair the record for good with *pairing*, unless it is paired; returns what holds."""
    with database.transaction():
        database.execute(_CREATE, (1, pairing, epoch, "0-0", 0, 0, 0, 0, broker, now_ms()))
    checkpoint = read_checkpoint(database)
    if checkpoint is None:
        raise RecordUnavailable("the record lost its checkpoint while it was paired", hint="tqctl doctor")
    return checkpoint


def move_broker(database: Database, pairing: str, broker: str) -> None:
    """Remember that Redis of *pairing* is at *broker* now."""
    with database.transaction():
        database.execute(_MOVE, (broker, pairing, broker))


def next_term(database: Database, role: str, holder: str, above: int = 0) -> int:
    """A term for *role* greater than *above* and every one given out before, as far as the record knows."""
    with database.transaction():
        found = database.rows(_NEXT_TERM, (role, above + 1, holder, now_ms()))
    term: int = found[0][0]
    return term
