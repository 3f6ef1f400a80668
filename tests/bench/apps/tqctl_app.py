"""tqctl: the application and its client."""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.bench.apps.gate import pass_gate
from tests.bench.apps.marks import Marks
from tqctl import Client, handler

_marks = Marks.from_environment()


@handler
def noop(number: int) -> None:
    """Mark *number*."""
    _marks.hit(number)


@handler
def slow(number: int, seconds: float) -> None:
    """Mark *number*, sleep, mark the next."""
    _marks.hit(number)
    time.sleep(seconds)
    _marks.hit(number + 1)


pass_gate()


class TqctlProducer:
    """The Python client with its default durability, ``accepted``."""

    def __init__(self) -> None:
        self._client = Client()

    def one(self, number: int) -> None:
        """Submit one no-op."""
        self._client.submit(noop, {"number": number})

    def each(self, numbers: Sequence[int]) -> None:
        """Submit no-ops one by one."""
        submit = self._client.submit
        for number in numbers:
            submit(noop, {"number": number})

    def bulk(self, numbers: Sequence[int]) -> None:
        """Submit no-ops by ``submit_many``."""
        self._client.submit_many((noop, {"number": number}) for number in numbers)

    def slow(self, number: int, seconds: float) -> None:
        """Submit the sleeping task."""
        self._client.submit(slow, {"number": number, "seconds": seconds})

    def close(self) -> None:
        """Disconnect."""
        self._client.close()


def connect() -> TqctlProducer:
    """A client of the context that the environment names."""
    return TqctlProducer()
