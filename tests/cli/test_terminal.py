"""What only a terminal gets: questions, bars, redrawn tables. A pseudo-terminal stands in for the person."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.conftest import Broker, Program
from tests.support.wait import wait_until
from tqctl.commands.task import VIEW as TASKS
from tqctl.output import Output
from tqctl_runtime.broker import views


class Terminal:
    """A program whose three streams are a terminal that the test types on and reads."""

    def __init__(self, leader: int, process: subprocess.Popen[bytes]) -> None:
        self._leader = leader
        self.process = process
        self.seen = ""

    def read(self) -> str:
        """Everything that was shown until now."""
        while select.select([self._leader], [], [], 0)[0]:
            try:
                data = os.read(self._leader, 65_536)
            except OSError:  # how Linux tells that the other side is closed
                break
            if not data:
                break
            self.seen += data.decode("utf-8", "replace")
        return self.seen

    def shows(self, text: str) -> str:
        """Wait until *text* was shown."""
        wait_until(lambda: text in self.read(), f"the terminal shows {text!r}")
        return self.seen

    def type(self, text: str) -> None:
        """Type *text*."""
        os.write(self._leader, text.encode())

    def _has_ended(self) -> bool:
        self.read()  # a full terminal would hold the program
        return self.process.poll() is not None

    def end(self) -> int:
        """Wait for the end; the exit code."""
        wait_until(self._has_ended, "the program ends")
        self.read()
        return int(self.process.returncode)


@contextmanager
def terminal(*words: str) -> Iterator[Terminal]:
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tqctl", *words],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    os.close(follower)
    try:
        yield Terminal(leader, process)
    finally:
        process.kill()
        process.wait()
        os.close(leader)


def queued(broker: Broker, name: str) -> int:
    found = [queue.ready for queue in broker.call(views.overview(broker.keys)).queues if queue.name == name]
    return int(found[0]) if found else 0


def test_a_question_names_context_and_count_and_no_is_the_default(program: Program, broker: Broker) -> None:
    program.done("submit", "echo", "-p", "message=x", "--queue", "side")
    with terminal("queue", "purge", "side") as screen:
        screen.shows("cancel 1 task of queue side in context default? [y/N]")
        screen.type("\n")
        assert screen.end() == 6
        assert "nothing was changed" in screen.seen
    assert queued(broker, "side") == 1
    with terminal("queue", "purge", "side") as screen:
        screen.shows("[y/N]")
        screen.type("y\n")
        assert screen.end() == 0
    assert queued(broker, "side") == 0


def test_no_input_never_asks_even_on_a_terminal(program: Program, broker: Broker) -> None:
    program.done("submit", "echo", "-p", "message=x", "--queue", "side")
    with terminal("queue", "purge", "side", "--no-input") as screen:
        assert screen.end() == 6


def test_reading_ids_or_a_payload_from_a_terminal_is_refused_at_once(program: Program, broker: Broker) -> None:
    for words in (["submit", "echo", "--payload", "-"], ["submit", "--batch", "-"], ["task", "show", "-"]):
        with terminal(*words) as screen:
            assert screen.end() == 2
            assert "which is a terminal" in screen.seen


def test_a_batch_shows_a_bar_that_leaves_no_trace_on_stdout(program: Program, broker: Broker, tmp_path: Path) -> None:
    path = tmp_path / "b.ndjson"
    path.write_text("".join(json.dumps({"handler": "echo", "payload": {"message": str(n)}}) + "\n" for n in range(500)))
    with terminal("submit", "--batch", str(path)) as screen:
        assert screen.end() == 0
        assert "500 tasks submitted" in screen.seen
        assert "lines" in screen.seen


def test_an_id_is_the_same_on_a_terminal(program: Program, broker: Broker) -> None:
    with terminal("submit", "echo", "-p", "message=x", "-q") as screen:
        assert screen.end() == 0
    assert re.fullmatch(r"tsk_[0-9A-Z]{26}\r?\n", screen.seen)


def test_watching_redraws_and_leaves_the_last_table(program: Program, broker: Broker) -> None:
    program.done("submit", "echo", "-p", "message=x", "--queue", "side")
    with terminal("queue", "list", "--watch", "--interval", "100ms") as screen:
        screen.shows("side")
        assert "\x1b[?1049h" in screen.seen
        screen.process.send_signal(signal.SIGINT)
        assert screen.end() == 130
    last = screen.seen.rpartition("\x1b[?1049l")[2]
    assert "side" in last


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_keys_are_never_cut_however_narrow_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(columns))
    ids = [f"tsk_{n:026}" for n in range(2)]
    rows = [{"id": i, "state": "succeeded", "handler": "h" * 60, "queue": "images", "failures": 12345} for i in ids]
    Output("table").rows(TASKS, rows)
    header, *lines = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()
    assert [line.split()[0] for line in lines] == ids
    assert all("succeeded" in line for line in lines)
    assert all(len(line) <= max(columns, len(f"{ids[0]} succeeded")) for line in (header, *lines))
    assert ("12345" in lines[0]) is ("FAILED" in header) is (columns > 40)
    assert ("h" * 60 in lines[0]) is (columns == 200)


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True
