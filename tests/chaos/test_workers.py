"""Workers that are killed, stopped and woken (scenarios 1 to 6 of the catalogue)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage
from tests.integration.worker_world import children_of
from tests.support.wait import wait_until
from tqctl_runtime.core.states import State

Scale = Callable[[int, int], int]
Measured = Callable[..., None]


def has_refused(stage: Stage, count: int) -> bool:
    """Whether the broker has refused that many late ends."""
    return stage.overview().counters.get("stale", 0) >= count


def test_every_zombie_is_refused_and_the_second_run_stands(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 5: a worker stopped beyond its lease ends its tasks too late."""
    rounds, at_once = scale(3, 12), 4
    stage.tap.last(1)
    stage.coordinator()
    stage.worker()
    ids: list[str] = []
    for number in range(rounds):
        until = stage.environment.home / f"until{number}"
        zombie = stage.worker("--queues", "slow")
        ids += stage.submit("hold", at_once, {"until": str(until)}, queue="slow")
        stage.wait_effects(len(ids))
        held = stage.until(partial(stage.find_worker, zombie.pid), "the zombie is known")
        stage.tell(f"SIGSTOP of worker {held.id}")
        os.kill(zombie.pid, signal.SIGSTOP)
        stage.until(partial(stage.tap.is_lost, held.id), "the zombie is taken for dead")
        # Its executors, which nobody stopped, end the work; the second run does too.
        heir = stage.worker("--queues", "slow", TQCTL_LEASE="60s")
        until.touch()
        stage.drain(ids)
        before = stage.overview().counters.get("stale", 0)
        os.kill(zombie.pid, signal.SIGCONT)
        stage.until(partial(has_refused, stage, before + at_once), "its ends are refused")
        for process in (zombie, heir):
            stage.kill(process, signal.SIGTERM)

    figures = assert_world(stage, ids, healthy_deaths=True)

    assert figures.stale == len(ids), "every late end was refused"
    assert figures.repeated <= len(ids)
    measured(figures, zombies=rounds)


