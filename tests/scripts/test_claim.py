"""round.lua, taking: claims, request numbers, starts, pauses, expiry, suspects, bells."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scripts.rig import HOUR, LEASE, NOW, Rig, score, task
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.broker.call import script_call
from tqctl_runtime.core.errors import LeaseLost, TqctlError
from tqctl_runtime.core.serializer import pack_for_lua
from tqctl_runtime.core.states import Outcome, State


def suspect(rig: Rig, *ids: str, queue: str = "default") -> None:
    """Queue *ids* as tasks that must run alone."""
    rig.submit(*[task(task_id, queue=queue) for task_id in ids])
    for one in rig.claim("accuser", places=len(ids), queues=[queue]):
        rig.finish(one, Outcome.INTERRUPTED, "accuser", is_suspect=True)


def test_a_claim_leaves_the_line_with_a_token_and_writes_no_row(rig: Rig) -> None:
    item = task("A", priority=7)
    rig.submit(item)
    rig.join()
    rig.now += 5
    with rig.changes() as seen:
        (held,) = rig.claim()
    assert held == worker_calls.Claimed(
        "A", "1-1-w1-1", item.envelope(), 0, 0, 0, "default", 7, NOW, is_suspect=False, is_cancel_requested=False
    )
    assert seen.keys == {
        "q:default/A": None,
        "own:w1/A": f"1 {NOW + 5}".encode(),
        "st/A.held": 1,
        "st/A.token": "1-1-w1-1",
        "slot:w1": (1, "1-1-w1-1", [], ["A"]),
        "slot:w1#minutes": 60,
    }
    assert seen.rows == []


def test_no_two_claims_share_a_token(rig: Rig) -> None:
    rig.submit(*[task(f"t{number}") for number in range(4)])
    tokens = [rig.claim("w1", 1)[0].token, rig.claim("w2", 1)[0].token, rig.claim("w1", 1)[0].token]
    assert tokens == ["1-1-w1-1", "1-2-w2-1", "1-3-w1-2"]


def test_a_claim_takes_no_more_than_its_places(rig: Rig) -> None:
    rig.submit(*[task(f"t{number}") for number in range(5)])
    assert [one.id for one in rig.claim(places=2)] == ["t0", "t1"]
    assert rig.round(places=0).claimed == []
    assert [one.id for one in rig.claim(places=9)] == ["t2", "t3", "t4"]


def test_queues_are_looked_at_in_the_order_of_the_worker(rig: Rig) -> None:
    rig.submit(task("A", queue="a"), task("B", queue="b", priority=10), task("C", queue="c"))
    assert [one.id for one in rig.claim(places=5, queues=["c", "a", "b"])] == ["C", "A", "B"]


def test_a_worker_without_a_lease_gets_nothing(rig: Rig) -> None:
    rig.submit(task("A"))
    assert rig.round("stranger", places=1).claimed == []
    assert rig.live("A").is_held is False


def test_a_repeated_request_number_answers_as_before(rig: Rig) -> None:
    rig.submit(task("A"), task("B"))
    first = rig.round(rig.join(), places=2)
    with rig.changes() as seen:
        again = rig.round(request=1, places=2)
    assert again.claimed == first.claimed
    assert (seen.keys, seen.rows) == ({}, [])


def test_a_repeated_request_returns_only_what_its_token_still_owns(rig: Rig) -> None:
    rig.submit(task("A"), task("B"), task("C"))
    first = rig.claim(places=3)
    rig.beat("w1", first[1], first[2])  # A was not listed: released
    assert [one.id for one in rig.round(request=1, places=3).claimed] == ["B", "C"]


def test_a_repeated_request_does_not_return_what_has_started_since(rig: Rig) -> None:
    rig.submit(task("A"), task("B"))
    rig.claim("w2", 0)
    held = rig.claim(places=2)
    rig.raw("DEL", rig.keys.build("slot", "w1"))
    again = rig.round(request=1, started=[worker_calls.started("A", held[0].token, 0)])
    assert again.claimed == []
    assert rig.live("A").state is State.RUNNING


def test_a_repeated_report_is_answered_with_its_first_codes(rig: Rig) -> None:
    rig.submit(task("A"), task("B"))
    held = rig.claim(places=2)
    ends = [
        worker_calls.finished(held[0].id, held[0].token, Outcome.FAILED, since_start_ms=1, delay_ms=1_000),
        worker_calls.finished("X", "1-9-w1-1", Outcome.SUCCEEDED, since_start_ms=1),
    ]
    first = rig.round(request=2, finished=ends)
    with rig.changes() as seen:
        assert rig.round(request=2, finished=ends).codes == first.codes == [1, 0]
    assert (seen.keys, seen.rows) == ({}, [])
    assert rig.live("A").failures == 1


def test_an_older_request_number_is_refused(rig: Rig) -> None:
    rig.join()
    rig.round(request=5)
    with rig.changes() as seen, pytest.raises(LeaseLost, match="was answered before"):
        rig.round(request=4, places=1)
    assert seen.keys == {}


def test_a_start_is_counted_and_told_once(rig: Rig) -> None:
    rig.submit(task("A"))
    (held,) = rig.claim()
    rig.now += 1_000
    begun = worker_calls.started("A", held.token, 400)
    with rig.changes() as seen:
        rig.round(started=[begun, begun])
    slot: dict[str, Any] = {"slot:w1": (2, "", [], [])}
    assert seen.keys == {"st/A.state": "running", "st/A.v": 2, "st/A.attempts": 1, "st/A.started": NOW + 600} | slot
    assert seen.rows == [("R", NOW + 1_000, "A", 2, 1, "w1", NOW + 600)]
    with rig.changes() as seen:
        rig.start(held)
    assert seen.rows == []


def test_a_start_under_another_token_is_ignored(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.claim()
    with rig.changes() as seen:
        rig.round(started=[worker_calls.started("A", "1-1-w2-1", 0), worker_calls.started("gone", "1-1-w1-1", 0)])
    assert seen.keys == {"slot:w1": (2, "", [], [])}
    assert seen.rows == []


def test_a_paused_queue_gives_nothing_until_its_time_has_passed(rig: Rig) -> None:
    rig.submit(task("A"), task("B", queue="mail"))
    assert rig.pause("default", 1_000) == NOW + 1_000
    assert [one.id for one in rig.claim(places=5, queues=["default", "mail"])] == ["B"]
    rig.now += 999
    assert rig.claim() == []
    rig.now += 1
    assert [one.id for one in rig.claim()] == ["A"]


def test_a_queue_that_is_paused_for_ever_waits_for_resume(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.pause()
    rig.now += 100 * 365 * 24 * HOUR
    assert rig.claim() == []
    rig.resume()
    assert [one.id for one in rig.claim()] == ["A"]


def test_what_expired_in_line_is_not_handed_out(rig: Rig) -> None:
    rig.submit(task("A", expires_ms=1_000), task("B"))
    rig.now += 1_000
    rig.join()
    with rig.changes() as seen:
        assert [one.id for one in rig.claim(places=2)] == ["B"]
    assert seen.keys == {
        "exp/A": None,
        "q:default/A": None,
        "q:default/B": None,
        "st/A.state": "expired",
        "st/A.v": 2,
        "st/B.held": 1,
        "st/B.token": "1-1-w1-1",
        "own:w1/B": f"1 {rig.now}".encode(),
        "slot:w1": (1, "1-1-w1-1", [], ["B"]),
        "slot:w1#minutes": 60,
    }
    assert seen.rows == [("T", rig.now, "A", 2, "expired", 0, "not started in time", "")]


def test_a_claim_that_only_met_expired_tasks_rings_for_the_rest(rig: Rig) -> None:
    rig.submit(task("A", expires_ms=1), task("B"))
    rig.now += 1
    rig.join()
    rig.raw("DEL", rig.keys.build("bell", "default"))
    assert rig.claim(places=1) == []
    assert rig.view()["b:default"] == [b"1"]


def test_what_was_started_before_does_not_expire(rig: Rig) -> None:
    rig.submit(task("A", expires_ms=1_000))
    (held,) = rig.claim()
    rig.finish(held, Outcome.RELEASED)
    rig.now += 1_000
    assert [one.id for one in rig.claim()] == ["A"]


def test_a_worker_gets_one_suspect_at_a_time_and_only_where_it_asks(rig: Rig) -> None:
    suspect(rig, "A", "B")
    rig.submit(task("C", priority=1))
    assert [one.id for one in rig.claim(places=1)] == ["C"]
    first = rig.claim(places=3, takes_suspect=True)
    assert [(one.id, one.is_suspect) for one in first] == [("A", True)]
    assert rig.claim(places=3) == []
    assert [one.id for one in rig.claim(places=3, takes_suspect=True)] == ["B"]


def test_one_suspect_of_all_queues_is_handed_out_in_one_round(rig: Rig) -> None:
    suspect(rig, "A", queue="a")
    suspect(rig, "B", queue="b")
    rig.submit(task("C", queue="b"))
    assert [one.id for one in rig.claim(places=5, takes_suspect=True, queues=["a", "b"])] == ["A", "C"]


def test_a_suspect_needs_a_free_place_too(rig: Rig) -> None:
    suspect(rig, "A", queue="b")
    rig.submit(task("C", queue="a"))
    assert [one.id for one in rig.claim(places=1, takes_suspect=True, queues=["a", "b"])] == ["C"]


def test_a_worker_that_takes_not_all_rings_for_the_next(rig: Rig) -> None:
    rig.submit(task("A"), task("B"))
    bell = rig.keys.build("bell", "default")
    rig.raw("DEL", bell)
    rig.claim(places=1)
    assert rig.raw("LRANGE", bell, 0, -1) == [b"1"]
    rig.raw("DEL", bell)
    rig.claim(places=1)
    assert rig.raw("EXISTS", bell) == 0


def test_a_bell_rings_once_however_many_tasks_come(rig: Rig) -> None:
    for number in range(5):
        rig.submit(task(f"t{number}"), task(f"u{number}", queue="mail"))
    assert (rig.view()["b:default"], rig.view()["b:mail"]) == ([b"1"], [b"1"])


def test_at_the_second_mark_claims_stop_and_finishes_go_on(rig: Rig) -> None:
    rig.submit(task("A"), task("B"))
    (held,) = rig.claim()
    rig.lead()
    rig.marks(busy=1, stop=1)
    assert rig.claim(places=1) == []
    assert rig.finish(held, Outcome.SUCCEEDED) == 1
    assert rig.beat().is_known
    rig.marks(busy=1)
    assert [one.id for one in rig.claim(places=1)] == ["B"]


def test_a_report_that_cannot_be_read_changes_nothing(rig: Rig) -> None:
    rig.submit(task("A"))
    (held,) = rig.claim()
    begun = pack_for_lua([worker_calls.started("A", held.token, 0)])
    call = script_call(rig.keys, "round", list, "w1", 2, 0, 0, begun, b"\xc1", now=rig.now)
    with rig.changes() as seen, pytest.raises(TqctlError):
        rig.do(call)
    assert (seen.keys, seen.rows) == ({}, [])


def test_a_task_that_comes_back_stands_where_its_submit_put_it(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.now += 1_000
    rig.submit(task("B"))
    (held,) = rig.claim()
    rig.finish(held, Outcome.RELEASED)
    assert rig.zset("ready", "default") == {"A": score(), "B": score(base=NOW + 1_000)}


def test_nothing_is_claimed_under_a_lease_that_is_over(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.join()
    rig.now += LEASE
    assert rig.claim() == []
    rig.beat()
    assert [one.id for one in rig.claim()] == ["A"]


def test_one_round_hands_out_only_so_many_bytes_that_its_answer_comes_in_time(rig: Rig) -> None:
    """The rest stays in its order, and the bell rings for it."""
    payload = b'{"x":"' + b"x" * 1_000_000 + b'"}'
    ids = [f"t{number}" for number in range(9)]
    for task_id in ids:
        rig.submit(task(task_id, payload=payload))
    rig.submit(task("z"))
    claimed = [[one.id for one in rig.claim(places=10)] for _ in range(3)]
    assert claimed == [ids[:4], ids[4:8], [ids[8], "z"]]
    assert [one.id for one in rig.round(request=3, places=10).claimed] == claimed[2]


def test_a_task_larger_than_a_round_goes_alone(rig: Rig) -> None:
    for task_id in ("A", "B"):
        rig.submit(task(task_id, payload=b'{"x":"' + b"x" * 5_000_000 + b'"}'))
    assert [[one.id for one in rig.claim(places=10)] for _ in range(2)] == [["A"], ["B"]]


def test_a_round_for_many_places_fills_them_all(rig: Rig) -> None:
    rig.submit(*[task(f"t{number:03}") for number in range(300)])
    assert [one.id for one in rig.claim(places=290)] == [f"t{number:03}" for number in range(290)]
    assert len(rig.claim(places=290)) == 10
