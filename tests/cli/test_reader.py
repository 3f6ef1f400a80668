"""What goes on until it is stopped also ends when its reader leaves, with nothing left to write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Broker, Program


def _end_without_reader(*words: str, is_heard: bool = True) -> int:
    """The exit code after the reader left; where it *is_heard* after the first line."""
    with subprocess.Popen(
        [sys.executable, "-m", "tqctl", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        if is_heard:
            assert run.stdout.readline()
        run.stdout.close()
        return run.wait(30)


@pytest.mark.parametrize(
    ("words", "is_heard"), [(("queue", "list"), True), (("status",), True), (("task", "list"), False)]
)
def test_a_watch_ends_with_its_reader_long_before_the_next_look(
    program: Program, broker: Broker, words: tuple[str, ...], is_heard: bool
) -> None:
    program.done("db", "upgrade")
    program.done("submit", "echo", "-p", "message=x")
    assert _end_without_reader(*words, "--watch", "--interval", "1h", is_heard=is_heard) == 0


def test_following_a_task_that_writes_nothing_ends_with_the_reader(program: Program, broker: Broker) -> None:
    program.done("db", "upgrade")
    task_id = program.done("submit", "echo", "-p", "message=x").out.strip()
    assert _end_without_reader("task", "logs", task_id, "-f", is_heard=False) == 0


def test_following_logs_of_processes_ends_with_the_reader(program: Program, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "default" / "logs"
    folder.mkdir(parents=True)
    (folder / "worker-1.log").write_text("ready\n")
    assert _end_without_reader("status", "--logs", "-f") == 0
