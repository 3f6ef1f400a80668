"""How waits end, with both clients on both pairs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.contract.client_side import Face, Side
from tests.support.environment import Environment
from tests.support.proxy import Proxy
from tests.support.wait import wait_until
from tqctl_runtime.broker import calls
from tqctl_runtime.core.errors import (
    BrokerUnavailable,
    NotFound,
    Pending,
    RecordUnavailable,
    TaskCancelled,
    TaskFailed,
    TaskTimedOut,
    WaitTimeout,
)
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.task import ErrorInfo


def test_a_wait_returns_the_result_of_a_task_that_ends_meanwhile(
    side: Side, client: Face, background: Callable[..., Future[Any]]
) -> None:
    task_id = client.do("submit", "echo", {"message": "a"})
    waiting = background(client.do, "wait", task_id, 30)
    side.wait_watched(task_id)
    wait_until(lambda: side.wire.call(calls.watch(side.keys, [task_id])), "it is watched")
    side.work(result=b'{"said":"a"}')
    assert waiting.result(30) == {"said": "a"}


def test_the_result_of_a_watched_task_needs_no_record(side: Side, make_face: Callable[[Settings], Face]) -> None:
    client = make_face(replace(side.settings, database_url="sqlite:////nowhere/record.db"))
    task_id = client.do("submit", "echo", {"message": "a"}, watched=True)
    side.work(result=b"[1]")
    assert client.do("wait", task_id, 30) == [1]
    assert client.do("result", task_id) == [1]


def test_the_result_of_a_forgotten_task_comes_from_the_record(side: Side, client: Face) -> None:
    task_id = client.do("submit", "echo", {"message": "a"})
    side.work(result=b"2")
    side.forget(task_id)
    assert client.do("wait", task_id, 30) == 2


def test_a_result_that_only_the_record_has_is_waited_for_until_it_is_recorded(
    side: Side, client: Face, background: Callable[..., Future[Any]]
) -> None:
    task_id = client.do("submit", "echo", {"message": "a"})
    side.work(result=b"3")
    waiting = background(client.do, "wait", task_id, 30)
    side.wait_watched(task_id)
    side.record()
    assert waiting.result(30) == 3


def test_a_client_that_cannot_read_the_record_says_so(side: Side, make_face: Callable[[Settings], Face]) -> None:
    client = make_face(replace(side.settings, database_url="sqlite:////nowhere/record.db"))
    task_id = client.do("submit", "echo", {"message": "a"})
    side.work()
    side.forget(task_id)
    with pytest.raises(RecordUnavailable, match="only in the record"):
        client.do("wait", task_id, 30)


def test_each_end_of_a_waited_task_has_its_error(side: Side, client: Face) -> None:
    ids = client.do("submit_many", [("compute", {"n": n}) for n in range(4)], watched=True)
    side.work(Outcome.FAILED, error=ErrorInfo("ValueError", "bad"))
    side.work(Outcome.TIMED_OUT, error=ErrorInfo("TimeLimitReached", "too long"))
    assert client.do("cancel", ids[2:], reason="wrong file") == 2
    with pytest.raises(TaskFailed, match="ValueError: bad"):
        client.do("wait", ids[0], 30)
    with pytest.raises(TaskTimedOut):
        client.do("wait", ids[1], 30)
    with pytest.raises(TaskCancelled):
        client.do("wait", ids[2], 30)
    assert client.do("cancel", ids) == 0


def test_why_a_task_was_cancelled_comes_from_the_record(
    side: Side, client: Face, background: Callable[..., Future[Any]]
) -> None:
    task_id = client.do("submit", "compute")
    waiting = background(client.do, "wait", task_id, 30)
    side.wait_watched(task_id)
    assert client.do("cancel", [task_id], reason="wrong file") == 1
    side.record()
    with pytest.raises(TaskCancelled, match="was cancelled: wrong file"):
        waiting.result(30)


def test_why_a_running_task_was_cancelled_is_not_what_its_handler_says(
    side: Side, client: Face, background: Callable[..., Future[Any]]
) -> None:
    task_id = client.do("submit", "compute", watched=True)
    (task,) = side.claim(1)
    assert client.do("cancel", [task_id], reason="wrong file") == 1
    waiting = background(client.do, "wait", task_id, 30)
    side.wait_watched(task_id)
    side.finish(task, Outcome.CANCELLED, result=None, error=ErrorInfo("CancelRequested", "asked to stop"))
    side.record()
    with pytest.raises(TaskCancelled, match="was cancelled: wrong file"):
        waiting.result(30)


def test_a_cancelled_task_is_told_without_its_reason_where_the_record_cannot_be_read(
    side: Side, make_face: Callable[[Settings], Face]
) -> None:
    client = make_face(replace(side.settings, database_url="sqlite:////nowhere/record.db"))
    task_id = client.do("submit", "compute")
    assert client.do("cancel", [task_id], reason="wrong file") == 1
    with pytest.raises(TaskCancelled, match=r"was cancelled$"):
        client.do("wait", task_id, 30)


def test_a_task_that_was_never_started_in_time_fails_its_waiter(side: Side, client: Face) -> None:
    task_id = client.do("submit", "compute", watched=True, expires=datetime(2001, 1, 1, tzinfo=UTC))
    assert side.round(places=1).claimed == []
    with pytest.raises(TaskFailed, match="expired"):
        client.do("wait", task_id, 30)


def test_why_a_task_died_as_poison_comes_from_the_record(
    side: Side, client: Face, background: Callable[..., Future[Any]]
) -> None:
    task_id = client.do("submit", "compute")
    for _ in range(3):
        (task,) = side.round(places=1, takes_suspect=True).claimed
        side.finish(task, Outcome.DIED, result=None)
    side.forget(task_id)
    with pytest.raises(TaskFailed, match="poison"):
        client.do("wait", task_id, 30)


def test_several_results_come_in_the_order_of_their_ids(side: Side, client: Face) -> None:
    ids = client.do("submit_many", [("compute", {"n": n}) for n in range(3)], watched=True)
    for task in reversed(side.claim(3)):
        side.finish(task, result=task.id.encode().join([b'"', b'"']))
    assert client.do("wait", [*ids, ids[0]], 30) == [*ids, ids[0]]


def test_a_wait_that_ends_first_leaves_the_task_alone(side: Side, client: Face) -> None:
    task_id = client.do("submit", "compute")
    with pytest.raises(WaitTimeout, match="goes on") as raised:
        client.do("wait", task_id, 0.05)
    assert raised.value.hint == f"tqctl task wait {task_id}"
    with pytest.raises(Pending):
        client.do("result", task_id)
    assert side.look(task_id).state == State.QUEUED


def test_an_id_that_neither_store_knows_is_not_found(client: Face) -> None:
    with pytest.raises(NotFound):
        client.do("wait", new_id("tsk"), 30)


def test_a_wait_outlives_a_lost_connection(
    side: Side, make_face: Callable[[Settings], Face], background: Callable[..., Future[Any]], pair: Environment
) -> None:
    assert pair.redis_url is not None
    with Proxy(pair.redis_url) as proxy:
        client = make_face(replace(side.settings, redis_url=proxy.url))
        task_id = client.do("submit", "compute")
        waiting = background(client.do, "wait", task_id, 30)
        side.wait_watched(task_id)
        proxy.cut()
        side.work(result=b"1")
        side.record()
        assert waiting.result(30) == 1


def test_a_wait_outlives_a_connection_that_is_lost_while_it_begins(
    side: Side, make_face: Callable[[Settings], Face], background: Callable[..., Future[Any]], pair: Environment
) -> None:
    assert pair.redis_url is not None
    with Proxy(pair.redis_url) as proxy:
        client = make_face(replace(side.settings, redis_url=proxy.url))
        task_id = client.do("submit", "compute")
        proxy.pause("down")
        waiting = background(client.do, "wait", task_id, 30)
        side.wait_watched(task_id)
        proxy.cut()
        proxy.resume()
        side.work(result=b"1")
        side.record()
        assert waiting.result(30) == 1


def test_without_a_broker_a_wait_is_answered_by_the_record(
    side: Side, client: Face, make_face: Callable[[Settings], Face]
) -> None:
    ended, open_ = client.do("submit_many", [("compute", {})] * 2)
    side.work(result=b"1")
    side.record()
    alone = make_face(replace(side.settings, redis_url="redis://127.0.0.1:1/0"))
    assert alone.do("wait", ended, 30) == 1
    with pytest.raises(BrokerUnavailable):
        alone.do("wait", open_, 30)
