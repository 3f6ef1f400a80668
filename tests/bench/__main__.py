"""``python -m tests.bench``: install, measure, report."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.environments import default_cache
from tests.bench.measure.idle import BYTES_ROWS, IDLE_ROWS, measure_bytes, measure_idle
from tests.bench.measure.kill import KILL_ROWS, measure_kill
from tests.bench.measure.options import Options
from tests.bench.measure.shell import SHELL_ROWS, measure_shell
from tests.bench.measure.throughput import BULK_ROWS, LONE_ROWS, measure_bulk, measure_lone
from tests.bench.processes import BenchError
from tests.bench.report import Report
from tests.bench.results import ROWS, Results
from tests.bench.systems import all_systems
from tests.bench.systems.base import System

Measure = Callable[[System, Options, Results], None]

_BY_ROUND: tuple[tuple[tuple[str, ...], Measure], ...] = (
    (LONE_ROWS, measure_lone),
    (BULK_ROWS, measure_bulk),
    (IDLE_ROWS, measure_idle),
    (BYTES_ROWS, measure_bytes),
)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _loop_ms() -> float:
    """A fixed amount of Python work: shows how much of the machine was left to this run."""
    began = time.perf_counter()
    sum(number * number for number in range(1_000_000))
    return (time.perf_counter() - began) * 1000


def _cpu_ticks() -> list[int]:
    return [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]


@contextlib.contextmanager
def _watched(phase: str, results: Results) -> Iterator[None]:
    """Note what the machine was like during *phase*: load, share of CPU time the host kept for others, a loop's ms."""
    before = _cpu_ticks()
    yield
    spent = [now - then for now, then in zip(_cpu_ticks(), before, strict=True)]
    stolen = spent[7] / max(sum(spent), 1)
    results.machine.append({"phase": phase, "load": os.getloadavg()[0], "stolen": stolen, "loop_ms": _loop_ms()})


def _measure_round(number: int, systems: list[System], options: Options, results: Results) -> None:
    """Every experiment for every system once; each round begins with another system."""
    turn = systems[number % len(systems) :] + systems[: number % len(systems)]
    for rows, measure in _BY_ROUND:
        if not options.wants(*rows):
            continue
        for system in turn:
            if not any(system.measures(row) for row in options.rows.intersection(rows)):
                continue
            _tell(f"round {number + 1} of {options.rounds}: {', '.join(rows)}: {system.name}")
            try:
                measure(system, options, results)
            except BenchError as error:
                _tell(f"  {error}")
                for row in options.rows.intersection(rows):
                    results.remark(row, system.name, str(error))


def measure_all(systems: list[System], options: Options, results: Results) -> None:
    """All rows that *options* ask for; what fails is remarked, the rest goes on."""
    if any(options.wants(*rows) for rows, _ in _BY_ROUND):
        for number in range(options.rounds):
            with _watched(f"round {number + 1}", results):
                _measure_round(number, systems, options, results)
    if options.wants(*SHELL_ROWS):
        _tell(f"shell rows: {options.shell_runs} passes")
        with _watched("shell", results):
            measure_shell(systems, options, results)
    if options.wants(*KILL_ROWS):
        _tell(f"kill9: {options.rounds} rounds at once, at most {options.kill_bound:.0f} s")
        measure_kill([system for system in systems if system.has_worker and system.role != "floor"], options, results)


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rows", type=_names, default=list(ROWS), help="comma-separated; all: " + " ".join(ROWS))
    parser.add_argument(
        "--systems", type=_names, default=[], help="only these, comma-separated (tqctl, tqctl-pg, floor-...)"
    )
    parser.add_argument("--peers", type=_names, default=None, help="only these peers: huey, dramatiq, pgqueuer, rq")
    parser.add_argument("--quick", action="store_true", help="2,000 tasks, fewer samples: to try, not to quote")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=None, help="tasks of the throughput rows (20,000)")
    parser.add_argument("--kill-bound", type=float, default=120.0, help="seconds to wait for a killed worker's task")
    parser.add_argument(
        "--json", type=Path, default=None, metavar="FILE", help="write everything there, rounds included"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the peers' environments")
    found = parser.parse_args(arguments)
    if unknown := [row for row in found.rows if row not in ROWS]:
        parser.error(f"no such row: {', '.join(unknown)}")
    return found


def _choose(found: argparse.Namespace) -> list[System]:
    systems = all_systems()
    if found.systems:
        systems = [system for system in systems if system.name in found.systems]
    if found.peers is not None:
        systems = [system for system in systems if system.role != "peer" or system.name in found.peers]
    return systems


def _prepare(systems: list[System], cache: Path) -> list[System]:
    ready: list[System] = []
    for system in systems:
        try:
            system.prepare(cache)
            ready.append(system)
        except BenchError as error:
            _tell(f"{system.name} is left out: {error}")
    return ready


def _options(found: argparse.Namespace, work: Path) -> Options:
    sizes = {"tasks": 2_000, "samples": 30, "stored": 500, "shell_runs": 5} if found.quick else {}
    if found.tasks:
        sizes["tasks"] = found.tasks
    return Options(work, frozenset(found.rows), rounds=found.rounds, kill_bound=found.kill_bound, **sizes)


def main(arguments: list[str]) -> int:
    """Run the bench; 0 when every system that was asked for took part, 130 or 143 when interrupted.

    What was measured before an interruption is reported too.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that servers and databases go too
    found = _parse(arguments)
    chosen = _choose(found)
    systems = _prepare(chosen, found.cache.resolve())
    results = Results()
    code = 0 if len(systems) == len(chosen) else 1
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tqctl-bench-") as work:
        options = _options(found, Path(work))
        try:
            measure_all(systems, options, results)
        except (KeyboardInterrupt, SystemExit) as stop:
            code = stop.code if isinstance(stop, SystemExit) and isinstance(stop.code, int) else 130
            _tell("interrupted: what follows is not the whole run")
    about: dict[str, Any] = {
        "Python": platform.python_version(),
        "cores": os.cpu_count(),
        "tasks": options.tasks,
        "rounds": options.rounds,
        "seconds": round(time.monotonic() - began),
    }
    report = Report(systems, results, about)
    print(report.text(), flush=True)
    if found.json is not None:
        found.json.write_text(json.dumps(report.json(), indent=2) + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
