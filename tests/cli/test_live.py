"""Commands on the real embedded stack: what they print, how they end, and the shape of their JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Program, Said
from tests.support.environment import Environment
from tests.support.wait import wait_until

TASK = {
    *("id", "handler", "queue", "state", "priority", "payload", "result", "error", "failures", "deaths"),
    *("max_retries", "timeout_s", "created_at", "scheduled_at", "expires_at", "started_at", "finished_at", "worker"),
    *("tags", "tenant", "correlation_id", "idempotency_key", "parent", "reason", "progress", "attempts"),
}
ATTEMPT = {"number", "outcome", "worker", "started_at", "finished_at", "duration_s", "reason", "error"}
QUEUE = {"name", "queued", "head", "pause", "scheduled", "retrying", "running", "workers", "is_paused", "suspects"}
WORKER = {
    "seen_at",
    *("id", "name", "host", "pid", "state", "version", "started_at", "queues", "concurrency", "processes"),
    *("handlers", "running", "lease_until", "figures", "lacks", "ended_at"),
}
HANDLER = {
    *("name", "queue", "priority", "timeout_s", "max_retries", "backoff", "is_async", "argv", "parameters"),
    *("takes_any", "needs", "overlap_ok", "doc", "workers", "lacking", "example"),
}
LETTER = {
    *("task_id", "died_at", "handler", "queue", "reason", "error", "fingerprint"),
    *("closed_at", "closed_as", "closed_by"),
}
PROCESS = {"role", "name", "pid", "since", "state", "version", "log", "host", "seen_at"}
COORDINATOR = {
    "seen_at",
    *("id", "name", "host", "pid", "version", "started_at", "is_leader", "term", "roles", "state"),
    *("lag_rows", "lag_bytes", "lag_ms"),
}


def submit(stack: Program, *words: str) -> str:
    return stack.done("submit", *words).out.strip()


def dead(stack: Program, *words: str) -> str:
    """A task that died for good."""
    task_id = submit(stack, "fail", "--max-retries", "0", *words)
    assert stack.run("task", "wait", task_id).code == 13
    return task_id


def show(stack: Program, task_id: str) -> dict[str, Any]:
    found: dict[str, Any] = stack.done("task", "show", task_id, "-o", "json").json
    return found


def error_of(said: Said) -> Mapping[str, Any]:
    body: Mapping[str, Any] = json.loads(said.err.splitlines()[-1])["error"]
    return body


def test_waiting_prints_the_result_as_one_json_value_and_nothing_else(stack: Program) -> None:
    said = stack.done("submit", "echo", "-p", "message=hi", "--wait")
    assert said.out == '{"message": "hi"}\n'
    assert said.err == ""


def test_the_exit_code_of_a_wait_is_the_end_of_the_task(stack: Program) -> None:
    assert stack.run("submit", "fail", "--max-retries", "0", "--wait").code == 13
    assert (
        stack.run("submit", "sleep", "-p", "seconds=60", "--timeout", "200ms", "--max-retries", "0", "--wait").code
        == 12
    )
    task_id = submit(stack, "sleep", "-p", "seconds=60", "--delay", "1h")
    stack.done("task", "cancel", task_id, "--reason", "no need")
    said = stack.run("task", "wait", task_id)
    assert said.code == 11
    assert "no need" in said.err


def test_several_waited_tasks_answer_with_what_they_agree_on(stack: Program) -> None:
    good, bad = submit(stack, "echo"), submit(stack, "fail", "--max-retries", "0")
    assert stack.run("task", "wait", good, bad, bad).code == 13
    late = submit(stack, "sleep", "-p", "seconds=60", "--delay", "1h")
    stack.done("task", "cancel", late)
    assert stack.run("task", "wait", good, bad, late).code == 7
    assert stack.done("task", "wait", good, submit(stack, "echo")).out == ""


def test_logs_of_a_failed_command_are_kept(stack: Program) -> None:
    said = stack.run(
        "submit", "shell", "--max-retries", "0", "--wait", "--tag", "t=logs", "--", "sh", "-c", "echo out; exit 3"
    )
    assert said.code == 13
    task_id = stack.done("task", "list", "--tag", "t=logs", "-o", "name").lines[0]
    assert stack.done("task", "logs", task_id).out == "out\n"
    assert stack.done("task", "logs", task_id, "--attempt", "1").out == "out\n"
    assert stack.done("task", "logs", task_id, "-f").out == "out\n"


def test_a_task_shows_every_attempt_with_times_and_errors(stack: Program) -> None:
    task_id = submit(stack, "fail", "-p", "times=1")
    assert stack.run("task", "wait", task_id).code == 0
    task = show(stack, task_id)
    assert set(task) == TASK
    assert [(item["number"], item["outcome"]) for item in task["attempts"]] == [(1, "failed"), (2, "succeeded")]
    first = task["attempts"][0]
    assert set(first) == ATTEMPT
    assert set(first["error"]) == {"type", "message", "traceback"}
    assert first["started_at"].endswith("Z")
    text = stack.done("task", "show", task_id).out
    assert "attempts:" in text
    assert "succeeded" in text


def test_the_tail_of_an_id_is_enough(stack: Program) -> None:
    task_id = submit(stack, "echo")
    assert stack.done("task", "show", task_id[-10:].lower(), "-o", "json").json["id"] == task_id
    assert stack.run("task", "show", "NOPE").code == 3
    said = stack.run("task", "show", "x", "-o", "json")
    assert (said.code, error_of(said)["code"]) == (3, "not_found")


def test_a_tail_that_fits_several_tasks_lists_them(stack: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [submit(stack, "echo"), submit(stack, "echo")]
    monkeypatch.setattr("tqctl_runtime.record.lookup.Lookup.candidates", lambda *_: ids)
    said = stack.run("task", "show", "ABCD")
    assert said.code == 3
    assert all(task_id in said.err for task_id in ids)
    assert error_of(stack.run("task", "show", "ABCD", "-o", "json"))["candidates"] == ids


def test_lists_are_narrowed_by_every_filter(stack: Program) -> None:
    wanted = submit(stack, "echo", "--tag", "t=filters", "--tenant", "me", "--queue", "default")
    submit(stack, "sleep", "-p", "seconds=0", "--tag", "t=filters")
    stack.done("task", "wait", wanted)
    words = ("--handler", "echo", "--queue", "default", "--tag", "t=filters", "--tenant", "me", "--state", "completed")
    rows = stack.done("task", "list", *words, "--since", "1h", "--until", "+1m", "-o", "json").json
    assert [row["id"] for row in rows] == [wanted]
    assert set(rows[0]) == TASK
    assert [attempt["outcome"] for attempt in rows[0]["attempts"]] == ["succeeded"]
    assert stack.done("task", "list", *words, "--since", "+1h", "-o", "json").out == "[]\n"


def test_nothing_found_is_exit_0_and_one_line_on_stderr(stack: Program) -> None:
    for style, out in (("json", "[]\n"), ("jsonl", ""), ("table", ""), ("name", "")):
        said = stack.done("task", "list", "--handler", "nosuch", "-o", style)
        assert (said.out, said.err) == (out, "no task matches\n")


def test_a_limit_that_cuts_is_told(stack: Program) -> None:
    submit(stack, "echo")
    submit(stack, "echo")
    said = stack.done("task", "list", "--limit", "1", "-o", "name")
    assert len(said.lines) == 1
    assert "more with --limit" in said.err


@pytest.mark.parametrize(
    ("words", "said_what"),
    [
        (["--state", "bogus"], "no state is called"),
        (["--sort", "age"], "not sorted by"),
        (["--since", "soon"], "is not a time"),
        (["--tag", "x"], "not KEY=VALUE"),
        (["--limit", "0"], "--limit"),
        (["--watch", "--interval", "1ms"], "at least"),
        (["--watch", "-o", "csv"], "-o csv"),
        (["--fields", "stat"], "did you mean state"),
    ],
)
def test_wrong_filters_are_usage_mistakes(stack: Program, words: list[str], said_what: str) -> None:
    said = stack.run("task", "list", *words)
    assert said.code == 2
    assert said_what in said.err


def test_results_come_as_json_or_as_the_code_of_the_end(stack: Program) -> None:
    good = submit(stack, "echo", "-p", "message=r")
    stack.done("task", "wait", good)
    assert stack.done("task", "result", good).json == {"message": "r"}
    assert stack.run("task", "result", dead(stack)).code == 13
    late = submit(stack, "echo", "--delay", "1h")
    assert stack.run("task", "result", late).code == 8
    stack.done("task", "cancel", late)
    assert stack.run("task", "result", late).code == 11
    assert stack.run("task", "result", good, late).code == 11
    assert stack.run("task", "result", good, late, dead(stack)).code == 7


def test_a_running_task_is_cancelled(stack: Program) -> None:
    task_id = submit(stack, "sleep", "-p", "seconds=60")
    wait_until(lambda: show(stack, task_id)["state"] == "running", "the task runs")
    assert "asked to stop" in stack.done("task", "cancel", task_id).err
    assert stack.run("task", "wait", task_id).code == 11
    said = stack.run("task", "cancel", task_id, "-o", "json")
    assert (said.code, error_of(said)["code"]) == (5, "conflict")


def test_bulk_changes_need_a_yes_and_tell_each_refusal(stack: Program) -> None:
    ids = [submit(stack, "echo", "--delay", "1h", "--tag", "t=bulk") for _ in range(3)]
    listed = stack.done("task", "list", "--tag", "t=bulk", "-o", "jsonl").out
    refused = stack.run("task", "cancel", "-", stdin=listed)
    assert refused.code == 6
    assert "--yes" in refused.err
    assert "in context default" in refused.err
    stack.done("task", "cancel", ids[0])
    said = stack.run("task", "cancel", "-", "--yes", "-o", "json", stdin=listed)
    assert said.code == 7
    assert {item["id"]: item["done"] for item in said.json} == {ids[0]: None, ids[1]: "cancelled", ids[2]: "cancelled"}
    assert all(set(item) == {"id", "done", "error"} for item in said.json)
    assert "2 tasks cancelled, 1 refused" in said.err
    again = stack.done("task", "retry", "-", "--yes", stdin="\n".join(ids))
    assert "3 tasks queued again" in again.err
    assert stack.done("task", "wait", "-", stdin="\n".join(ids)).code == 0


def test_stdin_without_ids_and_two_owners_are_mistakes(stack: Program) -> None:
    assert "no id was given" in stack.run("task", "cancel", "-", stdin="").err
    assert "cannot both read stdin" in stack.run("task", "show", "-", "-", stdin="x").err
    assert stack.run("task", "show", "-", stdin='{"name": 1}').code == 2


def test_dead_letters_are_listed_requeued_and_discarded(stack: Program) -> None:
    task_id = dead(stack, "-p", "message=buried treasure")
    rows = stack.done("dlq", "list", "--handler", "fail", "--error", "TREASURE", "-o", "json").json
    assert [row["task_id"] for row in rows] == [task_id]
    assert set(rows[0]) == LETTER
    assert stack.done("dlq", "show", task_id, "-o", "json").json["state"] == "dead"
    assert "queued again" in stack.done("dlq", "requeue", task_id).err
    assert stack.run("task", "wait", task_id).code == 13
    task = show(stack, task_id)
    assert (len(task["attempts"]), task["failures"]) == (2, 1)
    assert stack.run("dlq", "discard", "--error", "treasure").code == 6
    stack.done("dlq", "discard", "--error", "treasure", "--yes")
    assert stack.done("dlq", "list", "--error", "treasure", "-o", "json").json == []
    closed = stack.done("dlq", "list", "--error", "treasure", "--all", "-o", "json").json
    assert sorted(row["closed_as"] for row in closed) == ["discarded", "requeued"]
    assert show(stack, task_id)["state"] == "dead"
    assert stack.run("dlq", "discard", task_id, "--yes").code == 5


def test_dead_letters_are_chosen_by_ids_or_filters_never_by_nothing(stack: Program) -> None:
    assert stack.run("dlq", "requeue").code == 2
    assert stack.run("dlq", "requeue", "ABCD", "--all").code == 2
    for word in ("requeue", "discard"):
        narrowed = stack.run("dlq", word, "--handler", "fail", "--all", "--yes")
        assert narrowed.code == 2
        assert f"hint: without it: tqctl dlq {word} --handler fail --yes" in narrowed.err
    assert "no dead letter matches" in stack.done("dlq", "requeue", "--error", "never heard of").err


def test_a_queue_is_paused_shown_purged_and_resumed(stack: Program) -> None:
    stack.done("queue", "pause", "side", "--for", "10m", "--reason", "disk full")
    submit(stack, "echo", "--queue", "side")
    assert "paused" in stack.done("submit", "echo", "--queue", "side").err
    queue = stack.done("queue", "show", "side", "-o", "json").json
    assert set(queue) == QUEUE
    assert (queue["queued"], queue["is_paused"], queue["pause"]["reason"]) == (2, True, "disk full")
    assert "side" in stack.done("queue", "list", "-o", "name").lines
    assert "disk full" in stack.done("queue", "list").out
    assert stack.run("queue", "purge", "side").code == 6
    assert "2 tasks of queue side cancelled" in stack.done("queue", "purge", "side", "--yes").err
    stack.done("queue", "resume", "side")
    assert stack.done("queue", "show", "side", "-o", "json").json["pause"] is None
    assert stack.run("queue", "show", "sidd").code == 3
    assert stack.run("queue", "pause", "a b").code == 2


def test_handlers_show_parameters_an_example_and_their_workers(stack: Program) -> None:
    rows = {row["name"]: row for row in stack.done("handler", "list", "-o", "json").json}
    assert {"echo", "shell", "sleep", "fail", "compute"} <= set(rows)
    assert set(rows["sleep"]) == HANDLER
    assert rows["sleep"]["workers"] == ["worker-1"]
    one = stack.done("handler", "show", "shell", "-o", "json").json
    assert one["example"] == "tqctl submit shell -- COMMAND ARG..."
    said = stack.run("handler", "show", "ecko")
    assert said.code == 3
    assert "did you mean echo" in said.err


def test_workers_are_shown_by_name_and_by_id(stack: Program) -> None:
    row = stack.done("worker", "list", "-o", "json").json[0]
    assert set(row) == WORKER
    for word in (row["id"], row["name"], row["id"][-6:]):
        assert stack.done("worker", "show", word, "-o", "json").json["id"] == row["id"]
    assert stack.run("worker", "show", "nobody").code == 3


def test_the_coordinator_tells_who_leads(stack: Program) -> None:
    (row,) = stack.done("coordinator", "status", "-o", "json").json
    assert set(row) == COORDINATOR
    assert row["is_leader"] is True


def test_status_lists_processes_and_logs(stack: Program) -> None:
    said = stack.done("status", "-o", "json")
    assert {row["role"] for row in said.json} == {"broker", "up", "coordinator", "worker"}
    assert all(set(row) == PROCESS for row in said.json)
    assert "1 worker" in said.err
    assert "serves default" in stack.done("status", "--logs", "worker").out
    assert stack.run("status", "--logs", "nobody").code == 3
    assert stack.run("status", "worker").code == 2


def test_a_second_up_is_a_conflict_that_shows_what_runs(stack: Program) -> None:
    said = stack.run("up", "--detach")
    assert said.code == 5
    assert "worker-1" in said.err


def test_doctor_finds_nothing_on_a_sound_stack(stack: Program) -> None:
    said = stack.run("doctor", "-o", "json")
    assert [row for row in said.json if row["level"] == "problem"] == []
    assert said.code == 0
    assert all(set(row) == {"check", "level", "message", "hint"} for row in said.json)
    names = {row["check"] for row in said.json}
    assert {"persistence", "eviction policy", "migrations", "recorder lag", "coordinator", "clock", "versions"} <= names


def test_completion_offers_live_names(stack: Program) -> None:
    assert "default" in stack.done("__complete", "queues", "de").lines
    assert stack.done("__complete", "handlers", "ec").lines == ["echo"]


def test_the_schema_is_up_to_date(stack: Program) -> None:
    assert "up to date" in stack.done("db", "upgrade").err
    assert stack.done("db", "upgrade", "-n", "-o", "json").json == []


def test_a_list_into_head_succeeds(stack: Program, stack_home: Environment) -> None:
    submit(stack, "echo")
    script = f"set -o pipefail; {sys.executable} -m tqctl task list -o jsonl | head -1"
    done = subprocess.run(
        ["bash", "-c", script], env=_env(stack_home), capture_output=True, text=True, cwd=stack.folder, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def _env(home: Environment) -> dict[str, str]:
    return home.env | {"PYTHONPATH": os.pathsep.join(sys.path)}


def test_ctrl_c_detaches_from_a_wait_and_names_the_way_back(stack: Program, stack_home: Environment) -> None:
    words = ["submit", "sleep", "-p", "seconds=60", "--tag", "t=detach", "--wait"]
    waiting = subprocess.Popen(
        [sys.executable, "-m", "tqctl", *words],
        env=_env(stack_home),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=stack.folder,
    )
    listed = ("task", "list", "--tag", "t=detach", "-o", "name")
    (task_id,) = wait_until(lambda: stack.run(*listed).lines, "the task is in the record")
    wait_until(lambda: show(stack, task_id)["state"] == "running", "the task runs")
    waiting.send_signal(signal.SIGINT)
    _, said = waiting.communicate(timeout=30)
    assert waiting.returncode == 130
    assert f"tqctl task wait {task_id}" in said
    assert show(stack, task_id)["state"] == "running"
    stack.done("task", "cancel", task_id)


def test_watching_tells_each_change_on_a_pipe(stack: Program, stack_home: Environment) -> None:
    task_id = submit(stack, "echo", "--tag", "t=watched", "--delay", "1h")
    words = ["task", "list", "--tag", "t=watched", "-w", "--interval", "100ms"]
    with subprocess.Popen(
        [sys.executable, "-m", "tqctl", *words],
        env=_env(stack_home),
        stdout=subprocess.PIPE,
        text=True,
        cwd=stack.folder,
    ) as watching:
        assert watching.stdout is not None
        first = json.loads(watching.stdout.readline())
        assert (first["type"], first["object"]["id"]) == ("ADDED", task_id)
        stack.done("task", "cancel", task_id)
        second = json.loads(watching.stdout.readline())
        assert (second["type"], second["object"]["state"]) == ("MODIFIED", "cancelled")
        watching.send_signal(signal.SIGINT)
        assert watching.wait(30) == 130


def test_a_resumed_batch_asks_the_record_what_it_has(stack: Program, tmp_path: Path) -> None:
    path = tmp_path / "b.ndjson"
    path.write_text("".join(json.dumps({"handler": "echo", "tag": {"t": "resumed"}}) + "\n" for _ in range(4)))
    batch = stack.done("submit", "--batch", str(path), "--wait").out.strip()
    with path.open("a") as stream:
        stream.write(json.dumps({"handler": "echo", "tag": {"t": "resumed"}}) + "\n")
    said = stack.done("submit", "--batch", str(path), "--resume", batch, "-o", "json", "--wait")
    assert (said.json["submitted"], said.json["repeated"]) == (1, 4)
    assert len(stack.done("task", "list", "--tag", "t=resumed", "-o", "name").lines) == 5


def test_recorded_submits_are_in_the_record_when_the_id_is_printed(stack: Program) -> None:
    task_id = stack.done("submit", "echo", "--durability", "recorded", "--delay", "1h").out.strip()
    from tqctl_runtime.config import load_settings
    from tqctl_runtime.record import open_store

    with open_store(load_settings(), read_only=True) as store:
        assert store.lookup.task(task_id) is not None
    stack.done("task", "cancel", task_id)


@pytest.mark.slow  # starts and stops a whole stack of its own
def test_after_down_lists_answer_from_the_record_and_nothing_is_started(embedded: Environment) -> None:
    assert embedded.run("up", "--detach").returncode == 0
    task_id = embedded.run("submit", "echo", "--tag", "a=b").stdout.strip()
    embedded.run("task", "wait", task_id)
    assert embedded.run("down").returncode == 0
    listed = embedded.run("task", "list", "-o", "name")
    assert (listed.returncode, listed.stdout) == (0, f"{task_id}\n")
    assert "from the record alone" in listed.stderr
    shown = embedded.run("task", "show", task_id, "-o", "json")
    assert json.loads(shown.stdout)["state"] == "succeeded"
    status = embedded.run("status")
    assert status.returncode == 69
    assert "tqctl up" in status.stderr
    again = embedded.run("down")
    assert (again.returncode, again.stderr) == (0, "nothing ran\n")
    kept = embedded.run("down", "--delete-data")
    assert kept.returncode == 6
    assert embedded.run("down", "--delete-data", "--yes").returncode == 0
    assert not (embedded.home / "tqctl" / "default").exists()


def test_a_private_server_that_nothing_works_on_is_told_in_status(embedded: Environment) -> None:
    assert embedded.run("submit", "echo").returncode == 0
    said = embedded.run("status")
    assert said.returncode == 69
    assert "error: no coordinator runs" in said.stderr
    assert "hint: tqctl up --detach" in said.stderr
    assert embedded.run("down").returncode == 0


def test_commands_that_only_join_create_nothing_on_disk(program: Program, tmp_path: Path) -> None:
    for words in (["task", "list"], ["task", "show", "ABCD"], ["queue", "list"], ["status"], ["worker", "list"]):
        said = program.run(*words)
        assert said.code in (0, 69), (words, said)
        assert said.out == ""
        assert said.err != ""
    assert not (tmp_path / "home").exists()
