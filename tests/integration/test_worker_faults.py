"""Workers that are killed, stopped, cut off: what ran runs again, nothing is doubled, nobody is blamed wrongly."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker_rig import is_alive
from tests.integration.worker_world import World, children_of, lines_of
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tests.support.wait import wait_until
from tqctl_runtime.core.states import State


@pytest.fixture
def world(broker_address_url: str, namespace: str, tmp_path: Path) -> Iterator[World]:
    with World(broker_address_url, namespace, tmp_path) as ready:
        yield ready


@pytest.fixture
def own_world(own_redis: RedisServer, namespace: str, tmp_path: Path) -> Iterator[World]:
    with World(own_redis.url, namespace, tmp_path) as ready:
        yield ready


@contextlib.contextmanager
def stopped(server: RedisServer) -> Iterator[None]:
    """The server does not answer and drops nothing."""
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


def is_lost(row: list[Any]) -> bool:
    """Whether the journal *row* takes back what a lost worker held."""
    return any(isinstance(value, bytes) and value.startswith(b"worker lost") for value in row)


def has_lines(path: Path, count: int) -> bool:
    """Whether *path* has at least *count* lines."""
    return len(lines_of(path)) >= count


def hold(world: World, tmp_path: Path, handler: str = "hold") -> str:
    payload = {"started": str(tmp_path / "started"), "until": str(tmp_path / "until")}
    return world.submit(handler, payload)[0]


def test_a_killed_workers_task_runs_again_elsewhere_and_its_death_counts(world: World, tmp_path: Path) -> None:
    first = world.worker()
    task_id = hold(world, tmp_path)
    world.until_state(State.RUNNING, task_id)
    processes = [*children_of(first.process.pid)]
    processes += [pid for nursery in processes for pid in children_of(nursery)]
    first.signal(signal.SIGKILL)
    world.worker()
    world.until(lambda: len(lines_of(tmp_path / "started")) == 2, "its second start")
    wait_until(lambda: not any(is_alive(pid) for pid in processes), "the end of nursery and executors")
    (tmp_path / "until").touch()
    (task,) = world.until_state(State.SUCCEEDED, task_id)
    assert (task.deaths, task.failures, task.attempts) == (1, 0, 2)
    assert world.outcomes(task_id) == ["died", "succeeded"]


def test_the_folder_of_a_killed_worker_is_removed_by_the_next_one_and_that_of_a_living_one_stays(
    world: World, tmp_path: Path
) -> None:
    def folders() -> set[Path]:
        return set(tmp_path.glob("*/run/scratch-*"))

    killed = world.worker()
    left = folders()
    assert len(left) == 1
    living = world.worker()
    kept = folders() - left
    assert left < folders()
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert left < folders()
    third = world.worker()
    assert kept < folders()
    assert not left & folders()
    for worker in (living, third):
        worker.signal(signal.SIGTERM)
        assert worker.wait() == 0
    assert not folders()


def test_tasks_that_a_killed_worker_had_only_prefetched_show_no_death(world: World, tmp_path: Path) -> None:
    first = world.worker(concurrency=1)
    world.until_state(State.SUCCEEDED, *world.submit("hold_if", count=300))
    holder = hold(world, tmp_path)
    world.until_state(State.RUNNING, holder)
    others = world.submit("noop", count=50)
    first.signal(signal.SIGKILL)
    (tmp_path / "until").touch()
    world.worker()
    for task in world.until_state(State.SUCCEEDED, *others):
        assert (task.deaths, task.failures) == (0, 0)


def test_nothing_of_a_killed_worker_survives_it(world: World, tmp_path: Path) -> None:
    worker = world.worker()
    file = tmp_path / "pid"
    world.submit("grandchild", {"pid_file": str(file)})
    pid = int(wait_until(lambda: file.exists() and file.read_text(), "the grandchild"))
    worker.signal(signal.SIGKILL)
    wait_until(lambda: not is_alive(pid), "the end of the grandchild")


@pytest.mark.parametrize("handler", ["leave", "crash"])
def test_a_task_that_kills_its_executor_is_poison_at_its_third_lone_death(world: World, handler: str) -> None:
    world.worker()
    (deadly,) = world.submit(handler)
    others = world.submit("child", {"number": 1}, count=1_000)
    (task,) = world.until_state(State.DEAD, deadly)
    assert (task.deaths, task.failures, task.attempts) == (3, 0, 3)
    assert world.outcomes(deadly) == ["died"] * 3
    for other in world.until_state(State.SUCCEEDED, *others):
        assert (other.deaths, other.failures) == (0, 0)


def test_async_tasks_whose_executor_dies_are_suspects_and_run_alone_next(world: World, tmp_path: Path) -> None:
    world.worker()
    when = tmp_path / "when"
    (deadly,) = world.submit("async_leave", {"when": str(when)})
    (other,) = world.submit("async_hold", {"started": str(tmp_path / "started"), "until": str(tmp_path / "until")})
    world.until_state(State.RUNNING, deadly, other)
    when.touch()
    world.until(lambda: world.outcomes(other), "the interruption of both")
    (tmp_path / "until").touch()
    (innocent,) = world.until_state(State.SUCCEEDED, other)
    assert (innocent.deaths, innocent.failures) == (0, 0)
    assert world.outcomes(other) == ["interrupted", "succeeded"]
    (guilty,) = world.until_state(State.DEAD, deadly)
    assert guilty.deaths == 3
    assert world.outcomes(deadly) == ["interrupted", "died", "died", "died"]


def test_suspects_run_beside_each_other_and_each_alone_in_its_executor(world: World, tmp_path: Path) -> None:
    """Else the long tasks of a lost worker would come back one after another."""
    world.worker(concurrency=4)
    when, started, until = tmp_path / "when", tmp_path / "started", tmp_path / "until"
    (deadly,) = world.submit("async_leave", {"when": str(when)}, priority=3)
    held = world.submit("async_hold", {"started": str(started), "until": str(until)}, count=2)
    world.until_state(State.RUNNING, deadly, *held)
    when.touch()
    world.until_state(State.DEAD, deadly)
    world.until_state(State.RUNNING, *held)
    assert [(task.attempts, task.deaths) for task in world.look(*held)] == [(2, 0)] * 2
    until.touch()
    world.until_state(State.SUCCEEDED, *held)


@pytest.mark.parametrize("handler", ["hold", "overlapping_hold"])
def test_a_stopped_workers_late_end_is_refused_and_counted(world: World, tmp_path: Path, handler: str) -> None:
    """It hands back what its nursery killed, or offers the result of what may overlap: both come too late."""
    first = world.worker(lease=3_000)
    task_id = hold(world, tmp_path, handler)
    world.until_state(State.RUNNING, task_id)
    first.signal(signal.SIGSTOP)
    second = world.worker(lease=30_000)
    world.until(lambda: len(lines_of(tmp_path / "started")) == 2, "its start elsewhere")
    (tmp_path / "until").touch()
    (task,) = world.until_state(State.SUCCEEDED, task_id)
    winner = world.result(task_id)
    first.signal(signal.SIGCONT)
    stale = wait_until(lambda: world.overview().counters.get("stale"), "the refusal")
    assert stale == 1
    assert world.result(task_id) == winner
    assert str(winner) == lines_of(tmp_path / "started")[1]
    assert world.look(task_id)[0].version == task.version
    wait_until(lambda: len(world.overview().workers) == 2, "its new registration")
    assert second.is_running()
    assert first.is_running()


def test_what_runs_is_stopped_uncounted_when_the_lease_cannot_be_renewed(
    own_world: World, own_redis: RedisServer, tmp_path: Path
) -> None:
    worker = own_world.worker(lease=3_000)
    task_id = hold(own_world, tmp_path)
    own_world.until_state(State.RUNNING, task_id)
    pid = int(lines_of(tmp_path / "started")[0])
    with stopped(own_redis):
        wait_until(lambda: not is_alive(pid), "the end of the executor")
    wait_until(lambda: len(lines_of(tmp_path / "started")) == 2, "its second start")
    (tmp_path / "until").touch()
    (task,) = own_world.until_state(State.SUCCEEDED, task_id)
    assert (task.failures, task.deaths) == (0, 0)
    assert worker.is_running()


def test_results_wait_for_the_broker(own_world: World, own_redis: RedisServer, tmp_path: Path) -> None:
    worker = own_world.worker(lease=30_000)
    task_id = hold(own_world, tmp_path)
    own_world.until_state(State.RUNNING, task_id)
    with stopped(own_redis):
        (tmp_path / "until").touch()
        wait_until(lambda: "waits for the broker" in worker.log, "a round without answer")
    (task,) = own_world.until_state(State.SUCCEEDED, task_id)
    assert task.attempts == 1
    assert own_world.outcomes(task_id) == ["succeeded"]


def test_a_round_whose_reply_is_lost_neither_loses_nor_doubles_a_task(
    own_redis: RedisServer, namespace: str, tmp_path: Path
) -> None:
    effects = tmp_path / "effects"
    with Proxy(own_redis.url) as proxy, World(own_redis.url, namespace, tmp_path) as world:
        world.worker(redis_url=proxy.url, lease=30_000, concurrency=3)
        running = [hold(world, tmp_path) for _ in range(3)]
        world.until_state(State.RUNNING, *running)
        waiting = world.submit("note_effect", {"path": str(effects)}, count=20)
        proxy.pause("down")
        (tmp_path / "until").touch()
        wait_until(lambda: any(task.is_held for task in world.look(*waiting)), "a claim whose reply is held")
        proxy.cut()
        proxy.resume()
        for task in world.until_state(State.SUCCEEDED, *running, *waiting):
            assert (task.attempts, task.failures, task.deaths) == (1, 0, 0)
        assert sorted(lines_of(effects)) == sorted(waiting)
        assert len(lines_of(tmp_path / "started")) == 3
        assert "stale" not in world.overview().counters


def test_a_worker_outlives_its_nursery(world: World, tmp_path: Path) -> None:
    worker = world.worker()
    task_id = hold(world, tmp_path)
    world.until_state(State.RUNNING, task_id)
    (nursery,) = children_of(worker.process.pid)
    os.kill(nursery, signal.SIGKILL)
    wait_until(lambda: len(lines_of(tmp_path / "started")) == 2, "its second start")
    (tmp_path / "until").touch()
    (task,) = world.until_state(State.SUCCEEDED, task_id)
    assert (task.failures, task.deaths, task.is_suspect) == (0, 0, False)
    assert worker.is_running()


def test_a_stop_while_an_import_hangs_ends_the_worker_and_its_nursery(world: World, tmp_path: Path) -> None:
    app = tmp_path / "hanging.py"
    app.write_text("import pathlib, time\npathlib.Path(__file__).with_suffix('.on').touch()\ntime.sleep(1000)\n")
    worker = world.begin_worker(app=[str(app)])
    wait_until(app.with_suffix(".on").exists, "the import")
    (nursery,) = children_of(worker.process.pid)
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0
    wait_until(lambda: not is_alive(nursery), "the end of the nursery")


def test_no_task_is_lost_while_workers_are_killed_again_and_again(world: World, tmp_path: Path) -> None:
    kills, places = 3, 4
    effects = tmp_path / "effects"
    workers = [world.worker(concurrency=places) for _ in range(2)]
    ids = world.submit("note_effect", {"path": str(effects)}, count=1_200)
    for number in range(kills):
        world.until(partial(has_lines, effects, (number + 1) * 200), "some effects")
        workers.pop(0).signal(signal.SIGKILL)
        workers.append(world.worker(concurrency=places))
    tasks = world.until_state(State.SUCCEEDED, *ids)
    assert all(task.failures == 0 for task in tasks)
    assert sum(task.deaths for task in tasks) <= kills
    runs = Counter(lines_of(effects))
    lost = Counter(row[2].decode() for row in world.rows("T", "F") if is_lost(row))
    assert set(runs) == set(ids)
    assert [task_id for task_id in ids if runs[task_id] > 1 + lost[task_id]] == []
