"""forget, watch, look, note, overview: what stays of a task, for whom and how long, and what can be seen of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scripts.rig import DAY, MINUTE, NOW, Rig, task
from tqctl_runtime.broker import calls, leader_calls, views, worker_calls
from tqctl_runtime.core.errors import LeaseLost
from tqctl_runtime.core.states import Outcome, State

ENDS = {Outcome.SUCCEEDED: "6", Outcome.REJECTED: "7", Outcome.CANCELLED: "8"}


def ended(rig: Rig, outcome: Outcome = Outcome.SUCCEEDED, **fields: Any) -> None:
    """Task A, ended at version 2 under token 1-1-w1-1."""
    rig.submit(task("A", **fields))
    (one,) = rig.claim()
    rig.finish(one, outcome, detail=b"d")


@pytest.mark.parametrize("outcome", ENDS)
def test_a_recorded_task_leaves_a_tombstone_for_an_hour(rig: Rig, outcome: Outcome) -> None:
    ended(rig, outcome)
    rig.lead()
    with rig.changes() as seen:
        assert rig.forget(("A", 2)) == []
    assert {path for path, value in seen.keys.items() if value is None} == {
        path for path in seen.keys if path.startswith(("st/A.", "env/A"))
    }
    left = {path: value for path, value in seen.keys.items() if value is not None}
    assert left == {"t:A": f"1 2 {ENDS[outcome]} 1-1-w1-1", "t:A#minutes": 60}
    assert seen.rows == []


@pytest.mark.parametrize("v", [0, 1, 3])
def test_a_task_stays_whole_while_another_version_is_recorded(rig: Rig, v: int) -> None:
    ended(rig)
    rig.lead()
    with rig.changes() as seen:
        assert rig.forget(("A", v), ("unknown", 2)) == []
    assert seen.keys == {}


@pytest.mark.parametrize("state", ["scheduled", "queued", "held", "running", "retrying"])
def test_a_task_that_is_not_final_is_never_forgotten(rig: Rig, state: str) -> None:
    rig.submit(task("A", delay_ms=1 if state == "scheduled" else 0))
    if state not in {"scheduled", "queued"}:
        (one,) = rig.claim()
        if state == "running":
            rig.start(one)
        if state == "retrying":
            rig.finish(one, Outcome.FAILED, delay_ms=1)
    rig.lead()
    with rig.changes() as seen:
        rig.forget(("A", rig.live("A").version & 0xFFFFFFFF))
    assert seen.keys == {}


def test_a_watched_task_stays_until_its_wait_time_is_over(rig: Rig) -> None:
    ended(rig, watched=True)
    rig.now += MINUTE - 1
    rig.lead()
    with rig.changes() as seen:
        assert rig.forget(("A", 2)) == ["A"]
    assert seen.keys == {}
    rig.now += 1
    assert rig.forget(("A", 2)) == []
    assert (rig.hash("res"), rig.hash("st"), rig.hash("env")) == ({}, {}, {})


def test_a_task_that_ran_again_meanwhile_is_not_forgotten(rig: Rig) -> None:
    ended(rig, Outcome.REJECTED)
    rig.retry("A")
    assert rig.forget(("A", 2)) == []
    assert rig.live("A").state is State.QUEUED


def test_a_recorder_whose_term_is_over_drops_nothing(rig: Rig) -> None:
    ended(rig)
    rig.lead(7, lease_ms=MINUTE)
    with rig.changes() as seen:
        for term in (6, 8):
            with pytest.raises(LeaseLost):
                rig.forget(("A", 2), term=term)
        rig.now += MINUTE
        with pytest.raises(LeaseLost):
            rig.forget(("A", 2), term=7)
    assert (seen.keys, seen.rows) == ({}, [])
    rig.lead(8)
    assert rig.forget(("A", 2), term=8) == []
    assert rig.look("A") == [None]


def test_a_thousand_tasks_are_forgotten_in_one_call(rig: Rig) -> None:
    rig.submit(*[task(f"t{number}") for number in range(1000)])
    rig.cancel(*[f"t{number}" for number in range(1000)])
    assert rig.forget(*[(f"t{number}", 2) for number in range(1000)]) == []
    assert rig.hash("st") == {}
    assert sum(name.startswith("t:") for name in rig.names()) == 1000


def test_an_end_of_before_the_clock_was_set_back_keeps_nothing(rig: Rig) -> None:
    ended(rig, watched=True)
    rig.now -= 3_600_000
    assert rig.forget(("A", 2)) == []
    assert rig.hash("st") == {}


# --- watch


def test_watching_marks_a_live_task_once(rig: Rig) -> None:
    rig.submit(task("A"))
    with rig.changes() as seen:
        assert rig.watch("A") == [calls.Watched("A", State.QUEUED, 1, is_forgotten=False, detail=b"")]
    assert (seen.keys, seen.rows) == ({"st/A.watched": 1}, [])
    with rig.changes() as seen:
        rig.watch("A")
    assert seen.keys == {}


def test_a_watched_end_is_there_for_whoever_asks_next(rig: Rig) -> None:
    ended(rig, watched=True)
    assert rig.watch("A") == [calls.Watched("A", State.SUCCEEDED, 2, is_forgotten=False, detail=b"d")]


def test_the_result_of_a_task_that_nobody_watched_is_only_in_the_record(rig: Rig) -> None:
    ended(rig)
    with rig.changes() as seen:
        assert rig.watch("A") == [calls.Watched("A", State.SUCCEEDED, 2, is_forgotten=False, detail=b"")]
    assert seen.keys == {}


def test_forgotten_and_unknown_are_told_apart(rig: Rig) -> None:
    ended(rig)
    rig.forget(("A", 2))
    assert [(one.state, one.is_forgotten) for one in rig.watch("A", "X")] == [(None, True), (None, False)]


def test_the_end_of_a_watched_task_is_heard(rig: Rig) -> None:
    import redis

    rig.submit(task("A"))
    with redis.Redis(connection_pool=rig.client.connection_pool) as client, client.pubsub() as listener:
        listener.subscribe(rig.keys.done_channel("A"))
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        rig.watch("A")
        rig.cancel("A")
        assert listener.get_message(timeout=5)["data"] == b"8"


# --- look


def test_look_shows_a_task_as_it_is(rig: Rig) -> None:
    rig.submit(task("B"), task("A", priority=3, queue="default", max_retries=2, idempotency_key="k", expires_ms=DAY))
    found, absent = rig.look("A", "X")
    assert absent is None
    assert found is not None
    assert found == views.LiveTask(
        id="A", state=State.QUEUED, version=1 << 32 | 1, queue="default", priority=3, max_retries=2, failures=0,
        deaths=0, attempts=0, created_at=NOW, expires_at=NOW + DAY, due_at=0, started_at=0, worker=None, is_held=False,
        is_suspect=False, is_cancel_requested=False, idempotency_key="k", envelope=found.envelope, progress=None,
        detail=b"", cancel_reason="", rank=1,
    )  # fmt: skip


def test_look_names_the_holder_whatever_its_id(rig: Rig) -> None:
    rig.submit(task("A"))
    (one,) = rig.claim("wrk-with-dashes-7")
    rig.start(one, "wrk-with-dashes-7", ago=5)
    rig.cancel("A", reason="stop")
    found = rig.live("A")
    assert (found.worker, found.is_held, found.started_at, found.rank) == ("wrk-with-dashes-7", True, NOW - 5, -1)
    assert (found.is_cancel_requested, found.cancel_reason) == (True, "stop")


# --- note


def test_notes_are_kept_only_under_the_token_that_owns_the_task(rig: Rig) -> None:
    rig.submit(task("A"))
    (one,) = rig.claim()
    notes = [("A", one.token, '{"percent":40}', b"line\n"), ("A", "1-9-w9-1", '{"percent":99}', b"forged")]
    with rig.changes() as seen:
        rig.do(worker_calls.note(rig.keys, notes, now=rig.now))
    assert seen.keys == {
        "prog/A": b'{"percent":40}',
        "log:A": [[b"a", b"0", b"d", b"line\n"]],
        "log:A#minutes": 1,
    }
    assert [chunk[1:] for chunk in rig.do(views.log_entries(rig.keys, "A"))] == [(0, b"line\n")]


def test_a_stale_note_leaves_no_key(rig: Rig) -> None:
    with rig.changes() as seen:
        rig.do(worker_calls.note(rig.keys, [("A", "1-1-w1-1", "{}", b"x")], now=rig.now))
    assert seen.keys == {}


def test_a_live_log_stays_while_its_attempt_is_silent_and_a_minute_longer(rig: Rig) -> None:
    rig.submit(task("A"), task("B"))
    log = rig.keys.build("log", "A")
    one, quiet = rig.claim(places=2)
    rig.round("w1", started=[worker_calls.started(held.id, held.token, 0) for held in (one, quiet)])
    rig.do(worker_calls.note(rig.keys, [("A", one.token, "", b"x")], now=rig.now))
    rig.raw("PEXPIRE", log, 5_000)
    rig.beat("w1", one, quiet)
    assert rig.raw("PTTL", log) > 30_000
    assert "log:B" not in rig.names()
    rig.finish(one, Outcome.SUCCEEDED)
    rig.raw("PEXPIRE", log, 5_000)
    rig.beat("w1", one, quiet)
    assert rig.raw("PTTL", log) <= 5_000


def test_a_live_log_outlasts_the_longest_lease(rig: Rig) -> None:
    rig.submit(task("A"))
    (one,) = rig.claim()
    rig.raw("ZADD", rig.keys.build("leases"), rig.now + 10 * MINUTE, "w1")
    rig.do(worker_calls.note(rig.keys, [("A", one.token, "", b"x")], now=rig.now))
    assert rig.view()["log:A#minutes"] == 10


def test_a_live_log_is_capped(rig: Rig) -> None:
    rig.submit(task("A"))
    (one,) = rig.claim()
    for _ in range(15):
        notes = [("A", one.token, "", b"x") for _ in range(100)]
        rig.do(worker_calls.note(rig.keys, notes, now=rig.now))
    assert 1000 <= rig.raw("XLEN", rig.keys.build("log", "A")) < 1200


# --- overview


def test_the_overview_tells_queues_workers_and_leaders(rig: Rig) -> None:
    rig.lead()
    rig.submit(task("A"), task("B"), task("C", queue="mail"), task("D", delay_ms=70))
    rig.claim("w1", 1)
    rig.beat("w1", answered=0)
    rig.do(leader_calls.coordinator_beat(rig.keys, "c1", {"pid": 7}, now=rig.now))
    seen = rig.do(views.overview(rig.keys, now=rig.now))
    assert [(q.name, q.ready, q.suspects, q.head) for q in seen.queues] == [("default", 1, 0, "B"), ("mail", 1, 0, "C")]
    assert [(w.id, w.held, w.lease_until) for w in seen.workers] == [("w1", 1, NOW + 30_000)]
    assert (seen.scheduled, seen.first_due, seen.coordinators) == (1, NOW + 70, {"c1": {"pid": 7, "seen_at": NOW}})
    assert not seen.is_silent("c1")
    assert rig.do(views.overview(rig.keys, now=NOW + 15_001)).is_silent("c1")
    assert seen.leaders["coordinator"] == views.Leader("coordinator", "c1", 1, NOW + DAY)
    assert (seen.lag_rows, seen.journal_entries, seen.is_recorder_alive) == (5, 2, False)
