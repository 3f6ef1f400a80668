"""Tasks through a whole worker on both brokers: claims, outcomes, retries, cancels, children, drains."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.worker_world import FIXED, World, children_of, lines_of
from tests.support.wait import wait_until
from tqctl_runtime.broker import calls, views
from tqctl_runtime.core.retry import DEFAULT_BACKOFF
from tqctl_runtime.core.serializer import pack
from tqctl_runtime.core.states import State


@pytest.fixture
def world(broker_address_url: str, namespace: str, tmp_path: Path) -> Iterator[World]:
    with World(broker_address_url, namespace, tmp_path) as ready:
        yield ready


def test_every_kind_of_end_reaches_the_broker(world: World) -> None:
    world.worker()
    good = world.submit("typed", {"count": 2})
    bad = world.submit("fail", {"message": "boom"}, max_retries=0)
    refused = world.submit("typed", {"count": "two"})
    cancelled = world.submit("ask_cancel")
    slow = world.submit("spin", timeout_ms=300, max_retries=0)
    states = {task.id: task.state for task in world.until_final(*good, *bad, *refused, *cancelled, *slow)}
    assert [states[item[0]] for item in (good, bad, refused, cancelled, slow)] == [
        State.SUCCEEDED,
        State.DEAD,
        State.DEAD,
        State.CANCELLED,
        State.DEAD,
    ]
    assert world.outcomes(slow[0]) == ["timed_out"]
    assert world.outcomes(refused[0]) == ["rejected"]
    assert world.result(good[0]) == [2, "x", 1.0]


def test_a_failing_task_is_retried_by_its_backoff_and_then_dead(world: World) -> None:
    world.worker()
    (task_id,) = world.submit("fail", max_retries=2)
    (task,) = world.until_state(State.DEAD, task_id)
    assert (task.failures, task.attempts, task.deaths) == (3, 3, 0)
    assert world.outcomes(task_id) == ["failed"] * 3


def test_a_retry_waits_as_long_as_its_seed_says(world: World) -> None:
    world.worker()
    (task_id,) = world.submit("fail", backoff=DEFAULT_BACKOFF.to_wire())
    (task,) = wait_until(lambda: [t for t in world.look(task_id) if t.state is State.RETRYING], "a retry")
    (row,) = [row for row in world.rows("F") if row[2].decode() == task_id]
    finished_at = row[1]
    assert task.due_at - finished_at == DEFAULT_BACKOFF.delay_ms(task_id, 1)


def test_a_handler_chooses_its_own_retry(world: World) -> None:
    world.worker()
    (task_id,) = world.submit("ask_retry", {"after": 0.01}, max_retries=1, backoff=["fixed", 600.0, 600.0, 0.0, []])
    (task,) = world.until_state(State.DEAD, task_id)
    assert task.failures == 2


def test_thousands_of_short_tasks_are_done_once_each(world: World) -> None:
    world.worker()
    ids = world.submit("child", {"number": 1}, count=3_000)
    for task in world.until_state(State.SUCCEEDED, *ids):
        assert (task.attempts, task.failures, task.deaths) == (1, 0, 0)


def test_a_worker_holds_no_more_than_its_places_and_a_short_prefetch(world: World, tmp_path: Path) -> None:
    world.worker(concurrency=2)
    until = tmp_path / "until"
    ids = world.submit("hold", {"started": str(tmp_path / "started"), "until": str(until)}, count=6)
    wait_until(lambda: len(lines_of(tmp_path / "started")) == 2, "two starts")
    wait_until(lambda: sum(task.state is State.RUNNING for task in world.look(*ids)) == 2, "two told starts")
    assert sum(task.is_held for task in world.look(*ids)) == 2
    until.touch()
    world.until_state(State.SUCCEEDED, *ids)
    assert len(lines_of(tmp_path / "started")) == 6


def test_what_was_prefetched_behind_long_tasks_is_given_back_uncounted(world: World, tmp_path: Path) -> None:
    world.worker(concurrency=1)
    until = tmp_path / "until"
    world.until_state(State.SUCCEEDED, *world.submit("hold_if", count=500))
    world.wire.call(calls.pause(world.keys, "default"))
    ids = [*world.submit("hold_if", count=5), *world.submit("hold_if", {"until": str(until)}, count=5)]
    ids += world.submit("hold_if", count=100)
    world.wire.call(calls.resume(world.keys, "default"))
    wait_until(lambda: sum(task.is_held for task in world.look(*ids)) == 1, "one held task")
    for task in world.look(*ids):
        assert (task.failures, task.deaths) == (0, 0)
    until.touch()
    for task in world.until_state(State.SUCCEEDED, *ids):
        assert task.attempts == 1


def test_an_envelope_that_is_none_is_refused_and_the_worker_goes_on(world: World) -> None:
    envelopes = [
        b"\xc1",
        b"",
        b"\x05",
        b"\xc0",
        b"\x91\x01",
        b"\x93\x01\xa1h\xa1p",
        pack([1, "noop", b"{}", "soon", 0, 0, 0, 0, 0]),
    ]
    ids = world.submit("noop", count=len(envelopes))
    with world.server() as server:
        for task_id, envelope in zip(ids, envelopes, strict=True):
            server.hset(world.keys.build("env"), task_id, envelope)
    worker = world.worker()
    world.until_state(State.DEAD, *ids)
    assert {outcome for task_id in ids for outcome in world.outcomes(task_id)} == {"rejected"}
    world.until_state(State.SUCCEEDED, *world.submit("noop"))
    assert worker.is_running()


def test_a_task_of_an_unknown_handler_is_given_back_with_a_delay(world: World) -> None:
    world.worker()
    (task_id,) = world.submit("somebody_elses")
    (task,) = wait_until(lambda: [t for t in world.look(task_id) if t.state is State.SCHEDULED], "its way back")
    assert (task.attempts, task.failures, task.deaths) == (0, 0, 0)
    assert world.until_state(State.SUCCEEDED, *world.submit("noop"))


@pytest.mark.parametrize("handler", ["three_children", "awaited_children"])
def test_a_handlers_children_are_not_doubled_by_its_retry(world: World, handler: str) -> None:
    world.worker()
    (task_id,) = world.submit(handler, correlation_id="order-7", tenant="acme")
    ids = world.result(task_id)
    assert world.outcomes(task_id) == ["failed", "succeeded"]
    found = [row for row in world.rows("S") if row[2].decode() != task_id]
    assert sorted(row[2].decode() for row in found) == sorted(ids)
    children = world.until_state(State.SUCCEEDED, *ids)
    assert len(children) == 3
    for child in children:
        envelope = child.envelope
        assert b"order-7" in envelope
        assert b"acme" in envelope
        assert task_id.encode() in envelope


def test_an_async_handler_submits_from_its_loop_and_from_threads(world: World) -> None:
    world.worker()
    (task_id,) = world.submit("async_children")
    assert len(set(world.result(task_id))) == 2


def test_progress_and_live_log_are_there_while_a_task_runs(world: World, tmp_path: Path) -> None:
    world.worker()
    until = tmp_path / "until"
    (task_id,) = world.submit("talk_and_hold", {"until": str(until)})
    chunks = wait_until(lambda: world.wire.call(views.log_entries(world.keys, task_id)), "live lines")
    assert chunks[0][1:] == (1, b"early line\n")
    until.touch()
    world.until_state(State.SUCCEEDED, task_id)


@pytest.mark.parametrize("handler", ["spin", "stubborn", "long_c_call", "async_spin", "async_swallow", "async_sleep"])
def test_a_running_task_is_cancelled_whatever_it_does(world: World, handler: str) -> None:
    world.worker()
    (task_id,) = world.submit(handler)
    world.until_state(State.RUNNING, task_id)
    world.cancel(task_id)
    (task,) = world.until_state(State.CANCELLED, task_id)
    assert world.outcomes(task_id) == ["cancelled"]
    assert (task.failures, task.deaths) == (0, 0)


def test_neighbours_of_a_killed_async_task_run_again_with_nothing_counted(world: World, tmp_path: Path) -> None:
    world.worker()
    until = tmp_path / "until"
    (neighbour,) = world.submit("async_hold", {"started": str(tmp_path / "started"), "until": str(until)})
    wait_until(lambda: lines_of(tmp_path / "started"), "the neighbour")
    (guilty,) = world.submit("async_swallow", timeout_ms=200, max_retries=0)
    world.until_state(State.DEAD, guilty)
    wait_until(lambda: len(lines_of(tmp_path / "started")) == 2, "the neighbour's second start")
    until.touch()
    (task,) = world.until_state(State.SUCCEEDED, neighbour)
    assert (task.failures, task.deaths, task.is_suspect) == (0, 0, False)
    assert world.outcomes(neighbour) == ["interrupted", "succeeded"]


def test_term_lets_running_tasks_end_and_claims_nothing_more(world: World, tmp_path: Path) -> None:
    worker = world.worker(concurrency=1)
    until = tmp_path / "until"
    (running,) = world.submit("hold", {"started": str(tmp_path / "started"), "until": str(until)})
    world.until_state(State.RUNNING, running)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: worker.state == "draining", "the drain")
    (waiting,) = world.submit("noop")
    until.touch()
    assert worker.wait() == 0
    assert world.look(running)[0].state is State.SUCCEEDED
    assert world.look(waiting)[0].state is State.QUEUED
    assert world.overview().workers == []


def test_a_cancel_works_during_a_drain(world: World) -> None:
    worker = world.worker()
    (task_id,) = world.submit("stubborn")
    world.until_state(State.RUNNING, task_id)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: worker.state == "draining", "the drain")
    world.cancel(task_id)
    assert worker.wait() == 0
    assert world.look(task_id)[0].state is State.CANCELLED


@pytest.mark.parametrize("handler", ["stubborn", "async_swallow"])
def test_a_second_term_hands_back_at_once_and_counts_nothing(world: World, handler: str) -> None:
    worker = world.worker()
    (task_id,) = world.submit(handler)
    world.until_state(State.RUNNING, task_id)
    worker.signal(signal.SIGTERM)
    wait_until(lambda: worker.state == "draining", "the drain")
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 7
    (task,) = world.look(task_id)
    assert (task.state, task.failures, task.deaths, task.is_suspect) == (State.QUEUED, 0, 0, False)
    assert world.outcomes(task_id) == ["released"]


def test_a_drain_that_runs_out_hands_back(world: World) -> None:
    worker = world.worker(drain=200)
    (task_id,) = world.submit("stubborn")
    world.until_state(State.RUNNING, task_id)
    worker.signal(signal.SIGINT)
    assert worker.wait() == 7
    assert world.look(task_id)[0].state is State.QUEUED


def test_hup_runs_edited_code(world: World, tmp_path: Path) -> None:
    app = tmp_path / "edited.py"
    code = "from tqctl import handler\n@handler\ndef which():\n    return 'WHICH'\n"
    app.write_text(code.replace("WHICH", "old"))
    worker = world.worker(app=[str(app)])
    assert world.result(world.submit("which")[0]) == "old"
    app.write_text(code.replace("WHICH", "edited") + "@handler\ndef added():\n    return 1\n")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: "reloaded" in worker.log, "the reload")
    assert world.result(world.submit("which")[0]) == "edited"
    assert world.result(world.submit("added")[0]) == 1
    assert "added" in world.overview().workers[0].info["handlers"]


def test_a_reload_of_broken_code_changes_nothing(world: World, tmp_path: Path) -> None:
    app = tmp_path / "edited.py"
    app.write_text("from tqctl import handler\n@handler\ndef which():\n    return 'old'\n")
    worker = world.worker(app=[str(app)])
    app.write_text("syntax error here\n")
    worker.signal(signal.SIGHUP)
    wait_until(lambda: "nothing was reloaded" in worker.log, "the refusal")
    assert world.result(world.submit("which")[0]) == "old"


def test_a_worker_whose_app_is_broken_registers_nothing(world: World, tmp_path: Path) -> None:
    app = tmp_path / "broken.py"
    app.write_text("raise RuntimeError('not today')\n")
    worker = world.begin_worker(app=[str(app)])
    assert worker.wait() == 1
    assert "RuntimeError: not today" in worker.log
    assert world.overview().workers == []
    assert children_of(worker.process.pid) == []


def test_a_worker_tells_who_it_is_and_what_it_can_run(world: World) -> None:
    worker = world.worker(concurrency=3, processes=2)
    (seen,) = world.overview().workers
    assert seen.info["pid"] == worker.process.pid
    assert (seen.info["concurrency"], seen.info["processes"], seen.info["version"]) == (3, 2, "test")
    assert {"echo", "noop", "async_hold"} <= set(seen.info["handlers"])
    assert "shell" not in seen.info["handlers"]
    row = world.wire.call(calls.catalogue_row(world.keys, "typed"))
    assert row is not None
    assert row["parameters"] == [["count", "int", None], ["name", "str", '"x"'], ["ratio", "float", "1.0"]]
    assert json.loads(json.dumps(row)) == row


def test_shell_is_offered_where_it_is_allowed(world: World) -> None:
    world.worker(allow_shell=True)
    (task_id,) = world.submit("shell", {"argv": ["sh", "-c", "echo out; exit 3"]}, max_retries=0)
    (task,) = world.until_state(State.DEAD, task_id)
    detail = world.detail(task)
    assert detail.log == b"out\n"
    assert detail.error is not None
    assert detail.error.message == "exit code 3"


def test_an_idle_worker_starts_what_is_submitted_by_the_bell(world: World) -> None:
    world.worker(queues=["a", "b"])
    for queue in ("b", "a", "b"):
        (task_id,) = world.submit("noop", queue=queue, backoff=FIXED)
        world.until_state(State.SUCCEEDED, task_id)
