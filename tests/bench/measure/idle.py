"""latency_idle, worker_pss and the bytes a task occupies."""

from __future__ import annotations

import statistics

from tests.bench.measure.options import Options
from tests.bench.processes import pss_bytes, wait_for
from tests.bench.results import Results
from tests.bench.systems.base import Stage, System, Use

IDLE_ROWS = ("latency_idle", "latency_idle_p95", "worker_pss")
BYTES_ROWS = ("bytes_waiting", "bytes_finished")


def measure_idle(system: System, options: Options, results: Results) -> None:
    """Send single tasks to an idle worker, then weigh the worker."""
    with system.open(options.work, options.samples + 3) as stage:
        workers = stage.start(Use.IDLE)
        found: list[float] = sorted(stage.drive("latency", options.samples)["ms"])
        results.add("latency_idle", system.name, statistics.median(found))
        results.add("latency_idle_p95", system.name, found[round(0.95 * (len(found) - 1))])
        weights = sum(pss_bytes(worker.pid) for worker in workers)
        results.add("worker_pss", system.name, weights / 2**20)
        stage.stop(workers)


def measure_bytes(system: System, options: Options, results: Results) -> None:
    """Weigh the store before, with waiting tasks, and after they ran; one task before warms everything."""
    count = options.stored
    with system.open(options.work, count + 1) as stage:
        stage.drive("one", count)
        _run_all(stage, 1, options)
        before = _weigh(stage, 0)
        stage.drive("bulk", count)
        wait_for(lambda: system.is_quiet(stage), "the record has every submit", options.drain_bound)
        waiting = _weigh(stage, count) - before
        results.add("bytes_waiting", system.name, waiting / count, **system.extra_bytes(stage, count))
        _run_all(stage, count + 1, options)
        kept = _weigh(stage, count) - before
        details = system.extra_bytes(stage, count)
        system.expire(stage)
        after = _weigh(stage, count) - before
        results.add("bytes_finished", system.name, after / count, within_window=kept / count, **details)


def _run_all(stage: Stage, tasks: int, options: Options) -> None:
    workers = stage.start(Use.DRAIN_1)
    wait_for(lambda: stage.marks.ran() >= tasks, "every task ran", options.drain_bound)
    wait_for(lambda: stage.system.pending(stage) == 0, "the store is empty", options.drain_bound)
    if stage.system.has_record:
        wait_for(lambda: stage.system.recorded(stage) >= tasks, "every task is recorded", options.drain_bound)
    stage.stop(workers)


def _weigh(stage: Stage, tasks: int) -> float:
    apart = sum(stage.system.extra_bytes(stage, max(tasks, 1)).values()) * max(tasks, 1)
    return stage.system.used_bytes(stage) - apart
