"""Deleting what is old, in small transactions under the leader's term."""

from __future__ import annotations

from tqctl_runtime.core.errors import LeaseLost
from tqctl_runtime.record.database import Database

#: The role whose term a deletion is checked against: the one under which a coordinator's roles work.
ROLE = "coordinator"
_TERM = "SELECT term FROM terms WHERE role = ?"
_OLD_TASKS = (
    "SELECT id FROM tasks WHERE state = ? AND finished_at IS NOT NULL AND finished_at < ? ORDER BY finished_at LIMIT ?"
)
_FINAL_STATES = ("succeeded", "dead", "cancelled", "expired")
_OF_TASKS = (
    "DELETE FROM attempts WHERE task_id IN ({})",
    "DELETE FROM task_tags WHERE task_id IN ({})",
    "DELETE FROM dead_letters WHERE task_id IN ({})",
    "DELETE FROM events WHERE subject IN ({})",
    "DELETE FROM tasks WHERE id IN ({})",
)
_DEAD_LETTERS = (
    "DELETE FROM dead_letters WHERE (task_id, died_at) IN "
    "(SELECT task_id, died_at FROM dead_letters WHERE died_at < ? ORDER BY died_at LIMIT ?)"
)
_EVENTS = (
    "DELETE FROM events WHERE (epoch, stream_id, position) IN "
    "(SELECT epoch, stream_id, position FROM events WHERE at < ? ORDER BY at LIMIT ?)"
)
_WINDOWS = (
    "DELETE FROM windows WHERE fingerprint IN "
    "(SELECT fingerprint FROM windows WHERE ends_at < ? ORDER BY ends_at LIMIT ?)"
)
_WORKER_EVENTS = (
    "DELETE FROM events WHERE subject IN "
    "(SELECT id FROM workers WHERE changed_at < ? AND state <> 'live' ORDER BY changed_at LIMIT ?)"
)
_WORKERS = (
    "DELETE FROM workers WHERE id IN "
    "(SELECT id FROM workers WHERE changed_at < ? AND state <> 'live' ORDER BY changed_at LIMIT ?)"
)


class Pruning:
    """Deletes rows older than an instant (ms), at most *limit* of the leading kind in a call; returns their number.

    Every method raises LeaseLost where *term* is over; then nothing was deleted.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def dead_letters(self, before: int, *, limit: int, term: int) -> int:
        """Letters of tasks that died before; the tasks stay."""
        with self._database.transaction():
            check_term(self._database, term)
            return self._database.execute(_DEAD_LETTERS, (before, limit))

    def tasks(self, before: int, *, limit: int, term: int) -> int:
        """Tasks that were final before, with everything about them."""
        with self._database.transaction():
            check_term(self._database, term)
            ids: list[str] = []
            for state in _FINAL_STATES:
                if len(ids) < limit:
                    ids += [row[0] for row in self._database.rows(_OLD_TASKS, (state, before, limit - len(ids)))]
            if ids:
                places = ", ".join("?" * len(ids))
                for statement in _OF_TASKS:
                    self._database.execute(statement.format(places), ids)
            return len(ids)

    def events(self, before: int, *, limit: int, term: int) -> int:
        """Events from before."""
        with self._database.transaction():
            check_term(self._database, term)
            return self._database.execute(_EVENTS, (before, limit))

    def windows(self, before: int, *, limit: int, term: int) -> int:
        """Unique windows that ended before."""
        with self._database.transaction():
            check_term(self._database, term)
            return self._database.execute(_WINDOWS, (before, limit))

    def workers(self, before: int, *, limit: int, term: int) -> int:
        """Workers that left before, with their events."""
        with self._database.transaction():
            check_term(self._database, term)
            self._database.execute(_WORKER_EVENTS, (before, limit))
            return self._database.execute(_WORKERS, (before, limit))


def check_term(database: Database, term: int) -> None:
    """Make sure, inside of a transaction, that *term* is the coordinator's last one.

    Raises:
        LeaseLost: it is over.
    """
    found = database.rows(_TERM, (ROLE,))
    if not found or found[0][0] != term:
        raise LeaseLost(f"term {term} of the {ROLE} is over")
