"""Tasks under suspicion: one at a time at a worker, alone in its executor, so that the next death names the culprit."""

from __future__ import annotations

from collections.abc import Callable

from tqctl_runtime.core.states import Outcome
from tqctl_runtime.worker.ends import Ended
from tqctl_runtime.worker.executor_link import Held
from tqctl_runtime.worker.pool import Pool

#: Before a suspect that cannot run here now may be claimed again, in milliseconds.
_AGAIN_MS = 1_000


class Suspects:
    """The one suspect of a worker: the broker hears of its start, then it runs.

    In this order, so that its start is what is charged should the whole worker die of it.
    """

    def __init__(self, pool: Pool, end: Callable[[Ended], None]) -> None:
        self._pool = pool
        self._end = end
        self._held: Held | None = None
        self._is_waiting = False

    @property
    def waiting(self) -> Held | None:
        """The suspect that was claimed and does not run yet."""
        return self._held if self._is_waiting else None

    @property
    def is_wanted(self) -> bool:
        """Whether one could be run alone now."""
        return (self._held is None or self._held.is_over) and self._pool.free > 0

    def add(self, held: Held) -> None:
        """Take the claimed suspect *held*."""
        if self._held is not None and not self._held.is_over:
            self._end(Ended(held, Outcome.RELEASED, _AGAIN_MS, reason="another suspect is here"))
            return
        self._held, self._is_waiting = held, True

    def untold(self, now: float) -> list[Held]:
        """The suspect that starts once the broker has heard of it: its start counts from *now*."""
        held = self.waiting
        if held is None:
            return []
        held.started_at = held.started_at or now
        return [held]

    def told(self, held: Held, *, may_start: bool) -> None:
        """The broker has heard that *held* starts: run it, if it is the one that waits."""
        if held is not self.waiting:
            return
        self._is_waiting = False
        if held.doom or not may_start or not self._pool.run_alone(held):
            again = 0 if held.doom else _AGAIN_MS
            self._end(Ended(held, Outcome.RELEASED, again, reason="no executor for it alone"))

    def release(self, reason: str, *, doom: int = 0) -> None:
        """Give back the one that waits, or let go of it for *doom*."""
        held = self.waiting
        if held is not None:
            self._is_waiting = False
            held.doom = held.doom or doom
            self._end(Ended(held, Outcome.RELEASED, reason=reason))
