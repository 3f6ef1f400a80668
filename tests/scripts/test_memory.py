"""A server whose memory is full: new work is refused, everything that ends work goes on (own servers only)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.scripts.rig import Rig, task
from tests.support.servers import RedisServer, own_redis_binary, start_redis, valkey_binary
from tqctl_runtime.broker import leader_calls, worker_calls
from tqctl_runtime.core.errors import Busy
from tqctl_runtime.core.states import Outcome, State

#: Of the held task.
TOKEN = "1-1-w1-1"


@pytest.fixture(params=[valkey_binary, own_redis_binary], ids=["valkey", "redis7"])
def full(request: pytest.FixtureRequest) -> Iterator[Rig]:
    """A rig with a leader, one held, one queued and one scheduled task on a server that takes no more."""
    server: RedisServer = start_redis(request.param())
    try:
        with server.client() as client:
            yield _fill(client)
    finally:
        server.stop()


def _fill(client: redis.Redis) -> Rig:
    rig = Rig(client, "full")
    rig.lead()
    rig.submit(task("held"), task("queued"), task("scheduled", delay_ms=1), task("lost"))
    rig.claim("w2", 0)
    assert [(one.id, one.token) for one in rig.claim("w1", 1)] == [("held", TOKEN)]
    rig.raw("CONFIG", "SET", "maxmemory", "1mb")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        rig.raw("SET", "{tq:full}:x", "1")
    return rig


def test_a_submit_is_refused_as_busy_and_changes_nothing(full: Rig) -> None:
    with full.changes() as seen, pytest.raises(Busy) as busy:
        full.submit(task("A"))
    assert busy.value.retry_after == 5
    assert (seen.keys, seen.rows) == ({}, [])


def test_finishing_goes_on(full: Rig) -> None:
    begun = worker_calls.started("held", TOKEN, 1)
    end = worker_calls.finished("held", TOKEN, Outcome.SUCCEEDED, since_start_ms=1, detail=b"d" * 10_000)
    assert full.round(started=[begun], finished=[end], places=1).codes == [1]
    assert full.live("held").state is State.SUCCEEDED
    assert full.forget(("held", 3)) == []
    assert full.look("held") == [None]


def test_leases_leaders_and_operators_go_on(full: Rig) -> None:
    assert full.beat("w1", answered=0).is_known
    assert full.lead().is_leader
    assert full.cancel("queued", "held") == [1, 2]
    full.now += 1
    assert full.promote() == (1, 1)
    full.marks(is_memory_short=True)
    full.reap()
    full.pause()
    full.resume()
    full.watch("lost")
    full.do(worker_calls.note(full.keys, [("held", TOKEN, "{}", b"x")]))
    full.do(leader_calls.coordinator_beat(full.keys, "c1", {}))
    last = full.do(leader_calls.journal_last(full.keys)) or ""
    publish = leader_calls.publish(full.keys, term=1, epoch=1, seq=1, stream_id=last, rows=1, size=1, now=full.now)
    assert full.do(publish).entries > 0
    assert full.leave("w1") == 1
    full.join("w3")


def test_work_goes_on_with_room_to_breathe(full: Rig) -> None:
    with pytest.raises(Busy):
        full.submit(task("A"))
    full.raw("CONFIG", "SET", "maxmemory", "0")
    assert full.submit(task("A")).accepted[0].state is State.QUEUED
