"""A worker that cannot reach its broker, or stands still: nothing runs past its lease but what may overlap."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.test_worker_faults import hold, stopped
from tests.integration.worker_rig import is_alive
from tests.integration.worker_world import TERM, World, lines_of
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.wait import wait_until
from tqctl_runtime.broker import leader_calls, worker_calls
from tqctl_runtime.broker.views import LiveWorker
from tqctl_runtime.core.states import State


@pytest.fixture
def world(own_redis: RedisServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with World(own_redis.url, namespace, tmp_path) as ready:
        yield ready


class Stamps:
    """What a handler wrote that tells again and again that it lives."""

    def __init__(self, world: World, folder: Path, handler: str) -> None:
        self.path, self.until = folder / handler, folder / f"until-{handler}"
        (self.id,) = world.submit(handler, {"path": str(self.path), "until": str(self.until)})

    @property
    def pid(self) -> int:
        """The process that wrote last."""
        return int(self.path.read_text().split()[0])

    @property
    def at(self) -> int:
        """When it wrote last, in milliseconds since 1970."""
        return int(self.path.read_text().split()[1])


def restarted_leader(world: World) -> int:
    """The term of a leader that took over from the world's."""
    for holder, term, lease_ms in (("test", TERM, 0), ("new", TERM + 1, 60_000)):
        call = leader_calls.elect(world.keys, role="coordinator", holder=holder, term=term, lease_ms=lease_ms)
        reply = world.wire.call(call)
    assert reply.is_leader
    return TERM + 1


def only_worker(world: World) -> LiveWorker:
    (worker,) = world.overview().workers
    return worker


@pytest.mark.slow  # a lease of 5 s has to run out, short ones leave too little time between the kill and their end
def test_the_executors_of_a_stopped_supervisor_are_dead_before_its_lease_ends(world: World, tmp_path: Path) -> None:
    worker = world.worker(lease=5_000)
    killed = [Stamps(world, tmp_path, handler) for handler in ("stamp", "async_stamp")]
    living = Stamps(world, tmp_path, "overlapping_stamp")
    every = [*killed, living]
    world.until_state(State.RUNNING, *[one.id for one in every])
    worker.signal(signal.SIGSTOP)
    end = only_worker(world).lease_until
    wait_until(lambda: living.at > end, "the end of the lease")
    assert [one.at < end for one in every] == [True, True, False]
    assert [is_alive(one.pid) for one in every] == [False, False, True]
    worker.signal(signal.SIGCONT)
    wait_until(lambda: only_worker(world).lease_until > end, "a renewal, before anybody leads and reaps")
    for one in every:
        one.until.touch()
    world.until_state(State.SUCCEEDED, *[one.id for one in every])
    assert [world.outcomes(one.id) for one in every] == [["released", "succeeded"]] * 2 + [["succeeded"]]
    assert [(task.failures, task.deaths) for task in world.look(*[one.id for one in every])] == [(0, 0)] * 3


@pytest.mark.slow  # the broker is away until the trust of a lease of 3 s is over, and until a round times out
def test_what_may_overlap_runs_on_in_an_outage_and_counts_also_before_a_restarted_coordinator(
    world: World, own_redis: RedisServer, tmp_path: Path
) -> None:
    worker = world.worker(lease=3_000)
    task_id = hold(world, tmp_path, "overlapping_hold")
    world.until_state(State.RUNNING, task_id)
    (pid,) = lines_of(tmp_path / "started")
    with stopped(own_redis):
        wait_until(lambda: "could not be renewed" in worker.log, "the end of its trust")
        assert is_alive(int(pid))
        (tmp_path / "until").touch()
        wait_until(lambda: "waits for the broker" in worker.log, "a result that waits")
    new = restarted_leader(world)
    assert world.wire.call(leader_calls.reap(world.keys, term=new, interval_ms=1_000, lease_ms=3_000)).workers == 0
    (task,) = wait_until(lambda: [t for t in world.look(task_id) if t.state is State.SUCCEEDED], "its end")
    assert (task.attempts, task.failures, task.deaths) == (1, 0, 0)
    assert world.detail(task).result == pid.encode()
    assert "stale" not in world.overview().counters


