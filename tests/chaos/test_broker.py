"""The broker stalls, dies, is full (scenarios 7, 8, 12, 13)."""

from __future__ import annotations

from collections.abc import Callable

from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage, pass_time

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
