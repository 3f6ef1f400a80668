"""The one run that belongs to ``make test``: the embedded stack as a user starts it, under three kills."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from functools import partial

import pytest

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
    ids: list[str] = []
    for number, (name, find) in enumerate(targets):
        count = TASKS // 3 + (TASKS % 3 if number == 0 else 0)
        ids += stage.submit("work", count, {"ms": stage.rng.choice([2, 5, 10])})
        stage.wait_effects(len(ids) - count + stage.rng.randrange(1, count // 2))
        pid = find()
        stage.tell(f"kill -9 of the {name} ({pid})")
        os.kill(pid, signal.SIGKILL)
        stage.until(partial(is_gone, pid), f"the end of the {name}")

    stage.drain(ids)

    measured(assert_world(stage, ids, healthy_deaths=True), kills=len(targets))


def is_gone(pid: int) -> bool:
    """Whether no process *pid* works any more."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