def test_a_worker_that_is_told_to_stop_loses_and_repeats_nothing(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 31: TERM under load, again and again; what runs ends within the drain."""
    rounds = scale(4, 20)
    stage.tap.last(1)
    stage.coordinator()
    workers = [stage.worker() for _ in range(2)]
    wanted: list[Wanted] = [("work", {"ms": (1, 5, 20, 60)[number % 4]}, {}) for number in range(rounds * 160)]
    with Feeder(stage.new_client(), wanted) as feeder:
        for number in range(rounds):
            feeder.allow((number + 1) * len(wanted) // rounds)
            stage.wait_effects(number * len(wanted) // rounds + stage.rng.randrange(20, 60))
            workers.append(stage.worker())
            stage.tell("TERM")
            assert stage.kill(workers.pop(0), signal.SIGTERM) == 0
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert figures.repeated == 0
    measured(figures, stopped_workers=rounds)


def test_a_second_term_hands_back_what_runs_and_nothing_is_counted(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 31: the second TERM does not wait for tasks that would never end."""
    rounds = scale(2, 10)
    stage.tap.last(1)
    stage.coordinator()
    until = stage.environment.home / "until"
    ids: list[str] = []
    for _ in range(rounds):
        worker = stage.worker()
        ids += stage.submit("hold", stage.concurrency, {"until": str(until)})
        stage.wait_effects(len(ids))
        worker.send_signal(signal.SIGTERM)
        stage.until(partial(is_draining, stage, worker.pid), "it drains")
        assert stage.kill(worker, signal.SIGTERM) == 7
        until.touch()
        heir = stage.worker()
        stage.drain(ids)
        until.unlink()
        stage.kill(heir, signal.SIGTERM)

    figures = assert_world(stage, ids)

    assert figures.repeated == len(ids)
    assert stage.sql("SELECT count(*) FROM tasks WHERE failures > 0 OR deaths > 0") == [(0,)]
    measured(figures, second_terms=rounds)


def is_draining(stage: Stage, pid: int) -> bool:
    """Whether this worker said so in its last heartbeat."""
    found = stage.find_worker(pid)
    return found is not None and found.figures.get("state") == "draining"


def executors(pid: int) -> list[int]:
    """The executor processes of the worker *pid*."""
    return [child for nursery in children_of(pid) for child in children_of(nursery)]


def test_executors_that_are_killed_are_replaced_and_their_neighbours_unharmed(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 2: kill -9 of executor processes under load; the supervisor sees it at once."""
    kills = scale(6, 40)
    stage.tap.last(1)
    stage.coordinator()
    worker = stage.worker(TQCTL_LEASE="30s")
    wanted: list[Wanted] = [("work", {"ms": 30}, {}), ("async_work", {"ms": 30}, {})] * (kills * 20)
    with Feeder(stage.new_client(), wanted) as feeder:
        for number in range(kills):
            feeder.allow((number + 1) * len(wanted) // kills)
            stage.wait_effects(number * len(wanted) // kills + 10)
            victim = stage.until(lambda: executors(worker.pid), "an executor")
            os.kill(stage.rng.choice(victim), signal.SIGKILL)
            stage.tell("kill -9 of an executor")
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids, healthy_deaths=True)

    assert figures.workers_lost == 0
    assert figures.deaths <= kills
    measured(figures, killed_executors=kills)


def test_each_poison_task_is_started_three_times_alone_and_the_others_succeed(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenarios 2 and 4: tasks that end or crash their process among healthy ones."""
    healthy, poison = scale(400, 4_000), scale(3, 12)
    stage.tap.last(1)
    stage.coordinator()
    for _ in range(2):
        stage.worker(TQCTL_LEASE="30s")
    wanted: list[Wanted] = [("work", {"ms": 5}, {}), ("async_work", {"ms": 5}, {})] * (healthy // 2)
    for number in range(poison):
        wanted.insert(stage.rng.randrange(len(wanted)), (["leave", "crash"][number % 2], {}, {}))
    with Feeder(stage.new_client(), wanted) as feeder:
        ids = feeder.finish()
    stage.drain(ids)
    ends = {row[0]: State.DEAD for row in stage.sql("SELECT id FROM tasks WHERE handler IN ('leave', 'crash')")}

    figures = assert_world(stage, ids, ends=ends)

    runs = stage.effects()
    assert [runs[task_id] for task_id in ends] == [3] * poison
    assert stage.sql("SELECT count(*) FROM tasks WHERE reason = 'poison' AND deaths = 3") == [(poison,)]
    measured(figures, poison=poison)


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group that may use 200 MB."""
    first = Path("/sys/fs/cgroup/memory")
    root, limit = (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
    group = root / f"tqctl-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text("200000000")
    except OSError as error:
        pytest.skip(f"not run, missing: root to limit memory by a control group ({error})")
    yield group
    wait_until(lambda: not (group / "cgroup.procs").read_text(), "nobody is left in the group")
    group.rmdir()


@pytest.mark.root
def test_a_task_that_takes_all_memory_is_ended_alone(
    stage: Stage, memory_group: Path, scale: Scale, measured: Measured
) -> None:
    """Scenario 3: the kernel kills the executor; the worker and its other tasks go on."""
    healthy = scale(100, 1_000)
    stage.tap.last(1)
    stage.coordinator()
    worker = stage.worker(TQCTL_LEASE="30s")
    for pid in (worker.pid, *children_of(worker.pid), *executors(worker.pid)):
        (memory_group / "cgroup.procs").write_text(str(pid))
    swelling = stage.submit("swell", 1)
    ids = [*swelling, *stage.submit("work", healthy, {"ms": 10})]
    stage.drain(ids)

    figures = assert_world(stage, ids, ends=dict.fromkeys(swelling, State.DEAD), healthy_deaths=True)

    assert figures.workers_lost == 0
    assert stage.effects()[swelling[0]] >= 3
    assert stage.sql("SELECT reason, deaths FROM tasks WHERE id = ?", swelling[0]) == [("poison", 3)]
    stage.kill(worker, signal.SIGTERM)
    measured(figures)
