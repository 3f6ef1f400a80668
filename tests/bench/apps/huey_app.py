"""huey on Redis: the application and its client."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from huey import RedisHuey  # type: ignore[import-not-found,unused-ignore]  # lives in the peer's own environment

from tests.bench.apps.gate import pass_gate
from tests.bench.apps.marks import Marks

huey = RedisHuey("bench", url=os.environ["BENCH_REDIS_URL"])
_marks = Marks.from_environment()


def _noop(number: int) -> None:
    _marks.hit(number)


def _slow(number: int, seconds: float) -> None:
    _marks.hit(number)
    time.sleep(seconds)
    _marks.hit(number + 1)


noop = huey.task(name="noop")(_noop)
slow = huey.task(name="slow")(_slow)
pass_gate()


class HueyProducer:
    """Calls of the decorated functions; huey has no bulk call."""

    def one(self, number: int) -> None:
        """Submit one no-op."""
        noop(number)

    def each(self, numbers: Sequence[int]) -> None:
        """Submit no-ops one by one."""
        for number in numbers:
            noop(number)

    bulk = each

    def slow(self, number: int, seconds: float) -> None:
        """Submit the sleeping task."""
        slow(number, seconds)

    def close(self) -> None:
        """Nothing to do: the connection pool closes with the process."""


def connect() -> HueyProducer:
    """A client; it connects with its first call."""
    return HueyProducer()
