"""Workers that are killed, stopped and woken (scenarios 1 to 6 of the catalogue)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial

from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage

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
