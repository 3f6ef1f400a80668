"""The way of a task from the shell to the record, on both pairs of stores and with processes started one by one."""

from __future__ import annotations

import json
import signal

import pytest

from tests.support.environment import Environment
from tests.support.wait import wait_until

_SLOW = pytest.mark.slow  # whole processes start and stop


@_SLOW
def test_a_task_goes_from_the_shell_to_the_record_and_back(pair: Environment) -> None:
    up = pair.run("up", "--detach")
    assert up.returncode == 0, up.stderr
    waited = pair.run("submit", "echo", "-p", "message=hi", "--wait")
    assert (waited.returncode, waited.stdout) == (0, '{"message": "hi"}\n')
    refused = pair.run("submit", "shell", "--", "ls")
    assert refused.returncode == 2, "a Redis that is not private offers no shell"
    assert pair.run("submit", "fail", "--max-retries", "0", "--wait").returncode == 13
    letters = json.loads(pair.run("dlq", "list", "-o", "json").stdout)
    assert [letter["handler"] for letter in letters] == ["fail"]
    task = json.loads(pair.run("task", "show", letters[0]["task_id"], "-o", "json").stdout)
    assert [attempt["outcome"] for attempt in task["attempts"]] == ["failed"]
    listed = json.loads(pair.run("task", "list", "-o", "json").stdout)
    assert sorted(row["handler"] for row in listed) == ["echo", "fail"]
    down = pair.run("down")
    assert (down.returncode, "stopped" in down.stderr) == (0, True)


@_SLOW
def test_processes_that_were_started_one_by_one_work_together_and_end_on_term(embedded: Environment) -> None:
    coordinator = embedded.start("coordinator", "start")
    worker = embedded.start("worker", "start", "--name", "solo", "--concurrency", "2", "--lease", "5s")

    def names() -> list[str]:
        return embedded.run("worker", "list", "--fields", "name,concurrency", "-o", "csv").stdout.splitlines()[1:]

    wait_until(lambda: names() == ["solo,2"], "the worker is registered", interval=0.5)
    assert embedded.run("submit", "echo", "--wait").returncode == 0
    roles = {row["role"] for row in json.loads(embedded.run("status", "-o", "json").stdout)}
    assert roles == {"broker", "coordinator", "worker"}
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    coordinator.send_signal(signal.SIGTERM)
    assert coordinator.wait(30) == 0
    assert embedded.run("down").returncode == 0


@_SLOW
def test_a_submit_is_recorded_while_a_coordinator_runs_and_says_at_once_that_it_is_not_after_its_orderly_stop(
    pair: Environment,
) -> None:
    coordinator = pair.start("coordinator", "start")
    submit = ("submit", "echo", "-p", "message=hi", "--unchecked")

    def is_recorded() -> bool:
        said = pair.run(*submit)
        return said.returncode == 0 and "not recorded" not in said.stderr

    wait_until(is_recorded, "somebody records", interval=0.5)
    assert pair.run(*submit, "--durability", "recorded").returncode == 0
    coordinator.send_signal(signal.SIGTERM)
    assert coordinator.wait(30) == 0
    said = pair.run(*submit)
    assert (said.returncode, said.stdout.count("tsk_")) == (0, 1)
    assert "not recorded: no coordinator leads; start one: tqctl coordinator start" in said.stderr
    assert pair.run(*submit, "--durability", "recorded").returncode == 75
    assert pair.run("down").returncode == 0


@_SLOW
def test_up_in_the_foreground_stops_what_it_started(embedded: Environment) -> None:
    up = embedded.start("up")
    wait_until(lambda: embedded.run("worker", "list", "-o", "name").stdout, "a worker is there", interval=0.5)
    up.send_signal(signal.SIGINT)
    assert up.wait(40) == 0
    assert embedded.run("status").returncode == 69


@_SLOW
def test_an_app_that_cannot_be_imported_is_78_with_its_traceback_and_nothing_stays(embedded: Environment) -> None:
    (embedded.home / "broken.py").write_text("import nothing_like_this\n")
    said = embedded.run("up", "--detach", "--app", "broken.py")
    assert said.returncode == 78, said.stderr
    assert "nothing_like_this" in said.stderr
    assert embedded.run("status").returncode == 69


def test_a_worker_that_cannot_start_stops_the_private_server_it_started(embedded: Environment) -> None:
    (embedded.home / "broken.py").write_text("import nothing_like_this\n")
    said = embedded.run("worker", "start", "--app", "broken.py")
    assert said.returncode == 78, said.stderr
    assert "nothing_like_this" in said.stderr
    assert embedded.processes() == []


def test_a_worker_that_cannot_start_leaves_a_server_that_others_started(embedded: Environment) -> None:
    (embedded.home / "broken.py").write_text("import nothing_like_this\n")
    assert embedded.run("submit", "echo", "-p", "message=hi").returncode == 0
    before = embedded.processes()
    assert embedded.run("worker", "start", "--app", "broken.py").returncode == 78
    assert embedded.processes() == before != []


def test_the_submit_that_starts_the_private_server_says_so_and_how_to_stop_it(embedded: Environment) -> None:
    first = embedded.run("submit", "echo", "-p", "message=hi")
    second = embedded.run("submit", "echo", "-p", "message=hi")
    assert "started the private server; it goes on until: tqctl down\n" in first.stderr
    assert "private server" not in second.stderr
    assert embedded.run("down").returncode == 0
    quiet = embedded.run("submit", "echo", "-p", "message=hi", "-q")
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert embedded.run("down").returncode == 0
    (embedded.home / "tqctl.toml").write_text("[contexts.other]\nconcurrency = 1\n")
    named = embedded.run("submit", "echo", "-p", "message=hi", "-c", "other")
    assert "tqctl down -c other" in named.stderr, named
    assert embedded.run("down", "-c", "other").returncode == 0
