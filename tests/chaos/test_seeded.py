"""The one run that belongs to ``make test``: the embedded stack as a user starts it, under three kills."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import APP, Stage
from tests.support.environment import Environment
from tqctl_runtime.broker.leader_calls import server_info

TASKS = 1_000


@pytest.fixture
def embedded_stage(embedded: Environment, seed: int) -> Iterator[Stage]:
    with Stage(embedded, None, random.Random(seed)) as stage:
        started = embedded.run("up", "--detach", "--app", APP, "--workers", "2", env=stage.values)
        assert started.returncode == 0, started.stderr
        yield stage


@pytest.mark.in_make_test
@pytest.mark.timeout(180)
@pytest.mark.slow  # three processes are killed under load and come back; a leader's lease alone lasts 15 s
def test_a_thousand_tasks_survive_kills_of_a_worker_the_coordinator_and_the_private_server(
    embedded_stage: Stage, measured: Callable[..., None]
) -> None:
    stage = embedded_stage
    stage.tap.last(1)
    targets: list[tuple[str, Callable[[], int]]] = [
        ("worker", lambda: stage.rng.choice(stage.overview().workers).info["pid"]),
        ("coordinator", stage.wait_leader),
        ("valkey", lambda: int(stage.wire.call(server_info("server"))["process_id"])),
    ]
    stage.rng.shuffle(targets)
    wanted: list[Wanted] = [("work", {"ms": stage.rng.choice([2, 5, 10])}, {}) for _ in range(TASKS)]
    share, allowed = TASKS // len(targets), 0
    # Recorded: the private server syncs each second, and a killed one may lose what a slow disk made it hold back.
    with Feeder(stage.new_client(), wanted, at_once=50, durability="recorded") as feeder:
        for number, (name, find) in enumerate(targets):
            feeder.allow((number + 1) * share)
            stage.wait_effects(number * share + stage.rng.randrange(1, share // 2))
            pid = find()
            allowed += stage.overview().lag_rows + 20
            stage.tell(f"kill -9 of the {name} ({pid})")
            os.kill(pid, signal.SIGKILL)
            stage.until(partial(is_gone, pid), f"the end of the {name}")
        ids = feeder.finish()
    stage.drain(ids)
    is_whole = stage.overview().watermark.position.epoch == 1

    figures = assert_world(
        stage,
        ids,
        healthy_deaths=True,
        has_whole_journal=is_whole,
        open_across_repair=0 if is_whole else allowed,
    )

    measured(figures, kills=len(targets))


def is_gone(pid: int) -> bool:
    """Whether no process *pid* works any more."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
