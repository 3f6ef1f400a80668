"""cancel, retry, pause, purge, discard: what an operator's word changes, in every state."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.scripts.rig import DAY, NOW, Rig, score, task
from tqctl_runtime.broker import calls, views, worker_calls
from tqctl_runtime.broker.calls import ABSENT, CANCELLED, DONE, FINAL, REQUESTED, Recorded
from tqctl_runtime.broker.worker_calls import FINISHED
from tqctl_runtime.core.states import Outcome, State


def bring(rig: Rig, state: str) -> None:
    """Bring a new task A into *state*; ``held`` is queued but handed out, ``suspect`` queued to run alone."""
    rig.submit(task("A", delay_ms=5_000 if state == "scheduled" else 0, expires_ms=1 if state == "expired" else 0))
    if state in {"scheduled", "queued"}:
        return
    if state == "expired":
        rig.now += 1
        rig.lead()
        rig.promote()
        return
    if state == "cancelled":
        rig.cancel("A")
        return
    (one,) = rig.claim()
    how: dict[str, Callable[[], Any]] = {
        "held": lambda: None,
        "running": lambda: rig.start(one),
        "suspect": lambda: rig.finish(one, Outcome.DIED),
        "retrying": lambda: rig.finish(one, Outcome.FAILED, delay_ms=5_000),
        "succeeded": lambda: rig.finish(one, Outcome.SUCCEEDED),
        "dead": lambda: rig.finish(one, Outcome.FAILED, is_last=True),
    }
    how[state]()


# --- cancel


@pytest.mark.parametrize(
    ("state", "key"),
    [("scheduled", "sched/A"), ("queued", "q:default/A"), ("suspect", "s:default/A"), ("retrying", "sched/A")],
)
def test_a_task_that_nobody_holds_is_cancelled_at_once(rig: Rig, state: str, key: str) -> None:
    bring(rig, state)
    v = rig.live("A").version & 0xFFFFFFFF
    due = {"st/A.due": 0} if key == "sched/A" else {}
    with rig.changes() as seen:
        assert rig.cancel("A", reason="too late", who="ann") == [CANCELLED]
    assert seen.keys == {key: None, "st/A.state": "cancelled", "st/A.v": v + 1} | due
    assert seen.rows == [("T", NOW, "A", v + 1, "cancelled", 0, "too late", "ann")]
    assert rig.claim(takes_suspect=True) == []


@pytest.mark.parametrize("state", ["held", "running"])
def test_a_task_that_somebody_holds_is_asked_to_stop(rig: Rig, state: str) -> None:
    bring(rig, state)
    v = rig.live("A").version & 0xFFFFFFFF
    with rig.changes() as seen:
        assert rig.cancel("A", reason="stop", who="ann") == [REQUESTED]
    assert seen.keys == {"st/A.cancel": 1, "st/A.v": v + 1, "cancel/A": b"stop"}
    assert seen.rows == [("C", NOW, "A", v + 1, "stop", "ann")]
    with rig.changes() as seen:
        assert rig.cancel("A", reason="again", who="bob") == [REQUESTED]
    assert (seen.keys, seen.rows) == ({}, [])


@pytest.mark.parametrize("state", ["succeeded", "dead", "cancelled", "expired"])
def test_a_final_task_stays_as_it_is(rig: Rig, state: str) -> None:
    bring(rig, state)
    with rig.changes() as seen:
        assert rig.cancel("A") == [FINAL]
    assert (seen.keys, seen.rows) == ({}, [])


def test_what_is_not_live_is_told_so(rig: Rig) -> None:
    rig.submit(task("A"))
    with rig.changes() as seen:
        assert rig.cancel("X", "A", "A", "Y") == [ABSENT, CANCELLED, FINAL, ABSENT]
    assert [row[2] for row in seen.rows] == ["A"]


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome is not Outcome.SUCCEEDED])
@pytest.mark.parametrize("has_started", [True, False])
def test_only_success_beats_a_cancel_request(rig: Rig, outcome: Outcome, has_started: bool) -> None:
    rig.submit(task("A"))
    (one,) = rig.claim()
    rig.cancel("A", reason="stop")
    since = 10 if has_started else -1
    assert rig.finish(one, outcome, since_start_ms=since, delay_ms=500, is_suspect=True, reason="said") == FINISHED
    assert rig.live("A").state is State.CANCELLED
    assert rig.hash("cancel") == {}
    assert "stop" in rig.rows()[-1]


def test_success_beats_a_cancel_request(rig: Rig) -> None:
    bring(rig, "running")
    rig.cancel("A")
    rig.round(finished=[worker_calls.finished("A", "1-1-w1-1", Outcome.SUCCEEDED, since_start_ms=1)])
    assert rig.live("A").state is State.SUCCEEDED
    assert rig.hash("cancel") == {}


def test_a_holder_hears_of_a_cancel_request_at_once(rig: Rig) -> None:
    import redis

    bring(rig, "running")
    with redis.Redis(connection_pool=rig.client.connection_pool) as client, client.pubsub() as listener:
        listener.subscribe(rig.keys.control_channel("w1"))
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        rig.cancel("A")
        assert listener.get_message(timeout=5)["data"] == b"A"


# --- retry


@pytest.mark.parametrize("state", ["dead", "cancelled", "expired"])
def test_a_final_task_runs_again_under_its_id_with_counts_reset(rig: Rig, state: str) -> None:
    bring(rig, state)
    before = rig.live("A")
    rig.now += 1_000
    rig.raw("DEL", rig.keys.build("bell", "default"))
    with rig.changes() as seen:
        assert rig.retry("A").codes == [DONE]
    v = (before.version & 0xFFFFFFFF) + 1
    changed = {"st/A.state": "queued", "st/A.v": v, "st/A.base": rig.now}
    changed |= {"st/A.failures": 0, "st/A.started": 0} if state == "dead" else {}
    changed |= {"st/A.expires": 0} if state == "expired" else {}
    assert seen.keys == changed | {"q:default/A": score(base=rig.now), "b:default": [b"1"]}
    assert seen.rows == [("O", rig.now, "A", v, "queued", 0, "why", "me")]
    assert rig.live("A").attempts == before.attempts


@pytest.mark.parametrize("state", ["scheduled", "retrying"])
def test_a_task_that_waits_for_its_time_runs_now_with_its_counts_kept(rig: Rig, state: str) -> None:
    bring(rig, state)
    before = rig.live("A")
    rig.now += 1_000
    with rig.changes() as seen:
        assert rig.retry("A").codes == [DONE]
    v = (before.version & 0xFFFFFFFF) + 1
    assert seen.rows == [("T", rig.now, "A", v, "queued", 0, "retry now", "me")]
    assert (seen.keys["sched/A"], seen.keys["q:default/A"]) == (None, score(base=rig.now))
    assert rig.live("A").failures == before.failures


@pytest.mark.parametrize("state", ["queued", "held", "running", "suspect", "succeeded"])
def test_other_states_do_not_permit_a_retry(rig: Rig, state: str) -> None:
    bring(rig, state)
    with rig.changes() as seen:
        assert rig.retry("A").codes == [FINAL]
    assert (seen.keys, seen.rows) == ({}, [])


def test_a_task_asked_for_twice_runs_once(rig: Rig) -> None:
    bring(rig, "dead")
    assert rig.retry("A", "A", "X").codes == [DONE, FINAL, ABSENT]
    assert list(rig.zset("ready", "default")) == ["A"]


def test_a_watched_task_is_waited_for_again(rig: Rig) -> None:
    rig.submit(task("A", watched=True))
    rig.cancel("A")
    rig.retry("A")
    (seen,) = rig.watch("A")
    assert (seen.state, seen.detail) == (State.QUEUED, b"")
    assert rig.hash("res") == {}


def recorded(rig: Rig, v: int, **differs: Any) -> Recorded:
    """What SQL would tell of task A at version *v*."""
    item = task("A", idempotency_key="k")
    values: dict[str, Any] = {
        "envelope": item.envelope(),
        "version": 1 << 32 | v,
        "attempts": 3,
        "queue": "mail",
        "priority": 7,
        "max_retries": 2,
        "idempotency_key": "k",
        "fingerprint": item.fingerprint(),
        "created_at": NOW - DAY,
    }
    return Recorded(**(values | differs))


def forgotten(rig: Rig) -> None:
    """Task A dead and forgotten at version 2, its key still held."""
    rig.submit(task("A", idempotency_key="k"))
    (one,) = rig.claim()
    rig.finish(one, Outcome.FAILED, is_last=True)
    rig.forget(("A", 2))


def test_a_forgotten_task_goes_on_from_the_version_that_sql_knows(rig: Rig) -> None:
    forgotten(rig)
    rig.now += 9
    known = recorded(rig, 2)
    with rig.changes() as seen:
        assert rig.retry("A", known=known).codes == [DONE]
    zero = dict.fromkeys(("failures", "deaths", "expires", "due", "started", "held", "suspect", "cancel", "watched"), 0)
    line = zero | {
        "layout": 1, "state": "queued", "v": 3, "priority": 7, "max": 2, "attempts": 3, "created": NOW - DAY,
        "base": rig.now, "queue": "mail", "token": "", "idem": "k",
    }  # fmt: skip
    assert seen.keys == {f"st/A.{name}": value for name, value in line.items()} | {
        "env/A": known.envelope,
        "t:A": None,
        "t:A#minutes": None,
        "i:k#minutes": None,
        "queues/mail": True,
        "q:mail/A": score(7, rig.now),
        "b:mail": [b"1"],
    }
    assert seen.rows == [("O", rig.now, "A", 3, "queued", 0, "why", "me")]
    (one,) = rig.claim(queues=["mail"])
    assert (one.attempts, one.failures) == (3, 0)
    rig.start(one)
    assert rig.rows()[-1][:5] == ("R", rig.now, "A", 4, 4)


def test_versions_of_an_earlier_epoch_start_anew(rig: Rig) -> None:
    rig.retry("A", known=recorded(rig, 9, version=9, idempotency_key=""))
    assert rig.live("A").version == 1 << 32 | 1


def test_a_task_is_not_revived_from_what_was_true_before_its_last_life(rig: Rig) -> None:
    forgotten(rig)
    rig.retry("A", known=recorded(rig, 2, queue="default"))
    (one,) = rig.claim()
    rig.finish(one, Outcome.SUCCEEDED)
    rig.forget(("A", 4))
    with rig.changes() as seen:
        assert rig.retry("A", known=recorded(rig, 2)).codes == [FINAL]
    assert (seen.keys, seen.rows) == ({}, [])


def test_a_revived_task_never_takes_the_key_of_a_later_one(rig: Rig) -> None:
    forgotten(rig)
    rig.raw("DEL", rig.keys.build("idem", "k"))  # its day is over
    later = task("B", idempotency_key="k")
    rig.submit(later)
    rig.retry("A", known=recorded(rig, 2))
    assert rig.view()["i:k"] == f"B {later.fingerprint()}"
    assert rig.live("A").idempotency_key == ""
    rig.cancel("A")
    assert "i:k#minutes" not in rig.view()


def test_a_revived_task_takes_its_free_key_again(rig: Rig) -> None:
    forgotten(rig)
    rig.raw("DEL", rig.keys.build("idem", "k"))
    rig.retry("A", known=recorded(rig, 2))
    assert rig.submit(task("B", idempotency_key="k")).accepted[0].id == "A"
    assert "i:k#minutes" not in rig.view()


def test_a_final_task_that_runs_again_keeps_its_key(rig: Rig) -> None:
    rig.submit(task("A", idempotency_key="k"))
    rig.cancel("A")
    assert rig.view()["i:k#minutes"] == 1440
    rig.retry("A")
    assert "i:k#minutes" not in rig.view()


# --- queues


def test_a_pause_is_told_with_its_end_and_reason(rig: Rig) -> None:
    with rig.changes() as seen:
        assert rig.pause("mail", 1_000) == NOW + 1_000
    why = json.loads(seen.keys["pausewhy/mail"])
    assert why == {"until": NOW + 1_000, "since": NOW, "reason": "why", "who": "me"}
    assert seen.keys == {
        "pause/mail": str(NOW + 1_000).encode(),
        "pausewhy/mail": seen.keys["pausewhy/mail"],
    }
    assert seen.rows == [("K", NOW, "pause", "mail", seen.keys["pausewhy/mail"].decode())]


def test_a_resume_ends_a_pause_and_rings_where_tasks_wait(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.raw("DEL", rig.keys.build("bell", "default"))
    rig.pause()
    with rig.changes() as seen:
        rig.resume()
    assert seen.keys == {"pause/default": None, "pausewhy/default": None, "b:default": [b"1"]}
    assert seen.rows == [("K", NOW, "pause", "default", "")]


def test_a_queue_that_was_only_paused_is_shown_and_leaves_nothing_behind(rig: Rig) -> None:
    before = rig.names()
    rig.pause("nosuch")
    assert [queue.name for queue in rig.do(views.overview(rig.keys, now=rig.now)).queues] == ["nosuch"]
    assert rig.resume("nosuch") is True
    assert rig.do(views.overview(rig.keys, now=rig.now)).queues == []
    assert rig.names() == sorted({*before, "j"})


def test_resuming_a_queue_that_is_not_paused_changes_nothing(rig: Rig) -> None:
    rig.submit(task("A"))
    with rig.changes() as seen:
        assert rig.resume("default") is False
        assert rig.resume("nosuch") is False
    assert (seen.keys, seen.rows) == ({}, [])


def test_a_pause_that_ran_out_goes_with_the_next_word_about_a_queue(rig: Rig) -> None:
    rig.submit(task("A", queue="mail"))
    rig.pause("mail", 1_000)
    rig.raw("DEL", rig.keys.build("bell", "mail"))
    rig.now += 1_000
    with rig.changes() as seen:
        rig.pause("web", 5)
    assert seen.keys["pause/mail"] is None
    assert seen.keys["pausewhy/mail"] is None
    assert seen.keys["b:mail"] == [b"1"]
    assert [row[3] for row in seen.rows] == ["web", "mail"]
    assert seen.rows[1][4] == ""


def test_a_pause_that_has_passed_is_not_shown(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.pause("default", 1_000)
    (queue,) = rig.do(views.overview(rig.keys, now=rig.now)).queues
    assert queue.pause is not None
    (queue,) = rig.do(views.overview(rig.keys, now=rig.now + 1_000)).queues
    assert queue.pause is None


def test_a_purge_cancels_what_stands_in_line_and_nothing_else(rig: Rig) -> None:
    bring(rig, "suspect")
    rig.submit(task("held", priority=10), task("B"), task("later", delay_ms=1), task("mail", queue="mail"))
    rig.claim()
    with rig.changes() as seen:
        assert rig.do(calls.purge(rig.keys, "default", reason="old", who="ann", now=rig.now)) == (2, 0)
    assert seen.keys == {
        "q:default/B": None,
        "s:default/A": None,
        "st/A.state": "cancelled",
        "st/A.v": 3,
        "st/B.state": "cancelled",
        "st/B.v": 2,
    }
    assert seen.rows == [
        ("T", NOW, "B", 2, "cancelled", 0, "old", "ann"),
        ("T", NOW, "A", 3, "cancelled", 0, "old", "ann"),
    ]


def test_a_purge_works_in_chunks(rig: Rig) -> None:
    rig.submit(*[task(f"a{number}") for number in range(700)])
    rig.submit(*[task(f"b{number}") for number in range(700)])
    purge = calls.purge(rig.keys, "default", reason="", who="", now=rig.now)
    assert [rig.do(purge), rig.do(purge), rig.do(purge)] == [(1000, 400), (400, 0), (0, 0)]


def test_discarded_letters_are_told_to_the_record(rig: Rig) -> None:
    with rig.changes() as seen:
        assert rig.do(calls.discard(rig.keys, ["A", "B"], reason="spam", who="ann", now=rig.now)) == 1
    assert seen.keys == {}
    assert seen.rows == [("L", NOW, "A", 0, "spam", "ann"), ("L", NOW, "B", 0, "spam", "ann")]


def test_operators_may_write_any_text(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.cancel("A", reason='"quoted" é \n }{', who="ann o'nym")
    rig.do(calls.pause(rig.keys, "q", reason='"quoted" é \n }{', who="x", now=rig.now))
    assert rig.rows()[1][-2:] == ('"quoted" é \n }{', "ann o'nym")
    (queue,) = [q for q in rig.do(views.overview(rig.keys, now=rig.now)).queues if q.name == "q"]
    assert queue.pause is not None
    assert queue.pause["reason"] == '"quoted" é \n }{'
