"""The command lines: wall times, every system's turn in every pass."""

from __future__ import annotations

import contextlib

from tests.bench.environments import ROOT
from tests.bench.measure.options import Options
from tests.bench.processes import BenchError, wall_ms
from tests.bench.results import Results
from tests.bench.systems.base import Role, Shell, Stage, System

SHELL_ROWS = tuple(str(what) for what in Shell)


def measure_shell(systems: list[System], options: Options, results: Results) -> None:
    """Open all systems at once and time their commands in turn; the first pass warms the file cache and is dropped."""
    with contextlib.ExitStack() as stack:
        stages: list[Stage] = []
        for system in systems:
            try:
                stage = stack.enter_context(system.open(options.work, 100))
                system.fill_for_shell(stage)
                stages.append(stage)
            except BenchError as error:
                for what in SHELL_ROWS:
                    results.remark(what, system.name, str(error))
        commands = [command for stage in stages for command in _commands(stage, options, results)]
        for number in range(options.shell_runs + 1):
            for stage, what, argv in list(commands):
                try:
                    took = wall_ms(argv, stage.env, cwd=ROOT)
                except BenchError as error:
                    results.remark(what, stage.system.name, str(error))
                    commands.remove((stage, what, argv))
                    continue
                if number:
                    results.add(what, stage.system.name, took)


def _commands(stage: Stage, options: Options, results: Results) -> list[tuple[Stage, str, list[str]]]:
    found: list[tuple[Stage, str, list[str]]] = []
    for what in Shell:
        if not options.wants(what):
            continue
        try:
            argv = stage.system.shell(stage, what)
        except BenchError as error:
            results.remark(what, stage.system.name, str(error))
            continue
        if argv is None:
            if stage.system.role is not Role.FLOOR:
                results.remark(what, stage.system.name, "no such command")
        else:
            found.append((stage, str(what), argv))
    return found
