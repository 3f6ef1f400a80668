"""Everything at once: workers, zombies, the server and the leader are killed and stopped under load."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage
from tqctl_runtime.core.states import State

Scale = Callable[[int, int], int]
WORKERS = 4


class Havoc:
    """Four workers and two coordinators, and one method for each fault."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.coordinators = [stage.coordinator() for _ in range(2)]
        self.workers = [stage.worker() for _ in range(WORKERS)]
        self.zombies: dict[str, subprocess.Popen[str]] = {}
        self.woken: dict[str, subprocess.Popen[str]] = {}

    def worker(self) -> None:
        """A worker is killed; another one takes its place."""
        victim = self._choose()
        self.workers.remove(victim)
        self.stage.kill(victim)
        self.workers.append(self.stage.begin_worker())

    def zombie(self) -> None:
        """SIGSTOP of a worker; it is woken once it was taken for dead."""
        victim = self._choose()
        held = self.stage.until(lambda: self.stage.find_worker(victim.pid), "the worker is known")
        os.kill(victim.pid, signal.SIGSTOP)
        self.zombies[held.id] = victim
        self.workers.remove(victim)
        self.workers.append(self.stage.begin_worker())

    def server(self) -> None:
        """The server is killed and started."""
        assert self.stage.server is not None
        self.stage.server.restart()

    def leader(self) -> None:
        """The process that records is killed."""
        by_pid = {process.pid: process for process in self.coordinators}
        # A killed one holds its lease for a while.
        victim: subprocess.Popen[str] = self.stage.until(
            lambda: by_pid.get(self.stage.leader_pid()), "a living coordinator leads"
        )
        self.coordinators.remove(victim)
        self.stage.kill(victim)
        self.coordinators.append(self.stage.start("coordinator", "start"))

    def wake(self) -> None:
        """Wake the zombies that were taken for dead."""
        for worker in [worker for worker in self.zombies if self.stage.tap.is_lost(worker)]:
            process = self.zombies.pop(worker)
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)
            self.woken[worker] = process

    def wake_all(self) -> None:
        """Wake the last zombies, and see that each is a worker again, under another name."""

        def is_awake() -> bool:
            self.wake()
            return not self.zombies

        self.stage.until(is_awake, "every zombie was taken for dead")
        for old, process in self.woken.items():
            self.stage.until(
                lambda process=process, old=old: (now := self.stage.find_worker(process.pid)) and now.id != old,
                "a woken worker has joined again",
                process,
            )

    def _choose(self) -> subprocess.Popen[str]:
        def look() -> list[subprocess.Popen[str]]:
            known = {worker.info.get("pid") for worker in self.stage.overview().workers}
            return [process for process in self.workers if process.pid in known]

        found: list[subprocess.Popen[str]] = self.stage.until(look, "a living worker")
        return self.stage.rng.choice(found)


def plan_tasks(rng: random.Random, count: int) -> list[Wanted]:
    """A mix of short and long, of sync, async and failing tasks; two kill their process always."""
    wanted: list[Wanted] = []
    for _ in range(count - 2):
        payload = {"ms": rng.choice([0, 1, 2, 5, 10, 20])}
        handler = rng.choices(["work", "async_work", "flaky"], [80, 10, 10])[0]
        wanted.append((handler, payload, {"priority": rng.choice([3, 5, 7])}))
    for _ in range(2):
        wanted.insert(rng.randrange(len(wanted)), ("leave", {}, {}))
    return wanted


@pytest.mark.parametrize("run", [0, 1, 2])
def test_nothing_is_lost_or_doubled_while_everything_is_killed(
    stage: Stage, seed: int, run: int, scale: Scale, measured: Callable[..., None]
) -> None:
    """Scenarios 1, 4, 5, 8, 16, 17 and 34 together, under three seeds."""
    if run and scale(0, 1) == 0:
        pytest.skip("one seed at the small scale")
    rng = stage.rng = random.Random(f"{seed + run}")
    stage.tap.last(1)
    havoc = Havoc(stage)
    plan: list[Callable[[], None]] = [
        *[havoc.worker] * scale(4, 20),
        *[havoc.zombie] * scale(1, 6),
        *[havoc.server] * scale(1, 3),
        *[havoc.leader] * scale(1, 5),
    ]
    rng.shuffle(plan)
    wanted = plan_tasks(rng, scale(1_500, 10_000))
    share = len(wanted) // len(plan)
    with Feeder(stage.new_client(), wanted) as feeder:
        for number, fault in enumerate(plan):
            feeder.allow((number + 1) * share)
            stage.wait_effects(number * share + rng.randrange(1, share // 2))
            stage.tell(f"{fault.__name__} after {len(stage.effects())} effects")
            fault()
            havoc.wake()
        ids = feeder.finish()
    havoc.wake_all()
    stage.drain(ids)

    poison = [row[0] for row in stage.sql("SELECT id FROM tasks WHERE handler = 'leave'")]
    figures = assert_world(stage, ids, ends=dict.fromkeys(poison, State.DEAD), healthy_deaths=True)

    kinds = Counter(fault.__name__ for fault in plan)
    assert figures.repeated <= figures.taken_back + figures.retried
    measured(figures, **{f"{name}_faults": count for name, count in kinds.items()}, doubtful_submits=feeder.doubtful)
