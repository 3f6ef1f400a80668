# ruff: noqa: S608  statements are put together from our own column names; values are always parameters
"""Single tasks by id. Fixed statements on the driver: a shell command that shows one task loads no SQLAlchemy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tqctl_runtime.core.errors import AmbiguousId, NotFound
from tqctl_runtime.core.ids import TAIL_LENGTH, TAIL_MINIMUM, is_task_id
from tqctl_runtime.core.states import State
from tqctl_runtime.core.task import Attempt, Task
from tqctl_runtime.record.database import Database
from tqctl_runtime.record.read import ATTEMPT_COLUMNS, TASK_COLUMNS, Revival, attempts_by_task, task_of

_TASKS = f"SELECT {', '.join(TASK_COLUMNS)} FROM tasks WHERE id IN ({{}})"
_ATTEMPTS = f"SELECT {', '.join(ATTEMPT_COLUMNS)} FROM attempts WHERE task_id IN ({{}}) ORDER BY task_id, number"
_STATES = "SELECT id, state FROM tasks WHERE id IN ({})"
_LOGS = "SELECT number, log, log_dropped FROM attempts WHERE task_id = ? ORDER BY number"
_TAIL = "SELECT id FROM tasks WHERE tail >= ? AND tail < ? ORDER BY created_at DESC LIMIT ?"
_REVIVALS = (
    "SELECT id, state, envelope, version, COALESCE((SELECT MAX(number) FROM attempts WHERE task_id = tasks.id), 0), "
    "queue, priority, max_retries, COALESCE(idempotency_key, ''), COALESCE(fingerprint, ''), created_at "
    "FROM tasks WHERE id IN ({})"
)
_QUARANTINED = "SELECT COUNT(*) FROM quarantine WHERE epoch >= ?"
#: Ids in one statement.
_CHUNK = 500
#: Above every character of an id.
_LAST = "~"


class Lookup:
    """Reads about single tasks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def task(self, task_id: str) -> Task | None:
        """The task with its attempts; None where the record does not know it."""
        return self.tasks([task_id]).get(task_id)

    def tasks(self, ids: Sequence[str]) -> dict[str, Task]:
        """The tasks that are known of *ids*, with their attempts."""
        attempts = self.attempts(ids)
        return {row[0]: task_of(row, attempts.get(row[0], ())) for row in self._each(_TASKS, ids)}

    def attempts(self, ids: Sequence[str]) -> dict[str, list[Attempt]]:
        """The attempts of *ids* in their order; nothing for tasks that had none."""
        return attempts_by_task(self._each(_ATTEMPTS, ids))

    def states(self, ids: Sequence[str]) -> dict[str, State]:
        """The states of the tasks that are known of *ids*."""
        return {row[0]: State(row[1]) for row in self._each(_STATES, ids)}

    def quarantined(self, epoch: int = 0) -> int:
        """How many journal entries could not be recorded since *epoch* began."""
        return int(self._database.rows(_QUARANTINED, (epoch,))[0][0])

    def logs(self, task_id: str) -> list[tuple[int, bytes, int]]:
        """Of each attempt its number, what was kept of its log, and the bytes cut out of the middle."""
        rows = self._database.rows(_LOGS, (task_id,))
        return [(number, bytes(log or b""), dropped or 0) for number, log, dropped in rows]

    def revivals(self, ids: Sequence[str]) -> dict[str, Revival]:
        """What the broker needs to run *ids* again, of those that are known."""
        found = {}
        for task_id, state, envelope, version, *rest in self._each(_REVIVALS, ids):
            epoch, v = version >> 32, version & 0xFFFFFFFF
            found[task_id] = Revival(task_id, State(state), bytes(envelope), epoch, v, *rest)
        return found

    def candidates(self, tail: str, limit: int = 10) -> list[str]:
        """Ids that end with *tail*, in any case, latest first."""
        wanted = tail.upper()
        prefix = wanted[: -TAIL_LENGTH - 1 : -1]
        # A tail longer than the column is compared whole; eight random characters leave few to compare.
        few = limit if len(wanted) <= TAIL_LENGTH else 1_000
        rows = self._database.rows(_TAIL, (prefix, prefix + _LAST, few))
        return [row[0] for row in rows if row[0].upper().endswith(wanted)][:limit]

    def resolve(self, tail: str) -> str:
        """The one id that *tail* means: a whole id as it is, whether the record knows it or not.

        Raises:
            NotFound: no id ends so, or the tail is too short.
            AmbiguousId: several do.
        """
        whole = "tsk_" + tail.upper().removeprefix("TSK_")
        if is_task_id(whole):
            return whole
        if len(tail) < TAIL_MINIMUM:
            raise NotFound(f"{tail!r} is too short", hint=f"give at least the last {TAIL_MINIMUM} characters of the id")
        found = self.candidates(tail)
        if not found:
            raise NotFound(f"no task's id ends with {tail!r}", hint="tqctl task list")
        if len(found) > 1:
            raise AmbiguousId(tail, found)
        return found[0]

    def _each(self, statement: str, ids: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        wanted = list(dict.fromkeys(ids))
        for start in range(0, len(wanted), _CHUNK):
            chunk = wanted[start : start + _CHUNK]
            yield from self._database.rows(statement.format(", ".join("?" * len(chunk))), chunk)