@pytest.mark.slow  # a lease of 5 s has to run out
def test_a_worker_cut_off_kills_in_time_and_its_late_ends_are_refused(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    with Proxy(own_redis.url) as proxy, World(own_redis.url, namespace, tmp_path) as world:
        first = world.worker(redis_url=proxy.url, lease=5_000)
        finished = hold(world, tmp_path)
        stamps = Stamps(world, tmp_path, "stamp")
        world.until_state(State.RUNNING, finished, stamps.id)
        pid, end = stamps.pid, only_worker(world).lease_until
        proxy.pause()
        (tmp_path / "until").touch()
        wait_until(lambda: not is_alive(pid), "the end of the executor")
        assert stamps.at < max(end, only_worker(world).lease_until)
        world.worker(lease=30_000)
        world.until(lambda: len(lines_of(tmp_path / "started")) == 2, "its second run")
        world.until(lambda: stamps.pid != pid, "the second run of what was killed")
        stamps.until.touch()
        tasks = world.until_state(State.SUCCEEDED, finished, stamps.id)
        proxy.resume()
        wait_until(lambda: world.overview().counters.get("stale") == 2, "the refusals")
        assert [task.version for task in world.look(finished, stamps.id)] == [task.version for task in tasks]
        assert str(world.result(finished)) == lines_of(tmp_path / "started")[1]
        wait_until(lambda: len(world.overview().workers) == 2, "its return under a new id")
        assert first.is_running()


def test_what_may_overlap_is_stopped_once_it_is_known_to_run_elsewhere(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    with Proxy(own_redis.url) as proxy, World(own_redis.url, namespace, tmp_path) as world:
        first = world.worker(redis_url=proxy.url, lease=1_500, concurrency=1)
        task_id = hold(world, tmp_path, "overlapping_hold")
        world.until_state(State.RUNNING, task_id)
        proxy.pause()
        second = world.worker(lease=30_000)
        world.until(lambda: len(lines_of(tmp_path / "started")) == 2, "its second run")
        pids = [int(line) for line in lines_of(tmp_path / "started")]
        assert [is_alive(pid) for pid in pids] == [True, True]
        proxy.resume()
        wait_until(lambda: not is_alive(pids[0]), "the end of the first run")
        assert is_alive(pids[1])
        second.signal(signal.SIGTERM)
        world.until_state(State.SUCCEEDED, *world.submit("noop"))  # by the first, whose only place is free again
        (tmp_path / "until").touch()
        world.until_state(State.SUCCEEDED, task_id)
        assert world.result(task_id) == pids[1]
        assert first.is_running()


@pytest.mark.slow  # a read without answer has to time out first
def test_a_worker_behind_half_open_connections_takes_tasks_again(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    with Proxy(own_redis.url) as proxy, World(own_redis.url, namespace, tmp_path) as world:
        worker = world.worker(redis_url=proxy.url, lease=30_000)
        world.until_state(State.SUCCEEDED, *world.submit("noop"))
        proxy.strand()
        (task,) = world.until_state(State.SUCCEEDED, *world.submit("noop"))
        assert (task.attempts, task.deaths) == (1, 0)
        assert worker.is_running()


@pytest.mark.slow  # a registration without answer has to time out first
def test_a_worker_that_was_taken_for_dead_before_it_heard_of_its_registration_joins_under_another_id(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    with Proxy(own_redis.url) as proxy, World(own_redis.url, namespace, tmp_path) as world:
        # The server must know the script by its hash: it cannot be sent whole on a link without answers.
        world.wire.call(worker_calls.register(world.keys, "other", lease_ms=600_000, info={}, rows=[]))
        proxy.pause("down")
        worker = world.begin_worker(redis_url=proxy.url, lease=1_500)
        wait_until(lambda: len(world.overview().workers) == 2, "its first registration")
        world.until(lambda: len(world.overview().workers) == 1, "its end")
        proxy.strand()
        proxy.resume()
        wait_until(worker.is_running, "a ready worker")
        rows = [(row[2].decode(), row[3].decode()) for row in world.rows("W")]
        steps = [(worker_id, step) for worker_id, step in rows if worker_id != "other"]
        (first, *_), (second, *_) = steps[0], steps[-1]
        assert steps == [(first, "live"), (first, "lost"), (second, "live")]
        assert first != second


def test_a_deaf_worker_that_goes_on_renewing_tells_how_long_it_has_claimed_nothing(world: World) -> None:
    world.worker(lease=1_500)
    worker = only_worker(world)
    slot = world.keys.build("slot", worker.id)
    world.until_state(State.SUCCEEDED, *world.submit("noop"))

    def silence() -> int:
        return int(only_worker(world).figures["claim_silence_ms"])

    with world.server() as server:
        server.delete(slot)
        server.hset(slot, "not", "a reply")  # each round is refused, heartbeats are not
        wait_until(lambda: silence() > 3_000, "a growing silence")
        assert only_worker(world).id == worker.id
        server.delete(slot)
    world.until_state(State.SUCCEEDED, *world.submit("noop"))
    wait_until(lambda: silence() < 3_000, "its end")
