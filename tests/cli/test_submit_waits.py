"""What a submit says while it waits, and what it leaves behind when the wait is ended: busy brokers, slow records."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.cli.conftest import Broker, Program
from tests.support.wait import wait_until
from tqctl_runtime.broker import views
from tqctl_runtime.broker.calls import CHUNK
from tqctl_runtime.client import Client
from tqctl_runtime.core.ids import is_task_id

_ALIVE = "4102444800000"
_LINES = [json.dumps({"payload": {"message": str(n)}}) + "\n" for n in range(2 * CHUNK + 5)]


def _pretend_recorder(broker: Broker) -> None:
    """Let it look as if somebody records, who never comes to the end."""
    broker.wire.command("HSET", broker.keys.build("wm"), "at", _ALIVE, "epoch", 1)


def _waiting(broker: Broker) -> int:
    return sum(queue.ready for queue in broker.call(views.overview(broker.keys)).queues)


@contextmanager
def _running(program: Program, *words: str, stdin: str | None = None) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tqctl", "submit", *words]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, cwd=program.folder, **pipes) as run:
        assert run.stdin is not None
        if stdin is not None:
            run.stdin.write(stdin)
        run.stdin.close()
        run.stdin = None
        try:
            yield run
        finally:
            run.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_id_is_printed_before_the_record_is_waited_for_and_told_again_when_that_is_interrupted(
    program: Program, broker: Broker, number: signal.Signals, code: int
) -> None:
    _pretend_recorder(broker)
    with _running(program, "echo", "-p", "message=x") as run:
        assert run.stdout is not None
        task_id = run.stdout.readline().strip()
        assert is_task_id(task_id)
        run.send_signal(number)
        _, err = run.communicate(timeout=30)
    assert run.returncode == code
    assert broker.task(task_id).state == "queued"
    assert err.splitlines()[-1].endswith(f": tqctl task show {task_id}")


def test_an_interrupted_submit_that_waits_for_its_task_names_the_task(program: Program, broker: Broker) -> None:
    _pretend_recorder(broker)
    with _running(program, "echo", "-p", "message=x", "--wait") as run:
        wait_until(lambda: _waiting(broker) == 1, "the task is queued")
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=30)
    assert (run.returncode, out) == (130, "")
    said = err.splitlines()[-1]
    assert broker.task(said.rpartition(" ")[2]).state == "queued"


def test_a_wait_for_the_record_says_once_what_it_waits_for_and_ends_with_8(
    program: Program, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pretend_recorder(broker)
    monkeypatch.setattr("tqctl_runtime.client.receipts.REMARK_AFTER", 0.01)
    monkeypatch.setattr("tqctl_runtime.client.receipts.CONFIRM_TIMEOUT", 0.3)
    said = program.run("submit", "echo", "-p", "message=x")
    assert said.code == 8
    assert is_task_id(said.out.strip())
    lines = said.err.splitlines()
    assert [line for line in lines if line.startswith("queued, waiting for the record: ")] == lines[:1]
    assert f"error: task {said.out.strip()} queued, but not recorded within 0.3 s" in lines


def test_after_an_orderly_stop_a_submit_is_accepted_and_names_the_command_that_starts_a_coordinator(
    program: Program, broker: Broker
) -> None:
    said = program.done("submit", "echo", "-p", "message=x")
    assert is_task_id(said.out.strip())
    assert said.err == (
        "accepted by the broker, not recorded: no coordinator leads; start one: tqctl coordinator start\n"
    )


def test_a_busy_broker_refuses_one_task_at_once_and_is_waited_for_where_that_is_asked(
    program: Program, broker: Broker
) -> None:
    broker.wire.command("HSET", broker.keys.meta, "memory_busy", "1")
    at_once = program.run("submit", "echo", "-p", "message=x")
    assert at_once.code == 75
    assert at_once.err.splitlines()[0] == "error: busy, nothing of this call was queued: memory of the server is short"
    waited = program.run("submit", "echo", "-p", "message=x", "--block", "20ms")
    assert waited.code == 75
    assert (waited.out, waited.err.splitlines()[0]) == (
        "",
        "busy, nothing of this call was queued: memory of the server is short; trying again for 20ms",
    )
    assert waited.err.count("trying again") == 1
    assert program.run("submit", "echo", "--block", "soon").code == 2


def _busy_after(monkeypatch: pytest.MonkeyPatch, broker: Broker, calls: int) -> None:
    """Let the broker be short of memory once it took *calls* of a batch."""
    post, done = Client.post, 0

    def counted(self: Client, wishes: Sequence[Any], **options: Any) -> Any:
        nonlocal done
        posted = post(self, wishes, **options)
        done += 1
        if done == calls:
            broker.wire.command("HSET", broker.keys.meta, "memory_busy", "1")
        return posted

    monkeypatch.setattr(Client, "post", counted)


def test_a_batch_that_meets_a_busy_broker_says_so_once_and_ends_with_75_and_the_command_for_the_rest(
    program: Program, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    program.done("db", "upgrade")
    _busy_after(monkeypatch, broker, 1)
    words = ("submit", "echo", "--batch", "-", "--block", "20ms")
    said = program.run(*words, stdin="".join(_LINES))
    assert said.code == 75
    lines = said.err.splitlines()
    assert len(lines) == len(set(lines))
    stopped = next(line for line in lines if line.startswith("stopped"))
    told, _, command = stopped.rpartition(": ")
    assert told == "stopped after line 1,000: 1,000 tasks submitted; the rest, with the same lines on stdin"
    assert said.out.strip() == command.split()[-1], "the batch to go on with is data"
    broker.wire.command("HSET", broker.keys.meta, "memory_busy", "0")
    again = program.done(*shlex.split(command)[1:], "-o", "json", stdin="".join(_LINES))
    assert (again.json["submitted"], again.json["repeated"]) == (CHUNK + 5, CHUNK)
    assert _waiting(broker) == len(_LINES)


def test_a_batch_that_stopped_is_told_as_json_too(
    program: Program, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _busy_after(monkeypatch, broker, 1)
    said = program.run("submit", "echo", "--batch", "-", "--block", "0", "-o", "json", stdin="".join(_LINES))
    assert said.code == 75
    assert (said.json["submitted"], said.json["refused"]) == (CHUNK, [])
    assert json.loads(said.err.splitlines()[-1])["error"]["code"] == "busy"


def test_an_interrupted_batch_tells_what_is_queued_and_how_far_the_record_is_and_a_resume_doubles_nothing(
    program: Program, broker: Broker
) -> None:
    program.done("db", "upgrade")
    _pretend_recorder(broker)
    with _running(program, "echo", "--batch", "-", stdin="".join(_LINES)) as run:
        wait_until(lambda: _waiting(broker) == len(_LINES), "all lines are queued")
        run.send_signal(signal.SIGTERM)
        _, err = run.communicate(timeout=30)
    assert run.returncode == 143
    told, _, command = err.splitlines()[-1].rpartition(": ")
    assert ", recorded up to line 0; the rest" in told
    broker.wire.command("HSET", broker.keys.build("wm"), "at", 0)
    again = program.done(*shlex.split(command)[1:], "-o", "json", stdin="".join(_LINES))
    assert (again.json["submitted"], again.json["repeated"]) == (0, len(_LINES))
    assert _waiting(broker) == len(_LINES)


def test_a_batch_for_the_record_is_refused_before_anything_is_queued_where_nobody_records(
    program: Program, broker: Broker
) -> None:
    said = program.run("submit", "echo", "--batch", "-", "--durability", "recorded", stdin="".join(_LINES))
    assert said.code == 75
    assert "stopped after line 0: 0 tasks submitted" in said.err
    assert "tqctl status says why" in said.err
    assert _waiting(broker) == 0
