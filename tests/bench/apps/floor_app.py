"""The floors: what redis-py can do with a bare list, one by one and in Lua batches of 100.

``python -m tests.bench.apps.floor_app single|lua`` is the worker. Nothing is kept, nothing is retried.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import redis

from tests.bench.apps.gate import pass_gate
from tests.bench.apps.marks import Marks

_QUEUE, _TAKEN = "floor:queue", "floor:taken"
_BULK = 1000
_TAKE_100 = """
redis.call('DEL', KEYS[2])
local taken = redis.call('RPOP', KEYS[1], 100)
if taken then redis.call('RPUSH', KEYS[2], unpack(taken)) end
return taken or {}
"""


class FloorProducer:
    """LPUSH, and LPUSH in pipelines of 1000."""

    def __init__(self) -> None:
        self._redis = redis.Redis.from_url(os.environ["BENCH_REDIS_URL"], protocol=2)

    def one(self, number: int) -> None:
        """Push one number."""
        self._redis.lpush(_QUEUE, number)

    def each(self, numbers: Sequence[int]) -> None:
        """Push numbers one by one."""
        push = self._redis.lpush
        for number in numbers:
            push(_QUEUE, number)

    def bulk(self, numbers: Sequence[int]) -> None:
        """Push numbers in pipelines."""
        for start in range(0, len(numbers), _BULK):
            with self._redis.pipeline(transaction=False) as pipeline:
                for number in numbers[start : start + _BULK]:
                    pipeline.lpush(_QUEUE, number)
                pipeline.execute()

    def slow(self, number: int, seconds: float) -> None:
        """Refuse: a floor has nothing that could run a task again."""
        raise NotImplementedError("a floor has no redelivery")

    def close(self) -> None:
        """Disconnect."""
        self._redis.close()


def connect() -> FloorProducer:
    """A client; it connects with its first call."""
    return FloorProducer()


def work_single(server: redis.Redis, marks: Marks) -> None:
    """BLMOVE, run, LREM; for ever."""
    while True:
        taken = server.blmove(_QUEUE, _TAKEN, 5, "RIGHT", "LEFT")
        if taken is not None:
            marks.hit(int(taken))
            server.lrem(_TAKEN, 1, str(int(taken)))


def work_lua(server: redis.Redis, marks: Marks) -> None:
    """Take 100 and acknowledge the 100 before in one script call; block when there is nothing; for ever."""
    take = server.register_script(_TAKE_100)
    while True:
        for item in take(keys=[_QUEUE, _TAKEN]):
            marks.hit(int(item))
        if not server.llen(_QUEUE):
            taken = server.blmove(_QUEUE, _TAKEN, 5, "RIGHT", "LEFT")
            if taken is not None:
                marks.hit(int(taken))


if __name__ == "__main__":
    pass_gate()
    _work = {"single": work_single, "lua": work_lua}[sys.argv[1]]
    _work(redis.Redis.from_url(os.environ["BENCH_REDIS_URL"], protocol=2), Marks.from_environment())
