"""dramatiq on Redis, without a result backend (its documented default): the application and its client."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import dramatiq  # type: ignore[import-not-found,unused-ignore]  # lives in the peer's own environment
from dramatiq.brokers.redis import RedisBroker  # type: ignore[import-not-found,unused-ignore]  # as above

from tests.bench.apps.gate import pass_gate
from tests.bench.apps.marks import Marks

broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"])
dramatiq.set_broker(broker)
_marks = Marks.from_environment()


def _noop(number: int) -> None:
    _marks.hit(number)


def _slow(number: int, seconds: float) -> None:
    _marks.hit(number)
    time.sleep(seconds)
    _marks.hit(number + 1)


noop = dramatiq.actor(_noop, actor_name="noop")
slow = dramatiq.actor(_slow, actor_name="slow")
pass_gate()


class DramatiqProducer:
    """``actor.send``; dramatiq has no bulk call."""

    def one(self, number: int) -> None:
        """Submit one no-op."""
        noop.send(number)

    def each(self, numbers: Sequence[int]) -> None:
        """Submit no-ops one by one."""
        for number in numbers:
            noop.send(number)

    bulk = each

    def slow(self, number: int, seconds: float) -> None:
        """Submit the sleeping task."""
        slow.send(number, seconds)

    def close(self) -> None:
        """Close the broker's connections."""
        broker.close()


def connect() -> DramatiqProducer:
    """A client; it connects with its first call."""
    return DramatiqProducer()
