"""Both clients against both pairs: what is queued, what is refused, what durability means, how waits end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.client_side import Face, Side
from tests.support.environment import Environment
from tests.support.proxy import Proxy
from tests.support.wait import wait_until
from tqctl_runtime.broker import calls, views
from tqctl_runtime.broker.leader_calls import open_gate
from tqctl_runtime.broker.repair_calls import close_gate
from tqctl_runtime.client import Client, PartlySubmitted, Unconfirmed, receipts
from tqctl_runtime.client.sending import Delivery
from tqctl_runtime.client.shapes import Packed
from tqctl_runtime.core.errors import (
    BrokerUnavailable,
    Busy,
    Conflict,
    NotOpen,
    PayloadError,
    Pending,
    TqctlError,
    UnknownHandler,
    UsageError,
)
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.serializer import pack
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import State
from tqctl_runtime.core.submission import ENVELOPE_LAYOUT, Envelope, build_submission

FUTURE_MS = 4_102_444_800_000


def test_defaults_come_from_the_catalogue(side: Side, client: Face) -> None:
    task = side.look(client.do("submit", "echo", {"message": "hi"}))
    envelope = Envelope.from_bytes(task.envelope)
    assert (task.state, task.queue, task.priority, task.max_retries) == (State.QUEUED, "mail", 7, 2)
    assert (envelope.handler, envelope.payload, envelope.timeout_ms) == ("echo", b'{"message":"hi"}', 3000)
    unknown = side.look(client.do("submit", "later", {}, unchecked=True))
    assert (unknown.queue, unknown.priority, unknown.max_retries) == ("default", 5, 5)


def test_options_go_before_defaults(side: Side, client: Face) -> None:
    task_id = client.do(
        "submit",
        "echo",
        {"message": "hi"},
        queue="other",
        priority="critical",
        max_retries=0,
        timeout=None,
        delay=timedelta(minutes=5),
        expires=60,
        tags={"user": "7"},
        tenant="acme",
        correlation_id="c-1",
    )
    task = side.look(task_id)
    envelope = Envelope.from_bytes(task.envelope)
    assert (task.state, task.queue, task.priority, task.max_retries) == (State.SCHEDULED, "other", 10, 0)
    assert task.due_at == task.created_at + 300_000
    assert task.expires_at == task.due_at + 60_000
    assert (envelope.timeout_ms, envelope.tags, envelope.tenant) == (0, {"user": "7"}, "acme")
    assert envelope.correlation_id == "c-1"
    assert side.look(client.do("submit", "compute", at=datetime(2100, 1, 1, tzinfo=UTC))).due_at == FUTURE_MS


def test_what_is_refused_says_why_and_queues_nothing(side: Side, client: Face) -> None:
    with pytest.raises(UnknownHandler, match="'ecko'") as caught:
        client.do("submit", "ecko", {})
    assert caught.value.hint == "did you mean echo?"
    with pytest.raises(UnknownHandler):
        client.do("submit_many", [("nosuch", {})])
    with pytest.raises(UsageError, match="no option dely"):
        client.do("submit", "echo", {}, dely=3)
    with pytest.raises(PayloadError, match="mapping"):
        client.do("submit", "echo", ["hi"])
    with pytest.raises(PayloadError, match="JSON"):
        client.do("submit_many", [("echo", {"message": float("nan")})])
    with pytest.raises(UsageError, match="durability"):
        client.do("submit", "echo", {"message": "a"}, durability="maybe")
    with pytest.raises(Busy, match="nothing was queued"):
        client.do("submit", "echo", {"message": "a"}, durability="recorded")
    assert side.claim(5) == []


def test_the_same_id_twice_is_one_task(side: Side, client: Face) -> None:
    task_id = new_id("tsk")
    assert [client.do("submit", "echo", {"message": "a"}, id=task_id) for _ in range(2)] == [task_id] * 2
    assert len(side.claim(5)) == 1


def test_a_taken_key_or_unique_window_answers_with_the_first_task(side: Side, client: Face) -> None:
    first = client.do("submit", "echo", {"message": "a"}, idempotency_key="k")
    assert client.do("submit", "echo", {"message": "a"}, idempotency_key="k") == first
    with pytest.raises(Conflict, match=first):
        client.do("submit", "echo", {"message": "b"}, idempotency_key="k")
    assert len(side.claim(5)) == 1
    second = client.do("submit", "compute", {"n": 1}, unique_for=timedelta(minutes=1))
    assert client.do("submit", "compute", {"n": 1}, unique_for=60) == second
    assert client.do("submit", "compute", {"n": 2}, unique_for=60) != second


def test_bulk_keeps_the_order_over_many_calls(side: Side, client: Face) -> None:
    ids = client.do("submit_many", (("compute", {"n": n}) for n in range(2_500)), tenant="acme")
    assert len(set(ids)) == 2_500
    claimed = [task for _ in range(3) for task in side.round(places=1_000).claimed]
    assert [task.id for task in claimed] == ids
    payloads = [Envelope.from_bytes(task.envelope) for task in claimed]
    assert [item.payload for item in payloads] == [b'{"n":%d}' % n for n in range(2_500)]
    assert {item.tenant for item in payloads} == {"acme"}


def test_items_of_a_bulk_may_have_options_of_their_own(side: Side, client: Face) -> None:
    ids = client.do("submit_many", [("compute", {}), ("compute", {}, {"priority": 9})], priority=2)
    assert [side.look(task_id).priority for task_id in ids] == [2, 9]


def test_a_bulk_of_large_payloads_is_cut_into_calls_that_fit(side: Side, client: Face) -> None:
    ids = client.do("submit_many", [("echo", {"message": "x" * 400_000})] * 6)
    position = side.wire.call(calls.journal_position(side.keys))
    assert [side.look(task_id).state for task_id in ids] == [State.QUEUED] * 6
    assert position is not None


def test_a_bulk_that_breaks_off_names_what_was_queued(side: Side, client: Face) -> None:
    def items() -> Iterator[tuple[str, Any]]:
        yield from (("compute", {"n": n}) for n in range(2_100))
        yield "compute", {"n": float("nan")}

    with pytest.raises(PartlySubmitted, match="JSON") as caught:
        client.do("submit_many", items())
    assert len(caught.value.ids) == 2_000
    assert [task.id for _ in range(3) for task in side.round(places=1_000).claimed] == caught.value.ids


def test_a_conflict_inside_a_bulk_is_told_after_the_rest_was_queued(side: Side, client: Face) -> None:
    client.do("submit", "compute", {"n": 1}, idempotency_key="k")
    with pytest.raises(PartlySubmitted) as caught:
        client.do("submit_many", [("compute", {"n": 2}, {"idempotency_key": "k"}), ("compute", {"n": 3})])
    assert isinstance(caught.value.__cause__, Conflict)
    assert len(caught.value.ids) == 1


def test_recorded_returns_when_sql_has_the_task(side: Side, client: Face) -> None:
    with side.recording():
        task_id = client.do("submit", "echo", {"message": "a"}, durability="recorded")
        assert side.store.lookup.states([task_id]) == {task_id: State.QUEUED}


def test_what_the_record_cannot_take_is_not_told_to_be_recorded(side: Side, client: Face) -> None:
    good, bad = build_submission("echo", {}), build_submission("echo", {})
    foreign = Packed(bad.id, bad.head(), pack([ENVELOPE_LAYOUT + 1, "echo", b"{}", 0, *[None] * 6]))
    with side.recording():
        with pytest.raises(Unconfirmed, match="quarantine") as caught:
            client.do("send", [foreign], durability="recorded")
        (receipt,) = client.do("send", [good], durability="recorded")
    assert caught.value.ids == [bad.id]
    assert receipt.is_recorded
    assert side.look(bad.id).state is State.QUEUED
    assert side.store.lookup.states([good.id, bad.id]) == {good.id: State.QUEUED}


def test_recorded_that_is_not_confirmed_in_time_names_the_id(
    side: Side, client: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "CONFIRM_TIMEOUT", 0.05)
    side.wire.command("HSET", side.keys.build("wm"), "at", FUTURE_MS)
    with pytest.raises(Unconfirmed) as caught:
        client.do("submit", "echo", {"message": "a"}, durability="recorded")
    assert isinstance(caught.value, Pending)
    assert [task.id for task in side.claim(5)] == caught.value.ids


def test_what_a_rebuilt_broker_lost_is_submitted_again_until_it_is_recorded(
    side: Side, client: Face, background: Callable[..., Future[Any]]
) -> None:
    side.wire.command("HSET", side.keys.build("wm"), "at", FUTURE_MS, "epoch", 1)
    task_id = new_id("tsk")
    sent = background(client.do, "submit", "echo", {"message": "a"}, id=task_id, durability="recorded")
    wait_until(lambda: side.wire.call(views.look(side.keys, [task_id]))[0], "the task is queued")
    lost = [side.keys.build(name) for name in ("st", "env", "journal")]
    side.wire.command("DEL", *lost, side.keys.build("ready", "mail"))
    side.wire.command("HSET", side.keys.meta, "epoch", 2)
    side.wire.command("HSET", side.keys.build("wm"), "epoch", 2)
    wait_until(lambda: side.wire.call(views.look(side.keys, [task_id]))[0], "the task is queued again")
    side.wire.command("HSET", side.keys.build("wm"), "seq", 1_000)
    assert sent.result(30) == task_id


def wait_ready(side: Side, count: int, epoch: int = 1) -> None:
    """Wait until *count* tasks stand in line."""
    key = side.keys.build("ready", "default")
    wait_until(lambda: side.wire.command("ZCARD", key) == count, f"{count} tasks are queued in epoch {epoch}")


def test_calls_of_a_bulk_wait_for_the_record_together_and_no_more_of_them_than_the_bound(
    side: Side, client: Face, background: Callable[..., Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "IN_FLIGHT", 2)
    side.wire.command("HSET", side.keys.build("wm"), "at", FUTURE_MS, "epoch", 1)
    sent = background(client.do, "submit_many", (("compute", {"n": n}) for n in range(5_500)), durability="recorded")
    wait_ready(side, 3_000)
    assert not sent.done()
    with side.recording():
        ids = sent.result(60)
    assert len(set(ids)) == 5_500
    assert [side.store.lookup.states([task_id]) for task_id in ids[::1_000]] == [
        {task_id: State.QUEUED} for task_id in ids[::1_000]
    ]


def test_all_calls_under_way_are_sent_again_when_the_broker_lost_them(
    side: Side, client: Face, background: Callable[..., Future[Any]]
) -> None:
    mark = side.keys.build("wm")
    side.wire.command("HSET", mark, "at", FUTURE_MS, "epoch", 1)
    sent = background(client.do, "submit_many", [("compute", {"n": n}) for n in range(2_500)], durability="recorded")
    wait_ready(side, 2_500)
    lost = [side.keys.build(name) for name in ("st", "env", "journal")]
    side.wire.command("DEL", *lost, side.keys.build("ready", "default"))
    side.wire.command("HSET", side.keys.meta, "epoch", 2)
    side.wire.command("HSET", mark, "epoch", 2)
    wait_ready(side, 1_000, epoch=2)
    side.wire.command("HSET", mark, "seq", 1_000)
    ids = sent.result(60)
    assert len(set(ids)) == 2_500
    assert [task.id for _ in range(3) for task in side.round(places=1_000).claimed] == ids


def test_a_bulk_that_is_not_confirmed_names_all_that_was_queued(
    side: Side, client: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receipts, "CONFIRM_TIMEOUT", 0.05)
    side.wire.command("HSET", side.keys.build("wm"), "at", FUTURE_MS, "epoch", 1)
    with pytest.raises(Unconfirmed) as caught:
        client.do("submit_many", [("compute", {"n": n}) for n in range(2_500)], durability="recorded")
    assert [task.id for _ in range(3) for task in side.round(places=1_000).claimed] == caught.value.ids


def test_a_bulk_that_is_refused_half_way_has_waited_for_the_record_of_what_was_queued(side: Side) -> None:
    def items() -> Iterator[tuple[str, Any]]:
        yield from (("compute", {"n": n}) for n in range(2_100))
        side.wire.command("HSET", side.keys.meta, "memory_busy", "1")
        yield "compute", {"n": 2_100}

    with side.recording(), Client(side.settings) as client:
        with pytest.raises(PartlySubmitted, match="memory of the server is short") as caught:
            client.submit_many(items(), durability="recorded")
        states = side.store.lookup.states(caught.value.ids)
    assert set(states.values()) == {State.QUEUED}
    assert len(states) == len(caught.value.ids) >= 1_000


def test_a_wait_for_the_record_ends_when_the_recorder_does_unless_it_was_asked_for(
    side: Side, client: Face, background: Callable[..., Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = side.keys.build("wm")
    side.wire.command("HSET", mark, "at", FUTURE_MS, "epoch", 1)
    wish = build_submission("compute", {})
    sent = background(client.do, "send", [wish], durability="auto")
    wait_until(lambda: side.wire.call(views.look(side.keys, [wish.id]))[0], "the task is queued")
    side.wire.command("HSET", mark, "at", 0)
    (receipt,) = sent.result(30)
    assert (receipt.is_recorded, receipt.is_recorder_alive) == (False, False)
    monkeypatch.setattr(receipts, "SILENCE", 0.05)
    side.wire.command("HSET", mark, "at", FUTURE_MS)
    (receipt,) = client.do("send", [build_submission("compute", {})], durability="auto")
    assert (receipt.is_recorded, receipt.is_recorder_alive) == (False, False)
    monkeypatch.setattr(receipts, "CONFIRM_TIMEOUT", 0.2)
    with pytest.raises(Unconfirmed):
        client.do("send", [build_submission("compute", {})], durability="recorded")


def test_the_record_of_another_life_of_redis_is_not_taken_for_the_record_of_a_task(
    side: Side, background: Callable[..., Future[Any]]
) -> None:
    """Redis restarts without the task and goes on in the same epoch; another thread met the broken connection."""
    mark = side.keys.build("wm")
    side.wire.command("HSET", mark, "at", FUTURE_MS, "epoch", 1)
    task_id = new_id("tsk")
    with Client(side.settings) as client:
        sent = background(client.submit, "echo", {"message": "a"}, id=task_id, durability="recorded")
        wait_until(lambda: side.wire.call(views.look(side.keys, [task_id]))[0], "the task is queued")
        lost = [side.keys.build(name) for name in ("st", "env", "journal")]
        with client.wire._lock:
            side.wire.command("DEL", *lost, side.keys.build("ready", "mail"))
            side.wire.command("HSET", mark, "seq", 1_000)
            client.wire.close()
        assert sent.result(30) == task_id
    assert side.look(task_id).state == State.QUEUED


def test_a_submit_waits_for_a_repair_and_says_that_nothing_was_queued_when_it_takes_too_long(
    side: Side, client: Face, background: Callable[..., Future[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    close = close_gate(side.keys, term=9, epoch=2, seen=1, pairing="par_x", by="rep_x", silent_ms=0)
    assert side.wire.call(close)
    refused = threading.Event()
    failed = Delivery.failed

    def noted(self: Delivery, error: TqctlError) -> None:
        failed(self, error)
        refused.set()

    monkeypatch.setattr(Delivery, "failed", noted)
    sent = background(client.do, "submit", "echo", {"message": "a"})
    assert refused.wait(30)
    side.wire.call(open_gate(side.keys, epoch=2, pairing="par_x", repair_term=9))
    assert side.look(sent.result(30)).state == State.QUEUED

    assert side.wire.call(close_gate(side.keys, term=10, epoch=3, seen=2, pairing="par_x", by="rep_x"))
    monkeypatch.setattr(receipts, "PATIENCE", 0.1)
    with pytest.raises(NotOpen):
        client.do("submit", "echo", {"message": "a"})
    side.wire.call(open_gate(side.keys, epoch=3, pairing="par_x", repair_term=10))


def test_auto_tells_whether_the_record_has_it(side: Side) -> None:
    with Client(side.settings) as client:
        wish = client.prepare("echo", {"message": "a"})
        (receipt,) = client.send([wish], durability="auto")
        assert (receipt.is_recorded, receipt.is_recorder_alive) == (False, False)
        with side.recording():
            (receipt,) = client.send([client.prepare("echo", {"message": "b"})], durability="auto")
            assert (receipt.is_recorded, receipt.is_recorder_alive) == (True, True)


def test_a_submit_whose_answer_was_lost_is_repeated_and_queued_once(
    side: Side, make_face: Callable[[Settings], Face], background: Callable[..., Future[Any]], pair: Environment
) -> None:
    assert pair.redis_url is not None
    with Proxy(pair.redis_url) as proxy, Client(replace(side.settings, redis_url=proxy.url)) as client:
        first = client.submit("echo", {"message": "warm"})
        proxy.pause("down")
        task_id = new_id("tsk")
        sent = background(client.submit, "echo", {"message": "a"}, id=task_id)
        wait_until(lambda: side.wire.call(views.look(side.keys, [task_id]))[0], "the task is queued")
        proxy.cut()
        proxy.resume()
        assert sent.result(30) == task_id
        assert [task.id for task in side.claim(5)] == [first, task_id]


def test_busy_after_a_lost_answer_is_not_told_as_nothing_queued(
    side: Side, background: Callable[..., Future[Any]], pair: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pair.redis_url is not None
    monkeypatch.setattr(receipts, "PATIENCE", 0.5)
    with Proxy(pair.redis_url) as proxy, Client(replace(side.settings, redis_url=proxy.url)) as client:
        client.submit("echo", {"message": "warm"})
        side.wire.command("HSET", side.keys.meta, "busy_rows", 1, "busy_bytes", 1)
        proxy.pause()
        sent = background(client.submit, "echo", {"message": "a"})
        wait_until(lambda: proxy.accepted == 1 and sent.running(), "the submit is under way")
        proxy.cut()
        proxy.resume()
        with pytest.raises((Busy, Unconfirmed)) as caught:
            sent.result(30)
        assert side.wire.call(views.overview(side.keys)).queues[0].ready == 1
        # Busy only where the lost request never left this machine.
        assert isinstance(caught.value, Unconfirmed) or proxy.accepted == 1


def test_a_busy_broker_is_told_with_the_time_to_wait(side: Side, client: Face) -> None:
    client.do("submit", "echo", {"message": "a"})
    side.wire.command("HSET", side.keys.meta, "busy_rows", 1)
    with pytest.raises(Busy) as caught:
        client.do("submit", "echo", {"message": "b"})
    assert caught.value.retry_after == 1.0


def test_a_broker_that_was_never_there_is_told_at_once(
    pair: Environment, make_face: Callable[[Settings], Face]
) -> None:
    client = make_face(pair.settings(redis_url="redis://127.0.0.1:1/0"))
    with pytest.raises(BrokerUnavailable):
        client.do("submit", "echo", {}, unchecked=True)


def test_threads_may_share_a_client(side: Side) -> None:
    with Client(side.settings) as client, ThreadPoolExecutor(8) as pool:
        gate = threading.Barrier(8)

        def submit(n: int) -> list[str]:
            gate.wait()
            return [client.submit("compute", {"n": n}) for _ in range(25)]

        ids = [task_id for part in pool.map(submit, range(8)) for task_id in part]
        assert len(set(ids)) == 200
        assert {task.id for task in side.claim(500)} == set(ids)
