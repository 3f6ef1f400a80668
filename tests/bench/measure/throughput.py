"""enqueue_1 with drain_1 and drain_recorded; enqueue_bulk with drain_2."""

from __future__ import annotations

from tests.bench.measure.options import Options
from tests.bench.processes import wait_for
from tests.bench.results import Results
from tests.bench.systems.base import Stage, System, Use

LONE_ROWS = ("enqueue_1", "drain_1", "drain_recorded")
BULK_ROWS = ("enqueue_bulk", "drain_2")


def measure_lone(system: System, options: Options, results: Results) -> None:
    """Fill one by one, then drain with one worker."""
    with system.open(options.work, options.tasks) as stage:
        lone = options.wants("enqueue_1") and system.measures("enqueue_1")
        rate = _fill(stage, "each" if lone else "bulk", options)
        if lone:
            results.add("enqueue_1", system.name, rate)
        if options.wants("drain_1", "drain_recorded"):
            _drain(stage, Use.DRAIN_1, options, results)


def measure_bulk(system: System, options: Options, results: Results) -> None:
    """Fill by the bulk call, then drain with two workers."""
    with system.open(options.work, options.tasks) as stage:
        rate = _fill(stage, "bulk", options)
        if not system.has_bulk:
            results.remark("enqueue_bulk", system.name, "no bulk call")
        elif options.wants("enqueue_bulk") and system.measures("enqueue_bulk"):
            results.add("enqueue_bulk", system.name, rate)
        if options.wants("drain_2"):
            _drain(stage, Use.DRAIN_2, options, results)


def _fill(stage: Stage, command: str, options: Options) -> float:
    """Tasks per second of the client; returns when the record has caught up, so that a drain starts from rest."""
    answer = stage.drive(command, options.tasks)
    wait_for(lambda: stage.system.is_quiet(stage), "the record has every submit", options.drain_bound)
    return float(answer["tasks"] / answer["seconds"])


def _drain(stage: Stage, use: Use, options: Options, results: Results) -> None:
    """Time the bodies by their marks, then the store and the record until they hold nothing open."""
    system, tasks = stage.system, options.tasks
    workers = stage.start_together(use, 2) if use is Use.DRAIN_2 else stage.start(use)
    wait_for(lambda: stage.marks.ran() == tasks, "every task ran", options.drain_bound)
    first, last = stage.marks.span()
    settled = wait_for(lambda: system.pending(stage) == 0, "the store is empty", options.drain_bound)
    row = str(use)
    details = {"settled_after_s": settled - last, "doubled": float(stage.marks.doubled())}
    if options.wants(row):
        results.add(row, system.name, (tasks - 1) / (last - first), **details)
    if system.has_record:
        done = wait_for(lambda: system.recorded(stage) >= tasks, "every task is recorded", options.drain_bound)
        if use is Use.DRAIN_1 and options.wants("drain_recorded"):
            results.add("drain_recorded", system.name, tasks / (done - first))
    stage.stop(workers)
