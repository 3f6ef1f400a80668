"""Lists and counts: SQLAlchemy Core statements, composed from filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from tqctl_runtime.core.states import State
from tqctl_runtime.core.task import Task
from tqctl_runtime.record.filters import After, LetterFilter, Sort, TaskFilter
from tqctl_runtime.record.queries import letters, registry, tasks
from tqctl_runtime.record.read import DeadLetter, ErrorGroup, Event, WorkerRecord

if TYPE_CHECKING:
    from tqctl_runtime.record.database import Database

R = TypeVar("R")


class Queries:
    """Reads the record; every method is one short read transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def _read(self, read: Callable[[Connection], R]) -> R:
        with self._database.guarded(), self._database.engine().connect() as connection:
            return read(connection)

    def tasks(
        self,
        where: TaskFilter | None = None,
        *,
        limit: int = 50,
        sort: Sort | None = None,
        after: After | None = None,
        with_attempts: bool = True,
    ) -> list[Task]:
        """One page of tasks, whole unless *with_attempts* is off. *after* goes on where another page ended."""
        chosen, order = where or TaskFilter(), sort or Sort()
        return self._read(lambda c: tasks.page(c, chosen, limit, order, after, with_attempts=with_attempts))

    def task_ids(self, where: TaskFilter | None = None, *, limit: int = 1_000, after: After | None = None) -> list[str]:
        """Ids of one page of tasks, latest first."""
        return self._read(lambda c: tasks.page_ids(c, where or TaskFilter(), limit, Sort(), after))

    def count_tasks(self, where: TaskFilter | None = None) -> int:
        """How many tasks there are."""
        return self._read(lambda c: tasks.count(c, where or TaskFilter()))

    def counts_by_state(self, where: TaskFilter | None = None) -> dict[State, int]:
        """How many tasks there are in each state, all states included."""
        return self._read(lambda c: tasks.counts_by_state(c, where or TaskFilter()))

    def queues(self, states: Sequence[State]) -> list[str]:
        """The names of queues that have tasks in one of *states*."""
        return self._read(lambda c: tasks.queues(c, states))

    def has_queue(self, name: str) -> bool:
        """Whether there is a task of queue *name*, in any state."""
        return self._read(lambda c: tasks.has_queue(c, name))

    def dead_letters(self, where: LetterFilter | None = None, *, limit: int = 50) -> list[DeadLetter]:
        """Dead letters, latest first."""
        return self._read(lambda c: letters.page(c, where or LetterFilter(), limit))

    def dead_letter_ids(self, where: LetterFilter | None = None, *, limit: int = 1_000) -> list[str]:
        """Tasks that have an open dead letter, latest first."""
        return self._read(lambda c: letters.task_ids(c, where or LetterFilter(), limit))

    def count_dead_letters(self, where: LetterFilter | None = None) -> int:
        """How many dead letters there are."""
        return self._read(lambda c: letters.count(c, where or LetterFilter()))

    def error_groups(self, where: LetterFilter | None = None, *, limit: int = 50) -> list[ErrorGroup]:
        """Dead letters by handler and fingerprint, the largest group first."""
        return self._read(lambda c: letters.groups(c, where or LetterFilter(), limit))

    def events(self, subject: str, *, limit: int = 1_000) -> list[Event]:
        """What was decided about a task, queue or worker, in order."""
        return self._read(lambda c: registry.events(c, subject, limit))

    def handlers(self) -> dict[str, dict[str, Any]]:
        """The catalogue rows by name."""
        return self._read(registry.handlers)

    def workers(self, word: str | None = None, *, limit: int = 100) -> list[WorkerRecord]:
        """Workers that ever registered, the latest change first; with *word* those of that id, end of an id or name."""
        return self._read(lambda c: registry.workers(c, limit, word))

    def settings(self, section: str) -> dict[str, Any]:
        """The settings of a section, such as ``pause``, by key."""
        return self._read(lambda c: registry.settings(c, section))
