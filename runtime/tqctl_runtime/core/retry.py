"""When a failed task runs again: pure arithmetic, the same answer for the same task and failure."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Literal

from tqctl_runtime.core.errors import UsageError

Kind = Literal["exponential", "linear", "fixed", "list"]
_KINDS = ("exponential", "linear", "fixed", "list")


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delays between the attempts of one task.

    ``exponential`` waits base·2^n, ``linear`` base·(n+1), ``fixed`` base, ``list`` the n-th of *delays* and then the
    last again; all capped at *cap* and spread by ±*jitter* (a share). *base*, *cap* and *delays* are seconds.
    """

    kind: Kind = "exponential"
    base: float = 1.0
    cap: float = 3600.0
    jitter: float = 0.2
    delays: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in _KINDS:
            raise UsageError(f"backoff kind {self.kind!r} is none of {', '.join(_KINDS)}")
        if self.base < 0 or self.cap < 0 or not 0 <= self.jitter < 1 or any(d < 0 for d in self.delays):
            raise UsageError("a backoff needs base, cap and delays of 0 or more and a jitter below 1")
        if self.kind == "list" and not self.delays:
            raise UsageError("a backoff of kind 'list' needs at least one delay")

    def delay_ms(self, task_id: str, failures: int) -> int:
        """Milliseconds to wait after failure number *failures* (1 is the first)."""
        n = max(failures - 1, 0)
        if self.kind == "list":
            seconds = self.delays[min(n, len(self.delays) - 1)]
        elif self.kind == "linear":
            seconds = self.base * (n + 1)
        elif self.kind == "fixed":
            seconds = self.base
        else:
            seconds = self.base * 2.0 ** min(n, 60)
        # Seeded, so that a repeated report of the same failure computes the same instant.
        spread = random.Random(f"{task_id}:{failures}").uniform(1 - self.jitter, 1 + self.jitter)
        return round(min(seconds, self.cap) * spread * 1000)

    def to_wire(self) -> list[Any]:
        """The form kept in envelopes and catalogue rows."""
        return [self.kind, self.base, self.cap, self.jitter, list(self.delays)]

    @classmethod
    def from_wire(cls, row: list[Any]) -> Backoff:
        """The reverse of :meth:`to_wire`."""
        kind, base, cap, jitter, delays = row
        return cls(kind, base, cap, jitter, tuple(delays))


#: 1, 2, 4, 8, 16 s, each ± 20 %.
DEFAULT_BACKOFF = Backoff()
DEFAULT_MAX_RETRIES = 5
#: A task that was started alone this often and each time took its process along is dead as ``poison``.
MAX_DEATHS = 3
