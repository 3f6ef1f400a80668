"""The Inspector on both pairs: live first, the record then; lists from the record; an answer for each id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contract.client_side import QUEUES, Side
from tests.support.environment import Environment
from tests.support.wait import wait_until
from tqctl_runtime.broker import calls, leader_calls, worker_calls
from tqctl_runtime.client import Client
from tqctl_runtime.core.errors import (
    AmbiguousId,
    BrokerUnavailable,
    Conflict,
    NotFound,
    Pending,
    RecordUnavailable,
    TaskFailed,
    UnknownHandler,
    UsageError,
)
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.task import ErrorInfo
from tqctl_runtime.inspector import Inspector, LetterFilter, TaskFilter
from tqctl_runtime.inspector.logs import untold

BAD = ErrorInfo("ValueError", "bad", "Traceback ...")


@pytest.fixture
def client(side: Side) -> Iterator[Client]:
    with Client(side.settings) as ready:
        yield ready


@pytest.fixture
def inspector(side: Side) -> Iterator[Inspector]:
    with Inspector.open(side.settings) as ready:
        yield ready


def test_a_tail_is_resolved_by_the_record_and_by_the_live_tasks(
    side: Side, client: Client, inspector: Inspector
) -> None:
    live, recorded = client.submit("compute"), client.submit("compute")
    side.work()
    side.work()
    side.forget(recorded)
    fresh = client.submit("compute")
    assert inspector.resolve(recorded[-6:].lower()) == recorded
    assert inspector.resolve(fresh[-8:]) == fresh
    assert inspector.resolve(live.lower()) == live


def test_a_tail_that_fits_several_or_none_is_told(side: Side, client: Client, inspector: Inspector) -> None:
    twins = [f"tsk_{'0' * 21}{n}AAAA" for n in range(2)]
    client.submit("compute", id=twins[0])
    side.record()
    client.submit("compute", id=twins[1])
    with pytest.raises(AmbiguousId) as caught:
        inspector.resolve("aaaa")
    assert sorted(caught.value.candidates) == twins
    assert inspector.resolve("1aaaa") == twins[1]
    for word in ("NOPE", "AAA", "", "a*a*", "tsk_"):
        with pytest.raises(NotFound):
            inspector.resolve(word)


def test_a_waiting_task_is_shown_before_the_record_has_it(client: Client, inspector: Inspector) -> None:
    task_id = client.submit("echo", {"message": "hi"}, tags={"user": "7"}, tenant="acme")
    task = inspector.task(task_id)
    assert (task.state, task.handler, task.queue, task.priority) == (State.QUEUED, "echo", "mail", 7)
    assert (task.payload, task.tags, task.tenant, task.timeout_s) == ({"message": "hi"}, {"user": "7"}, "acme", 3.0)
    assert task.created_at is not None
    assert task.attempts == []


def test_a_task_that_runs_again_shows_recorded_attempts_and_the_one_under_way(
    side: Side, client: Client, inspector: Inspector
) -> None:
    task_id = client.submit("echo", {"message": "hi"})
    side.work(Outcome.FAILED, error=BAD, is_last=False)
    side.record()
    task = inspector.task(task_id)
    assert (task.state, task.failures, task.error) == (State.RETRYING, 1, BAD)
    assert [(a.number, a.outcome) for a in task.attempts] == [(1, "failed")]
    assert task.scheduled_at is not None
    assert [change.done for change in inspector.retry([task_id], who="me")] == ["queued"]
    side.claim()
    task = inspector.task(task_id)
    assert (task.state, task.worker) == (State.RUNNING, side.worker)
    assert [(a.number, a.outcome) for a in task.attempts] == [(1, "failed"), (2, None)]


def test_progress_of_a_running_task_is_shown(side: Side, client: Client, inspector: Inspector) -> None:
    task_id = client.submit("compute")
    (task,) = side.claim()
    note = (task.id, task.token, '{"percent":40,"message":"resized"}', b"")
    side.wire.call(worker_calls.note(side.keys, [note]))
    assert inspector.task(task_id).progress == {"percent": 40, "message": "resized"}


def test_an_end_that_is_not_recorded_yet_is_shown_as_far_as_it_is_known(
    side: Side, client: Client, inspector: Inspector
) -> None:
    watched, other = client.submit("compute", watched=True), client.submit("compute")
    side.work(result=b"1")
    side.work(result=b"2")
    assert (inspector.task(watched).state, inspector.result(watched)) == (State.SUCCEEDED, 1)
    with pytest.raises(Pending, match="not in the record yet"):
        inspector.result(other)
    side.record()
    assert inspector.result(other) == 2


def test_expiry_and_idempotency_key_are_shown_by_both_stores(side: Side, client: Client, inspector: Inspector) -> None:
    task_id = client.submit("compute", expires=3600, idempotency_key="order-7")
    plain = client.submit("compute")
    live = inspector.task(task_id)
    assert live.created_at is not None
    assert live.expires_at is not None
    assert datetime.fromisoformat(live.expires_at) - datetime.fromisoformat(live.created_at) == timedelta(hours=1)
    assert live.idempotency_key == "order-7"
    side.work()
    side.work()
    side.forget(task_id, plain)
    recorded = inspector.task(task_id)
    assert (recorded.expires_at, recorded.idempotency_key) == (live.expires_at, "order-7")
    assert (inspector.task(plain).expires_at, inspector.task(plain).idempotency_key) == (None, None)


def test_a_task_that_runs_again_has_no_expiry_any_more(side: Side, client: Client, inspector: Inspector) -> None:
    task_id = client.submit("compute", expires=3600)
    side.work(Outcome.FAILED, error=BAD)
    side.forget(task_id)
    inspector.retry([task_id])
    assert inspector.task(task_id).expires_at is None
    side.work()
    side.forget(task_id)
    assert inspector.task(task_id).expires_at is None


def test_a_forgotten_task_is_shown_from_the_record(side: Side, client: Client, inspector: Inspector) -> None:
    good, bad = client.submit("compute"), client.submit("compute")
    side.work(result=b'{"n":1}')
    side.work(Outcome.FAILED, error=BAD)
    side.forget(good, bad)
    task = inspector.task(good)
    assert (task.state, task.result, [a.outcome for a in task.attempts]) == (
        State.SUCCEEDED,
        {"n": 1},
        ["succeeded"],
    )
    assert inspector.result(good) == {"n": 1}
    with pytest.raises(TaskFailed, match="ValueError: bad"):
        inspector.result(bad)
    assert inspector.states([good, new_id("tsk")]) == {good: State.SUCCEEDED}


def test_what_neither_store_knows_is_not_found(client: Client, inspector: Inspector) -> None:
    with pytest.raises(NotFound):
        inspector.task(new_id("tsk"))
    with pytest.raises(NotFound):
        inspector.result(new_id("tsk"))
    with pytest.raises(Pending):
        inspector.result(client.submit("compute"))


def test_lists_and_counts_come_from_the_record(side: Side, client: Client, inspector: Inspector) -> None:
    ids = client.submit_many([("compute", {"n": n}) for n in range(3)], tenant="acme")
    client.submit("echo", {"message": "x"})
    with side.recording():
        assert [task.id for task in inspector.tasks(TaskFilter(tenant="acme"), limit=2)] == ids[:0:-1]
        assert inspector.remark is None
        assert [task.id for task in inspector.tasks(TaskFilter(handler="compute"), sort="created_at")] == ids
    assert inspector.count() == 4
    assert inspector.counts(TaskFilter(tenant="acme"))["queued"] == 3
    with pytest.raises(UsageError):
        inspector.tasks(sort="colour")


def test_a_list_says_when_nobody_records(side: Side, client: Client, inspector: Inspector) -> None:
    client.submit("compute")
    assert inspector.tasks() == []
    assert inspector.remark is not None
    assert inspector.remark.startswith("no coordinator leads; the record is ")
    assert inspector.remark.endswith(" behind, 4 changes are missing; tqctl coordinator start")
    side.record()
    side.silence_recorder()
    assert len(inspector.tasks()) == 1
    assert inspector.remark.startswith("the recorder gave no sign for ")
    assert inspector.remark.endswith("; tqctl doctor")


def test_a_list_says_how_far_a_live_recorder_is_behind(side: Side, client: Client, inspector: Inspector) -> None:
    client.submit("compute")
    side.record()
    old = side.wire.command("XADD", side.keys.build("journal"), "*", "e", 1, "s", 3, "r", b"")
    side.wire.command("HINCRBY", side.keys.meta, "seq", 1)
    side.wire.command("HINCRBY", side.keys.meta, "rows", 1)
    wait_until(lambda: inspector.record_lag().ms > 1_000, "the entry is more than a second old")
    inspector.tasks()
    assert inspector.remark is not None
    assert "behind, 1 changes are missing" in inspector.remark
    side.wire.command("XDEL", side.keys.build("journal"), old)


def test_cancel_answers_for_each_id(side: Side, client: Client, inspector: Inspector) -> None:
    running, queued, ended = (client.submit("compute", priority=p) for p in (9, 1, 10))
    side.work()
    side.claim()
    missing = new_id("tsk")
    changes = inspector.cancel([running, queued, ended, missing, queued], reason="wrong file", who="me")
    assert [(change.id, change.done) for change in changes] == [
        (running, "requested"),
        (queued, "cancelled"),
        (ended, None),
        (missing, None),
    ]
    assert isinstance(changes[2].error, Conflict)
    assert "succeeded" in changes[2].error.message
    assert isinstance(changes[3].error, NotFound)
    task = inspector.task(running)
    assert (task.state, task.reason) == (State.RUNNING, "wrong file")


def test_a_forgotten_task_runs_again_with_its_history(side: Side, client: Client, inspector: Inspector) -> None:
    task_id = client.submit("echo", {"message": "hi"}, idempotency_key="k")
    side.work(Outcome.FAILED, error=BAD)
    before = side.look(task_id)
    side.forget(task_id)
    assert [change.to_json() for change in inspector.retry([task_id], who="me")] == [
        {"id": task_id, "done": "queued", "error": None}
    ]
    live = side.look(task_id)
    assert (live.state, live.failures, live.attempts) == (State.QUEUED, 0, 1)
    assert live.version > before.version
    assert live.created_at == before.created_at
    assert client.submit("echo", {"message": "hi"}, idempotency_key="k") == task_id
    side.work(result=b"1")
    side.record()
    assert [(a.number, a.outcome) for a in inspector.task(task_id).attempts] == [(1, "failed"), (2, "succeeded")]


def test_retry_refuses_what_may_not_run_again(side: Side, client: Client, inspector: Inspector) -> None:
    forgotten, live, queued = (client.submit("compute", priority=p) for p in (10, 9, 1))
    side.work()
    side.work()
    side.forget(forgotten)
    changes = inspector.retry([forgotten, live, queued, new_id("tsk")], who="me")
    assert [change.is_done for change in changes] == [False] * 4
    words = [change.error.message for change in changes if change.error is not None]
    assert [word.split(" is ")[1].split()[0] for word in words[:3]] == ["succeeded", "succeeded", "queued"]
    assert isinstance(changes[3].error, NotFound)


def test_dead_letters_are_listed_requeued_and_discarded(side: Side, client: Client, inspector: Inspector) -> None:
    first, second = client.submit("compute", priority=9), client.submit("compute")
    side.work(Outcome.FAILED, error=BAD)
    side.work(Outcome.FAILED, error=ErrorInfo("OSError", "disk"))
    with side.recording():
        assert {letter.task_id for letter in inspector.dead_letters()} == {first, second}
        assert [letter.task_id for letter in inspector.dead_letters(LetterFilter(error="BAD"))] == [first]
        changes = inspector.discard([first, first, new_id("tsk")], who="me")
        assert [change.done for change in changes] == ["discarded", None]
        assert isinstance(changes[1].error, Conflict)
        assert [change.done for change in inspector.retry([second], who="me")] == ["queued"]
        assert inspector.dead_letter_ids() == []
        closed = inspector.dead_letters(LetterFilter(with_closed=True))
    assert {(letter.task_id, letter.closed_as, letter.closed_by) for letter in closed} == {
        (first, "discarded", "me"),
        (second, "requeued", "me"),
    }
    assert inspector.task(first).state == State.DEAD


def test_workers_and_their_handlers_are_shown(side: Side, client: Client, inspector: Inspector) -> None:
    client.submit("compute")
    side.claim()
    (worker,) = inspector.workers()
    assert (worker.id, worker.name, worker.state, worker.running) == (side.worker, "hand", "running", 1)
    assert worker.queues == list(QUEUES)
    assert {row["name"]: row["workers"] for row in inspector.handlers()} == {
        "compute": ["hand"],
        "echo": ["hand"],
        "fail": [],
        "sleep": [],
    }
    assert inspector.handler("echo")["workers"] == ["hand"]
    with pytest.raises(UnknownHandler, match="ecko"):
        inspector.handler("ecko")
    for silence, state in ((1_000, "running"), (20_000, "deaf")):
        figures = {"state": "running", "claim_silence_ms": silence}
        beat = worker_calls.heartbeat(side.keys, side.worker, lease_ms=60_000, held=[], answered=0, figures=figures)
        side.wire.call(beat)
        assert [worker.state for worker in inspector.workers()] == [state]


def test_a_worker_that_lives_no_more_is_found_in_the_record(side: Side, inspector: Inspector) -> None:
    worker, info = new_id("wrk"), {"name": "past", "host": "box", "pid": 7}
    side.wire.call(worker_calls.register(side.keys, worker, lease_ms=60_000, info=info, rows=[]))
    (live,) = (item for item in inspector.workers() if item.id == worker)
    side.wire.call(worker_calls.deregister(side.keys, worker))
    side.record()

    assert worker not in [item.id for item in inspector.workers()]
    for word in (worker, "past", worker[-6:].lower()):
        past = inspector.past_worker(word)
        assert past is not None
        assert (past.id, past.name, past.host, past.state) == (live.id, live.name, live.host, "gone")
        assert past.ended_at is not None
    assert inspector.past_worker("nobody") is None


def test_the_leading_coordinator_is_shown_with_its_term(side: Side, inspector: Inspector) -> None:
    side.record()
    for name in ("test", "other"):
        side.wire.call(leader_calls.coordinator_beat(side.keys, name, {"name": name, "pid": 7, "roles": {}}))
    found = inspector.coordinators()
    assert [(c.id, c.is_leader) for c in found] == [("test", True), ("other", False)]
    assert found[0].term > 0
    assert (inspector.record_lag().rows, inspector.record_lag().is_recorder_alive) == (0, True)


def test_logs_come_from_the_record_and_from_the_attempt_under_way(
    side: Side, client: Client, inspector: Inspector
) -> None:
    task_id = client.submit("echo", {"message": "a"})
    side.work(Outcome.FAILED, error=BAD, is_last=False, log=b"first\n")
    side.record()
    inspector.retry([task_id])
    (task,) = side.claim()
    side.wire.call(worker_calls.note(side.keys, [(task.id, task.token, "", b"second\n")]))
    assert inspector.logs(task_id) == [(1, b"first\n"), (2, b"second\n")]
    assert inspector.logs(task_id, attempt=2) == [(2, b"second\n")]


def test_followed_logs_go_on_to_the_last_line_of_the_record(
    side: Side, client: Client, inspector: Inspector, background: Callable[..., Future[Any]]
) -> None:
    task_id = client.submit("echo", {"message": "a"})
    (task,) = side.claim()
    side.wire.call(worker_calls.note(side.keys, [(task.id, task.token, "", b"one\n")]))
    told: list[tuple[int, bytes]] = []
    with side.recording():
        following = background(lambda: told.extend(inspector.follow_logs(task_id)))
        side.wire.call(worker_calls.note(side.keys, [(task.id, task.token, "", b"two\n")]))
        side.finish(task, log=b"one\ntwo\nthree\n")
        following.result(30)
    assert b"".join(data for _, data in told) == b"one\ntwo\nthree\n"


def test_the_rest_of_a_log_is_found_also_where_its_middle_was_cut() -> None:
    lines = b"".join(b"line %d\n" % n for n in range(2_000))
    assert untold(lines, lines[:500]) == lines[500:]
    cut = lines[:100] + b"\n... cut ...\n" + lines[-4_000:]
    assert untold(cut, lines[-10_000:-1_000]) == lines[-1_000:]
    assert untold(b"something else", b"told") == b""


def test_a_wait_gives_each_task_when_it_ends_and_the_rest_at_the_end(
    side: Side, client: Client, inspector: Inspector
) -> None:
    ids = client.submit_many([("compute", {})] * 2, watched=True)
    side.work(result=b"1")
    found = list(inspector.wait(ids, timeout=0.05))
    assert [(task_id, task and task.state) for task_id, task in found] == [(ids[0], State.SUCCEEDED), (ids[1], None)]


def test_without_its_broker_the_record_answers_alone(side: Side, client: Client, pair: Environment) -> None:
    task_id = client.submit("echo", {"message": "a"})
    side.work(log=b"said\n")
    inspected = client.submit("echo", {"message": "b"})
    side.wire.call(calls.pause(side.keys, "mail", reason="r", who="w"))
    side.record()
    with Inspector.open(pair.settings(redis_url="redis://127.0.0.1:1/0")) as inspector:
        assert {task.id for task in inspector.tasks()} == {task_id, inspected}
        assert inspector.remark is not None
        assert inspector.remark.startswith("from the record alone")
        assert inspector.task(task_id).state == State.SUCCEEDED
        assert inspector.resolve(task_id[-8:]) == task_id
        assert inspector.logs(task_id) == [(1, b"said\n")]
        queue = inspector.queue("mail")
        assert (queue.queued, queue.is_paused) == (1, True)
        assert [row["name"] for row in inspector.handlers()] == ["compute", "echo"]
        assert inspector.workers() == []
        for verb in (inspector.cancel, inspector.retry):
            with pytest.raises(BrokerUnavailable):
                verb([inspected])
        with pytest.raises(BrokerUnavailable):
            inspector.overview()


def test_without_its_record_live_tasks_are_still_shown(side: Side, client: Client, pair: Environment) -> None:
    task_id = client.submit("echo", {"message": "a"})
    with Inspector.open(pair.settings(database_url="sqlite:////nowhere/record.db")) as inspector:
        assert inspector.task(task_id).state == State.QUEUED
        assert inspector.resolve(task_id[-8:]) == task_id
        assert inspector.queue("mail").scheduled is None
        assert [change.done for change in inspector.cancel([task_id])] == ["cancelled"]
        with pytest.raises(RecordUnavailable):
            inspector.tasks()


def test_joining_a_stack_that_does_not_run_creates_nothing(embedded: Environment) -> None:
    with Inspector.open(embedded.settings()) as inspector:
        for ask in (inspector.tasks, inspector.queues, inspector.handlers, inspector.dead_letters):
            with pytest.raises(RecordUnavailable):
                ask()
        assert inspector.workers() == []
        for order in (inspector.overview, inspector.record_lag):
            with pytest.raises(BrokerUnavailable, match="does not run"):
                order()
    assert not Path(embedded.settings().home).exists()
