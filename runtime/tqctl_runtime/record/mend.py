"""What a repair writes into the record and reads out of it: the record is whole before Redis is built anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.errors import LeaseLost
from tqctl_runtime.core.ids import TAIL_LENGTH
from tqctl_runtime.core.serializer import pack
from tqctl_runtime.core.states import FINAL, State
from tqctl_runtime.core.submission import Envelope, fingerprint
from tqctl_runtime.record.batch import FINISHED, REASON, STATE, VERSION, Batch, JournalEntry
from tqctl_runtime.record.columns import TASK_ORDER
from tqctl_runtime.record.lookup import Lookup
from tqctl_runtime.record.write import QUARANTINE_ENTRY, Applied, Checkpoint, Writer, is_outage, told

#: States out of which something still happens, in the order in which a repair puts their tasks back.
OPEN_STATES = (State.RUNNING, State.QUEUED, State.RETRYING, State.SCHEDULED)
#: Rows of one read.
CHUNK = 1_000
#: Later than every instant, ms.
_NEVER = 2**62

_HOLD = "UPDATE checkpoint SET committed_at = ? WHERE id = 1 AND term = ?"
_RESTART = (
    "UPDATE checkpoint SET epoch = ?, stream_id = '0-0', sequence = 0, rows = 0, bytes = 0, broker = ?, "
    "committed_at = ? WHERE id = 1 AND term = ? AND epoch < ?"
)
_VERSIONS = "SELECT id, version, state FROM tasks WHERE id IN ({})"
_ENVELOPES = "SELECT id, envelope FROM tasks WHERE id IN ({})"
# The second bound says what the first says, in words that an index is found by.
_OPEN = (
    "SELECT id, state, queue, priority, max_retries, failures, deaths, "
    "COALESCE((SELECT MAX(number) FROM attempts WHERE task_id = tasks.id), 0), created_at, "
    "COALESCE(scheduled_at, 0), COALESCE(expires_at, 0), COALESCE(started_at, 0), COALESCE(worker, ''), "
    "CASE WHEN cancel_requested_at IS NULL THEN 0 ELSE 1 END, COALESCE(reason, ''), "
    "COALESCE(idempotency_key, ''), COALESCE(fingerprint, ''), LENGTH(envelope) FROM tasks "
    "WHERE state = ? AND (created_at, id) > (?, ?) AND created_at >= ? ORDER BY created_at, id LIMIT ?"
)
_OPEN_VERSIONS = (
    "SELECT id, version, created_at FROM tasks "
    "WHERE state = ? AND (created_at, id) > (?, ?) AND created_at >= ? ORDER BY created_at, id LIMIT ?"
)
_COUNT = "SELECT COUNT(*) FROM tasks WHERE state = ?"
_KEYS = (
    "SELECT idempotency_key, id, fingerprint, finished_at FROM tasks "
    "WHERE idempotency_key IS NOT NULL AND finished_at > ? AND (finished_at, id) < (?, ?) AND finished_at <= ? "
    "ORDER BY finished_at DESC, id DESC LIMIT ?"
)
_ENDED = "SELECT id, version, state, finished_at FROM tasks WHERE state = ? AND finished_at > ? LIMIT ?"
_WINDOWS = (
    "SELECT fingerprint, task_id, ends_at FROM windows "
    "WHERE ends_at > ? AND fingerprint > ? ORDER BY fingerprint LIMIT ?"
)
_SETTINGS = "SELECT section, key, value FROM settings ORDER BY section, key"
_HANDLERS = "SELECT name, row FROM handlers ORDER BY name"


#: A task as the broker holds it: ``broker.views.LiveTask``, of which this layer knows the fields alone.
Live = Any


class OpenTask(NamedTuple):
    """A task that has not ended, as it is put back; instants are ms, 0 for none. *size* is that of its envelope."""

    id: str
    state: str
    queue: str
    priority: int
    max_retries: int
    failures: int
    deaths: int
    attempts: int
    created_at: int
    scheduled_at: int
    expires_at: int
    started_at: int
    worker: str
    is_cancel_requested: int
    reason: str
    idempotency_key: str
    fingerprint: str
    size: int


class Mender(Writer):
    """The record in the hands of one repair: :meth:`take` comes first and fences every earlier recorder out.

    Every write raises LeaseLost where a later term has taken the record.
    """

    _guards_ends = False

    def drain(self, entries: Sequence[JournalEntry], checkpoint: Checkpoint, *, guards_ends: bool) -> Applied:
        """Record *entries* whatever place the checkpoint has; it stays. Bad ones go into quarantine.

        *guards_ends*: the broker went back, so what the record knows to have ended stays ended.
        """
        self._guards_ends = guards_ends
        return self.apply(entries, checkpoint)

    def copy(self, tasks: Sequence[Live], at: int) -> list[str]:
        """Record live *tasks* as they are; one that the record knows in a later version stays as it was.

        One that cannot be recorded is put into quarantine, alone. Returns the ids of those.
        """
        try:
            batch = Batch()
            for task in tasks:
                _add_live(batch, task, at)
            self._write(batch)
        except Exception as error:
            if is_outage(error):
                raise
            if len(tasks) == 1:
                self._keep(tasks[0], error)
                return [tasks[0].id]
            middle = len(tasks) // 2
            return self.copy(tasks[:middle], at) + self.copy(tasks[middle:], at)
        return []

    def _keep(self, task: Live, error: Exception) -> None:
        row = (task.version >> 32, f"task {task.id}", 0, now_ms(), told(error), pack(list(task)))
        with self._database.transaction():
            self._hold()
            self._database.execute(QUARANTINE_ENTRY, row)

    def end(self, tasks: Iterable[tuple[str, int, State]], at: int) -> None:
        """Record that tasks, (id, version, state), ended; how is not known any more."""
        batch = Batch()
        for task_id, version, state in tasks:
            row = batch.task(task_id)
            row[VERSION], row[STATE], row[FINISHED] = version, str(state), at
            row[REASON] = "ended; how was lost with the record"
            if state is State.DEAD:
                batch.deaths.append([task_id, at, row[REASON], None, None, None])
        self._write(batch)

    def restart(self, epoch: int, broker: str) -> None:
        """Let the record begin to count anew, in *epoch* and with Redis at *broker*."""
        with self._database.transaction():
            if self._database.execute(_RESTART, (epoch, broker, now_ms(), self.term, epoch)) != 1:
                raise self._late()

    def versions(self, ids: Sequence[str]) -> dict[str, tuple[int, State]]:
        """Version and state of those of *ids* (at most CHUNK) that the record knows."""
        found = self._database.rows(_VERSIONS.format(", ".join("?" * len(ids))), ids) if ids else []
        return {row[0]: (row[1], State(row[2])) for row in found}

    def envelopes(self, ids: Sequence[str]) -> dict[str, bytes]:
        """The envelopes of *ids*, at most CHUNK."""
        found = self._database.rows(_ENVELOPES.format(", ".join("?" * len(ids))), ids) if ids else []
        return {row[0]: bytes(row[1]) for row in found}

    def open_tasks(self) -> Iterator[list[OpenTask]]:
        """All tasks that have not ended in chunks, those that were submitted first before the others of their state."""
        for rows in self._pages(_OPEN, 8):
            yield [OpenTask(*row) for row in rows]

    def open_versions(self) -> Iterator[list[tuple[str, int]]]:
        """Id and version of all tasks that have not ended, in chunks."""
        for rows in self._pages(_OPEN_VERSIONS, 2):
            yield [(row[0], row[1]) for row in rows]

    def count_open(self) -> int:
        """How many tasks have not ended."""
        return sum(self._database.rows(_COUNT, (str(state),))[0][0] for state in OPEN_STATES)

    def keys(self, since: int) -> Iterator[list[tuple[str, str, str, int]]]:
        """Key, task, fingerprint and end (ms) of idempotency keys whose task ended after *since*, latest first."""
        at, last = _NEVER, ""
        while rows := self._database.rows(_KEYS, (since, at, last, at, CHUNK)):
            yield [(row[0], row[1], row[2] or "", row[3]) for row in rows]
            at, last = rows[-1][3], rows[-1][1]

    def windows(self, now: int) -> Iterator[list[tuple[str, str, int]]]:
        """Fingerprint, task and end (ms) of the unique windows that end after *now*."""
        last = ""
        while rows := self._database.rows(_WINDOWS, (now, last, CHUNK)):
            yield [(row[0], row[1], row[2]) for row in rows]
            last = rows[-1][0]

    def ended_lately(self, since: int, limit: int) -> list[tuple[str, int, State, int]]:
        """Id, version, state and end (ms) of at most *limit* tasks of each final state that ended after *since*."""
        rows = [row for state in FINAL for row in self._database.rows(_ENDED, (str(state), since, limit))]
        return [(row[0], row[1], State(row[2]), row[3]) for row in rows]

    def settings(self) -> list[tuple[str, str, str]]:
        """Section, key and value of every setting."""
        return [(row[0], row[1], row[2]) for row in self._database.rows(_SETTINGS)]

    def handlers(self) -> list[tuple[str, str]]:
        """Name and row of every handler."""
        return [(row[0], row[1]) for row in self._database.rows(_HANDLERS)]

    def _pages(self, statement: str, created_at: int) -> Iterator[list[tuple[Any, ...]]]:
        for state in OPEN_STATES:
            at, last = 0, ""
            while rows := self._database.rows(statement, (str(state), at, last, at, CHUNK)):
                yield rows
                at, last = rows[-1][created_at], rows[-1][0]

    def _write(self, batch: Batch) -> None:
        with self._database.transaction():
            self._hold()
            self._database.write(batch)

    def _commit(self, entries: Sequence[JournalEntry], done: Applied, batch: Batch) -> None:
        if self._guards_ends:
            self._leave_ends(batch)
        super()._commit(entries, done, batch)

    def _advance(self, old: Checkpoint, new: Checkpoint) -> None:
        self._hold()

    def _hold(self) -> None:
        if self._database.execute(_HOLD, (now_ms(), self.term)) != 1:
            raise self._late()

    def _late(self) -> LeaseLost:
        return LeaseLost(f"term {self.term} of the repair is over: a later one mends now")

    def _leave_ends(self, batch: Batch) -> None:
        """Take out of *batch* what it tells of tasks that ended for good, but for what an operator let run again."""
        known = Lookup(self._database).states([*batch.new, *batch.changed, *batch.succeeded])
        reset = {task_id for task_id, _ in batch.resets}
        gone = {
            task_id
            for task_id, state in known.items()
            if state is State.SUCCEEDED or (state in FINAL and task_id not in reset)
        }
        for task_id in gone:
            batch.new.pop(task_id, None)
            batch.changed.pop(task_id, None)
            batch.succeeded.pop(task_id, None)
            batch.finished.pop(task_id, None)
        batch.attempts = {key: row for key, row in batch.attempts.items() if key[0] not in gone}
        batch.resets = [item for item in batch.resets if item[0] not in gone]
        batch.deaths = [item for item in batch.deaths if item[0] not in gone]


def _add_live(batch: Batch, task: Live, at: int) -> None:
    envelope = Envelope.from_bytes(task.envelope)
    is_final = task.state in FINAL
    has_mark = task.idempotency_key or envelope.unique_ms
    mark = fingerprint(envelope.handler, envelope.payload) if has_mark else None
    if mark and envelope.unique_ms:
        batch.windows[mark] = [mark, task.id, task.created_at + envelope.unique_ms]
    values = {
        "id": task.id,
        "tail": task.id[: -TAIL_LENGTH - 1 : -1],
        "version": task.version,
        "state": str(task.state),
        "handler": envelope.handler,
        "queue": task.queue,
        "priority": task.priority,
        "created_at": task.created_at,
        "max_retries": task.max_retries,
        "started_at": task.started_at or None,
        "finished_at": at if is_final else None,
        "worker": task.worker,
        "result": Detail.from_bytes(task.detail).result if is_final else None,
        "envelope": task.envelope,
        "scheduled_at": task.due_at or None,
        "expires_at": task.expires_at or None,
        "timeout_ms": envelope.timeout_ms or None,
        "tags": json.dumps(envelope.tags) if envelope.tags else None,
        "tenant": envelope.tenant,
        "correlation_id": envelope.correlation_id,
        "parent": envelope.parent,
        "failures": task.failures,
        "deaths": task.deaths,
        "reason": task.cancel_reason or None,
        "cancel_requested_at": at if task.is_cancel_requested and not is_final else None,
        "idempotency_key": task.idempotency_key or None,
        "fingerprint": mark,
    }
    batch.new[task.id] = [values.get(name) for name in TASK_ORDER]
    batch.tags.extend([name, value, task.created_at, task.id] for name, value in envelope.tags.items())
    if task.state is State.RUNNING:
        started = task.started_at or at
        batch.attempts[task.id, task.attempts] = [
            task.id,
            task.attempts,
            task.version,
            None,
            task.worker,
            started,
            None,
        ]
    if task.state is State.DEAD:
        batch.deaths.append([task.id, at, None, None, None, None])
