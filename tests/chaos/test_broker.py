"""The broker stalls, dies, is full (scenarios 7, 8, 12, 13)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.conftest import PAIRS, make_stage
from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage, pass_time
from tests.support.disk import fill
from tqctl_runtime.broker.leader_calls import server_info

Scale = Callable[[int, int], int]
Measured = Callable[..., None]


def test_submits_under_stalls_of_the_broker_are_each_one_task(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 7: the server stops for two seconds, again and again; clients give up waiting and send again."""
    assert stage.server is not None
    stalls, submits = scale(3, 20), scale(150, 1_000)
    stage.tap.last(1)
    stage.coordinator()
    stage.worker(TQCTL_LEASE="30s")
    wanted: list[Wanted] = [("work", {}, {})] * submits
    client = stage.new_client()
    with Feeder(client, wanted, at_once=1) as feeder:
        for number in range(stalls):
            feeder.allow((number + 1) * submits // stalls)
            stage.until(
                lambda number=number: len(feeder.acknowledged) > number * submits // stalls,
                "submits are under way",
            )
            with stage.server.stalled():
                pass_time(2.0)
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert stage.sql("SELECT count(*) FROM tasks") == [(submits,)]
    assert figures.repeated == 0
    measured(figures, stalls=stalls, submits=submits)


def test_a_killed_broker_that_comes_back_reaps_nobody_who_lives(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 8: down for longer than a lease; what ran is stopped in time, uncounted, and nobody is charged."""
    assert stage.server is not None
    rounds, tasks = scale(1, 3), scale(200, 2_000)
    stage.tap.last(1)
    stage.coordinator()
    workers = [stage.worker() for _ in range(3)]
    names = {held.id for held in stage.overview().workers}
    wanted: list[Wanted] = [("work", {"ms": 20}, {})] * tasks
    with Feeder(stage.new_client(), wanted, at_once=10) as feeder:
        for number in range(rounds):
            feeder.allow((number + 1) * tasks // rounds)
            stage.wait_effects(number * tasks // rounds + 20)
            stage.server.kill()
            stage.tell("the broker is gone")
            stage.until(
                lambda number=number: log_of(stage).count("could not be renewed") >= len(workers) * (number + 1),
                "every worker has stopped what it ran",
            )
            stage.server.start()
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert figures.workers_lost == 0
    assert {held.id for held in stage.overview().workers} == names
    measured(figures, outages=rounds, doubtful_submits=feeder.doubtful)


def log_of(stage: Stage) -> str:
    """What the workers logged."""
    return (stage.environment.home / "worker.log").read_text()


def test_a_full_broker_refuses_submits_and_ends_what_it_has(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 12: at ``maxmemory`` submits answer busy (75); ends, leases and the record go on; then it resumes."""
    assert stage.server is not None
    held, tasks = scale(150, 1_500), scale(400, 4_000)
    stage.tap.last(1)
    coordinator = stage.coordinator()
    workers = [stage.worker()]
    wanted: list[Wanted] = [("weigh", {"text": "x" * 20_000}, {})] * tasks
    with Feeder(stage.new_client(), wanted, at_once=10) as feeder:
        stage.pause("default")
        feeder.allow(held)
        stage.until(lambda: len(feeder.acknowledged) >= held, "tasks stand in line")
        stage.server.command("CONFIG", "SET", "maxmemory", used_memory(stage) - 100_000)
        stage.tell("no byte is left")
        refused = stage.environment.run("submit", "weigh", "-p", "text=more")
        assert refused.returncode == 75, refused.stderr
        feeder.allow(held + 10)
        stage.until(lambda: feeder.busy > 2, "submits are refused")
        stage.resume("default")
        # One that starts now has to register in a full server, too.
        workers.append(stage.worker())
        stage.wait_effects(held)
        stage.until(lambda: stage.recorded_final() >= held, "what was accepted is final in the record")
        assert all(process.poll() is None for process in (coordinator, *workers))
        stage.server.command("CONFIG", "SET", "maxmemory", 0)
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert (figures.repeated, figures.workers_lost) == (0, 0)
    measured(figures, submits_refused=feeder.busy, ended_while_full=held)


def used_memory(stage: Stage) -> int:
    """Bytes that the broker uses now."""
    return int(stage.wire.call(server_info("memory"))["used_memory"])


@pytest.mark.root
def test_a_broker_whose_disk_is_full_loses_nothing_and_goes_on_by_itself(
    request: pytest.FixtureRequest, tmp_path: Path, seed: int, small_disk: Path, scale: Scale, measured: Measured
) -> None:
    """Scenario 13: writes are refused while the append-only file cannot grow; ends wait in the workers."""
    tasks = scale(300, 2_000)
    with make_stage(request, tmp_path, PAIRS[0], seed, server_folder=small_disk / "valkey") as stage:
        stage.tap.last(1)
        stage.coordinator()
        stage.worker(TQCTL_LEASE="60s")
        wanted: list[Wanted] = [("work", {"ms": 10}, {})] * tasks
        with Feeder(stage.new_client(), wanted, at_once=5) as feeder:
            feeder.allow(tasks // 2)
            stage.wait_effects(tasks // 10)
            filler = fill(small_disk)
            stage.tell("the broker's disk is full")
            feeder.allow(tasks)
            stage.until(lambda: feeder.busy or feeder.doubtful, "a submit is refused")
            filler.unlink()
            ids = feeder.finish()
        stage.drain(ids)

        figures = assert_world(stage, ids)

    assert figures.repeated == 0
    measured(figures, submits_refused=feeder.busy + feeder.doubtful)
