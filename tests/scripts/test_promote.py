"""promote.lua: due tasks join the line, late ones expire, under the present term."""

from __future__ import annotations

import pytest

from tests.scripts.rig import NOW, Rig, score, task
from tqctl_runtime.core.errors import LeaseLost
from tqctl_runtime.core.states import Outcome, State


@pytest.fixture
def led(rig: Rig) -> Rig:
    rig.lead()
    return rig


def test_a_due_task_joins_the_line_at_its_due_time(led: Rig) -> None:
    led.submit(task("A", delay_ms=1_000), task("B", delay_ms=1_001))
    led.now += 999
    assert led.promote() == (0, 0)
    led.now += 1
    with led.changes() as seen:
        assert led.promote() == (1, 1)
    assert seen.keys == {
        "sched/A": None,
        "q:default/A": score(base=NOW + 1_000),
        "queues/default": True,
        "b:default": [b"1"],
        "st/A.state": "queued",
        "st/A.v": 2,
        "st/A.due": 0,
    }
    assert seen.rows == [("T", led.now, "A", 2, "queued", 0, "due", "")]


def test_a_task_that_was_due_first_stands_first_however_late_it_is_promoted(led: Rig) -> None:
    led.submit(task("A", delay_ms=1_000), task("B", delay_ms=2_000))
    led.now += 1_500
    led.submit(task("C"))
    led.now += 1_000
    led.promote()
    assert list(led.zset("ready", "default")) == ["A", "C", "B"]


def test_tasks_with_equal_times_are_promoted_chunk_by_chunk_without_losing_one(led: Rig) -> None:
    led.submit(*[task(f"t{number}", delay_ms=1_000) for number in range(7)])
    led.now += 1_000
    assert [led.promote(limit=3), led.promote(limit=3), led.promote(limit=3)] == [(3, 3), (3, 3), (1, 1)]
    assert len(led.claim(places=9)) == 7


def test_a_retry_comes_back_at_its_due_time(led: Rig) -> None:
    led.submit(task("A"))
    (one,) = led.claim()
    led.finish(one, Outcome.FAILED, delay_ms=4_000)
    led.now += 3_999
    led.promote()
    assert led.claim() == []
    led.now += 1
    led.promote()
    assert [(again.id, again.failures) for again in led.claim()] == [("A", 1)]


def test_a_suspect_comes_back_as_a_suspect(led: Rig) -> None:
    led.submit(task("A"))
    (one,) = led.claim()
    led.finish(one, Outcome.INTERRUPTED, is_suspect=True, delay_ms=1_000)
    led.now += 1_000
    led.promote()
    assert list(led.zset("suspects", "default")) == ["A"]
    assert led.zset("ready", "default") == {}


def test_what_was_not_started_in_time_expires(led: Rig) -> None:
    led.submit(task("A", expires_ms=1_000, watched=True), task("B", expires_ms=1_001))
    led.now += 1_000
    with led.changes() as seen:
        assert led.promote() == (1, 1)
    assert seen.keys == {
        "exp/A": None,
        "q:default/A": None,
        "st/A.state": "expired",
        "st/A.v": 2,
        "st/A.watched": led.now,
        "res/A": b"",
    }
    assert seen.rows == [("T", led.now, "A", 2, "expired", 0, "not started in time", "")]


def test_a_scheduled_task_can_expire_before_it_is_due(led: Rig) -> None:
    led.submit(task("A", due_at=NOW + 9_000, expires_at=NOW + 1_000))
    led.now += 1_000
    led.promote()
    assert led.live("A").state is State.EXPIRED
    assert led.zset("sched") == {}


def test_a_task_that_is_due_and_late_at_once_never_runs(led: Rig) -> None:
    led.submit(task("A", delay_ms=1_000, expires_ms=500))
    led.now += 60_000
    assert led.promote()[0] == 2
    assert [row[4] for row in led.rows()] == ["scheduled", "queued", "expired"]
    assert led.claim() == []


def test_what_is_held_or_was_started_does_not_expire(led: Rig) -> None:
    led.submit(task("held", expires_ms=1_000), task("begun", expires_ms=1_000))
    held, begun = led.claim(places=2)
    led.finish(begun, Outcome.FAILED, delay_ms=5_000)
    led.now += 1_000
    led.promote()
    assert [led.live(task_id).state for task_id in ("held", "begun")] == [State.QUEUED, State.RETRYING]
    assert led.zset("exp") == {}
    assert led.finish(held, Outcome.SUCCEEDED) == 1


@pytest.mark.parametrize("delay_ms", [0, 5_000])
def test_a_held_task_whose_expiry_passed_is_swept_once_it_is_released(led: Rig, delay_ms: int) -> None:
    led.submit(task("A", expires_ms=1_000))
    (one,) = led.claim()
    led.now += 1_000
    led.promote()
    led.finish(one, Outcome.RELEASED, since_start_ms=-1, delay_ms=delay_ms)
    assert led.promote()[0] == 1
    assert led.live("A").state is State.EXPIRED


def test_nothing_of_a_finished_task_waits_for_its_expiry(led: Rig) -> None:
    led.submit(task("A", expires_ms=10**12))
    (one,) = led.claim()
    led.finish(one, Outcome.SUCCEEDED)
    assert "exp" not in led.names()


def test_promoting_needs_the_present_term(rig: Rig) -> None:
    rig.submit(task("A", delay_ms=1))
    rig.now += 1
    with pytest.raises(LeaseLost):
        rig.promote()
    rig.lead(term=3, lease_ms=1_000)
    for term in (2, 4):
        with pytest.raises(LeaseLost):
            rig.promote(term=term)
    assert rig.promote(term=3) == (1, 1)
