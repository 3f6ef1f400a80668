"""kill9: how long a task is lost when its worker's machine goes away."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from tests.bench.measure.options import Options
from tests.bench.processes import BenchError, wait_for
from tests.bench.results import Results
from tests.bench.systems.base import Stage, System, Use

KILL_ROWS = ("kill9",)
_TASK_SECONDS = 5.0
_KILL_AFTER = 1.5


def measure_kill(systems: list[System], options: Options, results: Results) -> None:
    """All systems and rounds at once: they wait more than they work."""
    turns = [system for system in systems for _ in range(options.rounds)]
    with ThreadPoolExecutor(max_workers=len(turns) or 1) as pool:
        for system, outcome in zip(turns, pool.map(lambda one: _lose_worker(one, options), turns), strict=True):
            if isinstance(outcome, str):
                results.remark("kill9", system.name, outcome)
            else:
                seconds, deaths = outcome
                results.add("kill9", system.name, seconds, **({} if deaths is None else {"deaths_told": deaths}))


def _lose_worker(system: System, options: Options) -> tuple[float, int | None] | str:
    """Seconds from the kill to the second start with the deaths its record tells, or why there is none."""
    try:
        with system.open(options.work, 2) as stage:
            (worker,) = stage.start(Use.DEFAULTS)
            stage.drive("slow", 0, _TASK_SECONDS)
            wait_for(lambda: stage.marks.hits(0) == 1, "the task started", 60)
            time.sleep(max(0.0, stage.marks.instant(0) + _KILL_AFTER - time.monotonic()))
            killed = time.monotonic()
            stage.processes.kill(worker)
            stage.start(Use.DEFAULTS)
            if _runs_again(stage, options.kill_bound):
                return stage.marks.instant(0) - killed, system.told_deaths(stage)
            held = system.pending(stage)
            return f"not run again within {options.kill_bound:.0f} s; the store still holds {held} of it"
    except BenchError as error:
        return str(error)


def _runs_again(stage: Stage, bound: float) -> bool:
    try:
        wait_for(lambda: stage.marks.hits(0) > 1, "second start", bound, every=0.1)
    except BenchError:
        return False
    return True
