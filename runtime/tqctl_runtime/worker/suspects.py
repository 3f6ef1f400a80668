"""Tasks under suspicion: each is told to the broker before it starts, and runs alone in its executor."""

from __future__ import annotations

from collections.abc import Callable

from tqctl_runtime.core.states import Outcome
from tqctl_runtime.worker.ends import Ended
from tqctl_runtime.worker.executor_link import Held
from tqctl_runtime.worker.pool import Pool

#: Before a suspect that cannot run here now may be claimed again, in milliseconds.
_AGAIN_MS = 1_000


class Suspects:
    """Starts suspects one after another: the broker hears of the start, then the task runs.

    In this order, so that its start is what is charged should the whole worker die of it. Several may run at once,
    or what a lost worker ran would come back one task at a time.
    """

    def __init__(self, pool: Pool, end: Callable[[Ended], None]) -> None:
        self._pool = pool
        self._end = end
        #: The suspect that was claimed and does not run yet.
        self.waiting: Held | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether one could be run alone now."""
        return self.waiting is None and self._pool.free > 0

    def add(self, held: Held) -> None:
        """Take the claimed suspect *held*."""
        if self.waiting is not None:
            self._end(Ended(held, Outcome.RELEASED, _AGAIN_MS, reason="another suspect is about to start"))
            return
        self.waiting = held

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
        self.waiting = None
        if held.doom or not may_start or not self._pool.run_alone(held):
            again = 0 if held.doom else _AGAIN_MS
            self._end(Ended(held, Outcome.RELEASED, again, reason="no executor for it alone"))

    def release(self, reason: str, *, doom: int = 0) -> None:
        """Give back the one that waits, or let go of it for *doom*."""
        held = self.waiting
        if held is not None:
            self.waiting = None
            held.doom = held.doom or doom
            self._end(Ended(held, Outcome.RELEASED, reason=reason))
