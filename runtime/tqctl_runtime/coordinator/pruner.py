"""The pruner: deletes from the record what is older than the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqctl_runtime.broker.leader_calls import server_time
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.observe.logging import get_logger

if TYPE_CHECKING:
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.store import Store

#: Rows deleted in one transaction: a writer on SQLite waits for it.
CHUNK = 500
#: How long workers that left, and what is known of their coming and going, stay in the record, ms.
WORKERS_KEPT_MS = 30 * 86_400_000
#: How long results of checks stay in the record, ms.
HEALTH_KEPT_MS = 30 * 86_400_000
_log = get_logger("pruner")


class Pruner:
    """Deletes a chunk of everything that is too old."""

    def __init__(self, *, store: Store, wire: Wire, term: int, settings: Settings) -> None:
        self._wire = wire
        self._pruning = store.pruning
        self._health = store.health
        self._term = term
        self._settings = settings

    def run_once(self, now: int = 0) -> int:
        """Delete at most a chunk of each kind; returns the rows deleted. *now* is ms, 0 for the clocks'.

        Raises:
            LeaseLost: the term is over.
            Unavailable: a store cannot be reached.
        """
        # Of two clocks the earlier one: what is deleted because a clock was wrong never comes back.
        now = now or min(now_ms(), self._wire.call_idempotent(server_time()))
        settings, pruning, term = self._settings, self._pruning, self._term
        deleted = 0
        if settings.dead_letter_retention:
            deleted += pruning.dead_letters(now - settings.dead_letter_retention, limit=CHUNK, term=term)
        if settings.task_retention:
            before = now - settings.task_retention
            deleted += pruning.tasks(before, limit=CHUNK, term=term)
            deleted += pruning.events(before, limit=CHUNK, term=term)
        deleted += pruning.windows(now, limit=CHUNK, term=term)
        deleted += self._health.prune(now - HEALTH_KEPT_MS, term=term)
        deleted += pruning.workers(now - WORKERS_KEPT_MS, limit=CHUNK, term=term)
        if deleted:
            _log.info("pruned", rows=deleted)
        return deleted
