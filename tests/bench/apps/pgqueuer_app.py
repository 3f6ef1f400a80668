"""pgqueuer on PostgreSQL by asyncpg and uvloop: the application (``create``) and its client."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from typing import Any

import asyncpg  # type: ignore[import-not-found,unused-ignore]  # lives in the peer's own environment
import uvloop
from pgqueuer import AsyncpgDriver, PgQueuer, Queries  # type: ignore[import-not-found,unused-ignore]  # as above

from tests.bench.apps.gate import pass_gate
from tests.bench.apps.marks import Marks

_BULK = 1000


@contextlib.asynccontextmanager
async def create() -> AsyncIterator[Any]:
    """What ``pgq run`` starts."""
    marks = Marks.from_environment()
    connection = await asyncpg.connect(os.environ["BENCH_DATABASE_URL"])
    application = PgQueuer(AsyncpgDriver(connection))

    async def noop(job: Any) -> None:
        marks.hit(int(job.payload))

    async def slow(job: Any) -> None:
        number, seconds = job.payload.split()
        marks.hit(int(number))
        await asyncio.sleep(float(seconds))
        marks.hit(int(number) + 1)

    application.entrypoint("noop")(noop)
    application.entrypoint("slow")(slow)
    pass_gate()
    try:
        yield application
    finally:
        await connection.close()


class PgqueuerProducer:
    """``Queries.enqueue``, with lists of 1000 for bulk."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(os.environ["BENCH_DATABASE_URL"]))
        self._queries = Queries(AsyncpgDriver(self._connection))

    def one(self, number: int) -> None:
        """Submit one no-op."""
        self._loop.run_until_complete(self._queries.enqueue("noop", b"%d" % number))

    def each(self, numbers: Sequence[int]) -> None:
        """Submit no-ops one by one inside one event loop run."""
        self._loop.run_until_complete(self._each(numbers))

    async def _each(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            await self._queries.enqueue("noop", b"%d" % number)

    def bulk(self, numbers: Sequence[int]) -> None:
        """Submit no-ops in lists of 1000."""
        self._loop.run_until_complete(self._bulk(numbers))

    async def _bulk(self, numbers: Sequence[int]) -> None:
        for start in range(0, len(numbers), _BULK):
            payloads = [b"%d" % number for number in numbers[start : start + _BULK]]
            await self._queries.enqueue(["noop"] * len(payloads), payloads, [0] * len(payloads))

    def slow(self, number: int, seconds: float) -> None:
        """Submit the sleeping task."""
        self._loop.run_until_complete(self._queries.enqueue("slow", b"%d %f" % (number, seconds)))

    def close(self) -> None:
        """Disconnect."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()


def connect() -> PgqueuerProducer:
    """A connected client."""
    return PgqueuerProducer()
