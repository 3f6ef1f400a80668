"""A batch that is interrupted: the line it ends with submits the rest as the whole would have been."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Broker, Program
from tests.support.wait import wait_until
from tqctl.text import shell_line
from tqctl_runtime.broker import views
from tqctl_runtime.broker.calls import CHUNK
from tqctl_runtime.core.submission import Envelope

_LINES = [json.dumps({"payload": {"message": str(n)}}) + "\n" for n in range(CHUNK + 5)]
_FLAGS = ("echo", "--queue", "slow", "--priority", "high", "--tag", "who=it's me", "-p", "times=2", "-o", "name")


@pytest.fixture
def record(program: Program, broker: Broker) -> None:
    """An empty record beside *broker*: a resume asks it for what the broker has forgotten."""
    program.done("db", "upgrade")


def _waiting(broker: Broker) -> int:
    return sum(queue.ready for queue in broker.call(views.overview(broker.keys)).queues if queue.name == "slow")


def _interrupt(broker: Broker, folder: Path, number: signal.Signals, name: str) -> tuple[int, str]:
    """Exit code and last line of a batch that got *number* after its first chunk; *name* is its --batch."""
    words = [sys.executable, "-m", "tqctl", "submit", *_FLAGS, "--batch", name]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=folder
    ) as run:
        assert run.stdin is not None
        assert run.stderr is not None
        # The stream stays open: the program waits for more when the signal comes.
        stream = run.stdin if name == "-" else (folder / name).open("w")
        stream.write("".join(_LINES[: CHUNK + 1]))
        stream.flush()
        wait_until(lambda: _waiting(broker) == CHUNK, "the first chunk is queued")
        run.send_signal(number)
        code = run.wait(30)
        stream.close()
        return code, run.stderr.read().splitlines()[-1]


def _stopped(rest: str) -> set[str]:
    """What may be told: the signal can come before the reply that acknowledges the queued chunk."""
    return {f"stopped after line {line:,}: {line:,} tasks submitted{rest}" for line in (0, CHUNK)}


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_line_told_at_the_end_submits_the_rest_with_the_same_flags(
    program: Program, broker: Broker, number: signal.Signals, code: int
) -> None:
    ended, line = _interrupt(broker, program.folder, number, "-")
    assert ended == code
    said, _, command = line.rpartition(": ")
    assert said in _stopped("; the rest, with the same lines on stdin")
    words = shlex.split(command)
    assert words[:2] == ["tqctl", "submit"]
    ids = program.done(*words[1:], stdin="".join(_LINES)).lines
    assert len(set(ids)) == len(_LINES) == _waiting(broker)
    last = broker.task(ids[-1])
    assert (last.queue, last.priority) == ("slow", 7)
    envelope = Envelope.from_bytes(last.envelope)
    assert envelope.tags == {"who": "it's me"}
    assert json.loads(envelope.payload) == {"message": str(len(_LINES) - 1), "times": 2}


def test_a_batch_of_a_file_names_it_again(program: Program, broker: Broker) -> None:
    os.mkfifo(program.folder / "a file")
    ended, line = _interrupt(broker, program.folder, signal.SIGTERM, "a file")
    assert ended == 143
    said, _, command = line.rpartition(": ")
    assert said in _stopped("; the rest")
    words = shlex.split(command)
    assert words[2:-2] == [*_FLAGS, "--batch", "a file"]
    assert words[-2] == "--resume"


@pytest.mark.usefixtures("record")
@pytest.mark.parametrize("changed", [["--queue", "slow"], ["--priority", "low"], [], ["-p", "times=3"]])
def test_a_batch_is_not_resumed_with_other_flags(program: Program, broker: Broker, changed: list[str]) -> None:
    stdin = "".join(_LINES[:2])
    batch = program.done("submit", "echo", "--priority", "high", "--batch", "-", stdin=stdin).out.strip()
    said = program.run("submit", "echo", *changed, "--batch", "-", "--resume", batch, stdin=stdin + _LINES[2])
    assert said.code == 2
    assert said.out == ""
    assert f"{batch} was started with other flags" in said.err
    assert "hint: repeat the flags as they were" in said.err
    again = program.done(
        "submit", "--batch", "-", "--priority", "high", "echo", "--resume", batch, stdin=stdin + _LINES[2]
    )
    assert "1 task submitted, 2 were there already" in again.err


def test_flags_that_are_no_defaults_of_lines_may_differ(program: Program, broker: Broker) -> None:
    batch = program.done("submit", "echo", "--batch", "-", stdin=_LINES[0]).out.strip()
    said = program.done("submit", "echo", "--batch", "-", "--resume", batch, "-o", "json", stdin=_LINES[0])
    assert said.json["repeated"] == 1


@pytest.mark.parametrize("word", ["a b", "it's", "a\nb\t\\", "\x1b[31m'", "\u202e", "\udcff", "", "$HOME", "é"])
def test_a_line_for_the_shell_is_read_back_as_the_same_words(word: str) -> None:
    line = shell_line(["printf", "%s", word])
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, env={"LC_ALL": "C.UTF-8"}, check=True)
    assert done.stdout == word.encode("utf-8", "surrogateescape")
