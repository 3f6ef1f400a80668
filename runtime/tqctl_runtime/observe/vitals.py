"""Signs of life of one process: which parts of its loop come round, and which of them were answered.

Alive means that the loop turns, whatever the servers do: a restart would lose finished results that wait for a broker
to come back, and would mend nothing. Ready means that the servers answer too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


class Vitals:
    """The parts of one process.

    *limits* is how many seconds may pass until a part comes round again, *answers* (by default the same) until it is
    answered again.
    """

    def __init__(
        self,
        limits: Mapping[str, float] | None = None,
        *,
        answers: Mapping[str, float] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = dict(limits or {})
        self._answers = dict(answers or self._limits)
        self._clock = clock
        self._turned: dict[str, float] = {}
        self._answered: dict[str, float] = {}

    def turned(self, part: str) -> None:
        """Tell that *part* came round, whether it was answered or not."""
        self._turned[part] = self._clock()

    def answered(self, part: str) -> None:
        """Tell that *part* came round and had its answer, or had nothing to ask."""
        self._turned[part] = self._answered[part] = self._clock()

    def paused(self, part: str) -> None:
        """Tell that *part* has nothing to do for a while: until it turns again, it says nothing of the process."""
        self._turned.pop(part, None)
        self._answered.pop(part, None)

    @property
    def stuck(self) -> list[str]:
        """The parts that began and did not come round in time."""
        return self._late(self._turned, self._limits)

    @property
    def is_alive(self) -> bool:
        """Whether every part that has begun comes round."""
        return not self.stuck

    @property
    def is_ready(self) -> bool:
        """Whether every part has begun, comes round, and is answered."""
        has_begun = self._answers.keys() <= self._answered.keys()
        return has_begun and not self.stuck and not self._late(self._answered, self._answers)

    def _late(self, marks: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
        now = self._clock()
        return [part for part, at in marks.items() if now - at > limits.get(part, float("inf"))]
