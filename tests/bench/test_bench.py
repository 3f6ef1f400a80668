"""The arithmetic of the bench; its measuring is seen to work by running it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.apps.marks import Marks
from tests.bench.goals import judge
from tests.bench.processes import BenchError, kill_tree, run, tree, wait_for
from tests.bench.results import Results


def _verdict(results: Results, row: str, system: str, number: int = 0) -> float:
    verdicts, _ = judge(results, ["huey", "pgqueuer"])
    return [found for found in verdicts if (found.row, found.system) == (row, system)][number].distance


def test_a_rate_below_its_bound_misses_and_one_above_reaches() -> None:
    results = Results()
    results.add("drain_1", "pgqueuer", 1000.0)
    results.add("drain_1", "huey", 400.0)
    results.add("drain_1", "tqctl", 1200.0)
    results.add("drain_1", "tqctl-pg", 1800.0)
    assert _verdict(results, "drain_1", "tqctl") == pytest.approx(-0.2)
    assert _verdict(results, "drain_1", "tqctl-pg") == pytest.approx(0.2)


def test_a_time_above_its_bound_misses_and_one_below_reaches() -> None:
    results = Results()
    results.add("kill9", "tqctl", 33.0)
    results.add("kill9", "tqctl-pg", 24.0)
    assert _verdict(results, "kill9", "tqctl") == pytest.approx(-0.1)
    assert _verdict(results, "kill9", "tqctl-pg") == pytest.approx(0.2)


def test_command_lines_are_judged_by_what_they_take_over_the_bare_interpreter() -> None:
    results = Results()
    results.add("cli_version", "floor-shell", 10.0)
    results.add("cli_version", "tqctl", 50.0)
    assert _verdict(results, "cli_version", "tqctl") == pytest.approx(0.2)


def test_the_bare_push_is_left_out_of_the_goal_that_leaves_it_out() -> None:
    results = Results()
    for system, rate in (("floor-single", 2000.0), ("huey", 1500.0), ("pgqueuer", 500.0), ("tqctl", 1000.0)):
        results.add("enqueue_1", system, rate)
    assert _verdict(results, "enqueue_1", "tqctl", 0) == pytest.approx(1000 / 1200 - 1)
    assert _verdict(results, "enqueue_1", "tqctl", 1) == pytest.approx(1.0)


def test_a_goal_without_a_figure_to_compare_with_is_told_not_passed() -> None:
    results = Results()
    results.add("drain_2", "tqctl", 5000.0)
    verdicts, missing = judge(results, ["huey"])
    assert verdicts == []
    assert "drain_2 tqctl: ≥ 1.2 × best peer: the figure to compare with is missing" in missing
    assert "drain_2 tqctl-pg: ≥ 1.2 × best peer: its own figure is missing" in missing


def test_figures_are_medians_of_the_rounds() -> None:
    results = Results()
    for value in (9.0, 1.0, 2.0):
        results.add("kill9", "tqctl", value)
    assert results.median("kill9", "tqctl") == 2.0


def test_marks_tell_what_ran_and_what_ran_twice(tmp_path: Path) -> None:
    marks = Marks.create(tmp_path / "marks", 3)
    other = Marks(tmp_path / "marks")
    other.hit(0)
    other.hit(2)
    other.hit(2)
    first, last = marks.span()
    assert (marks.ran(), marks.doubled(), marks.hits(1)) == (2, 1, 0)
    assert first == marks.instant(0)
    assert last == marks.instant(2)


def test_a_failing_program_is_an_error_with_its_last_words() -> None:
    with pytest.raises(BenchError, match="exit 3: no such thing"):
        run([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"], os.environ, 30)


def test_kill_tree_ends_grandchildren_too() -> None:
    script = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    with subprocess.Popen([sys.executable, "-c", script]) as parent:
        wait_for(lambda: len(tree(parent.pid)) == 2, "the grandchild lives", 30)
        grandchild = tree(parent.pid)[1]
        kill_tree(parent.pid)
        parent.wait()
    status = Path(f"/proc/{grandchild}/status")
    wait_for(lambda: not status.exists() or "State:\tZ" in status.read_text(), "the grandchild is gone", 30)
