"""What was measured of the tasks: how long a handler takes, how many end in a second; from it frames and prefetch."""

from __future__ import annotations

#: Tasks of handlers faster than this pass in frames through one executor, in seconds.
SHORT = 0.001
#: Work in one executor's frames, in seconds and tasks.
FRAME_SECONDS = 0.010
FRAME_TASKS = 500
#: Work claimed ahead, in seconds and tasks.
AHEAD_SECONDS = 0.040
AHEAD_TASKS = 500

_WINDOW = 0.020
_SLOWEST_LEARNING = 0.05


class Pace:
    """Running averages, cheap enough to feed with every task."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[float]] = {}  # name -> [mean seconds, samples]
        self._count = 0
        self._since = 0.0
        self.rate = 0.0

    def ended(self, handler: str, count: int, seconds: float) -> None:
        """*count* tasks of *handler* ended that took *seconds* together."""
        self._count += count
        mean = self._handlers.get(handler)
        if mean is None:
            self._handlers[handler] = [seconds / count, float(count)]
            return
        mean[1] += count
        share = max(1.0 - (1.0 - _SLOWEST_LEARNING) ** count, count / mean[1])
        mean[0] += (seconds / count - mean[0]) * share

    def seconds(self, handler: str) -> float | None:
        """How long a task of *handler* takes; None where none has ended."""
        mean = self._handlers.get(handler)
        return None if mean is None else mean[0]

    def stuck(self, handler: str, seconds: float) -> None:
        """A task of *handler* has run for *seconds* and goes on: until it ends the handler counts as slow."""
        mean = self._handlers.setdefault(handler, [seconds, 1.0])
        mean[0] = max(mean[0], seconds)
        self.rate = 0.0

    def frame_of(self, handler: str) -> int:
        """How many tasks of *handler* one executor may hold; 1 for those that are slow or unknown."""
        mean = self._handlers.get(handler)
        if mean is None or mean[0] > SHORT:
            return 1
        return min(FRAME_TASKS, int(FRAME_SECONDS / max(mean[0], 1e-6)))

    def ahead(self, now: float) -> int:
        """How many tasks to hold so that nobody waits for the next round."""
        passed = now - self._since
        if passed >= _WINDOW:
            fresh = self._count / passed
            self.rate = fresh if passed > 10 * _WINDOW else (self.rate + fresh) / 2
            self._count = 0
            self._since = now
        return min(AHEAD_TASKS, int(self.rate * AHEAD_SECONDS))
