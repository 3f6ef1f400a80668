"""round.lua, reporting: what each outcome does to state, counts, keys and journal, and who is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scripts.rig import NOW, Rig, score, task
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.broker.worker_calls import FINISHED, REPEATED, STALE, Claimed
from tqctl_runtime.core.states import Outcome

DUE = NOW + 3_000


def held(rig: Rig, **fields: Any) -> Claimed:
    """Task A, claimed by w1."""
    rig.submit(task("A", **fields))
    (one,) = rig.claim()
    return one


def ended(codes: list[int]) -> dict[str, Any]:
    """What every finish changes: the task leaves its worker, the reply is kept."""
    return {"own:w1/A": None, "st/A.held": 0, "slot:w1": (2, "", codes, [])}


FIRST = {"st/A.attempts": 1, "st/A.started": NOW - 10, "st/A.v": 2}
BACK = {"q:default/A": score()}
#: outcome, its options, what it changes, and of its row: state, failures, deaths, due, reason.
ENDS: list[tuple[Outcome, dict[str, Any], dict[str, Any], tuple[Any, ...]]] = [
    (Outcome.SUCCEEDED, {}, {"st/A.state": "succeeded"}, ("succeeded", 0, 0, 0, "said")),
    (
        Outcome.FAILED,
        {"delay_ms": 3_000},
        {"st/A.state": "retrying", "st/A.failures": 1, "st/A.due": DUE, "sched/A": DUE},
        ("retrying", 1, 0, DUE, "said"),
    ),
    (
        Outcome.TIMED_OUT,
        {"delay_ms": 3_000},
        {"st/A.state": "retrying", "st/A.failures": 1, "st/A.due": DUE, "sched/A": DUE},
        ("retrying", 1, 0, DUE, "said"),
    ),
    (Outcome.FAILED, {"is_last": True}, {"st/A.state": "dead", "st/A.failures": 1}, ("dead", 1, 0, 0, "not retried")),
    (Outcome.REJECTED, {}, {"st/A.state": "dead"}, ("dead", 0, 0, 0, "rejected")),
    (Outcome.CANCELLED, {}, {"st/A.state": "cancelled"}, ("cancelled", 0, 0, 0, "said")),
    (
        Outcome.DIED,
        {},
        {"st/A.deaths": 1, "st/A.suspect": 1, "s:default/A": score()},
        ("queued", 0, 1, 0, "said"),
    ),
    (Outcome.INTERRUPTED, {}, BACK, ("queued", 0, 0, 0, "said")),
    (
        Outcome.INTERRUPTED,
        {"is_suspect": True},
        {"st/A.suspect": 1, "s:default/A": score()},
        ("queued", 0, 0, 0, "said"),
    ),
    (
        Outcome.INTERRUPTED,
        {"is_suspect": True, "delay_ms": 3_000},
        {"st/A.suspect": 1, "st/A.state": "scheduled", "st/A.due": DUE, "sched/A": DUE},
        ("scheduled", 0, 0, DUE, "said"),
    ),
    (Outcome.RELEASED, {}, BACK, ("queued", 0, 0, 0, "said")),
    (
        Outcome.RELEASED,
        {"delay_ms": 3_000},
        {"st/A.state": "scheduled", "st/A.due": DUE, "sched/A": DUE},
        ("scheduled", 0, 0, DUE, "said"),
    ),
]
NAMES = [" ".join([str(outcome), *options]) for outcome, options, _, _ in ENDS]


@pytest.mark.parametrize(("outcome", "options", "changed", "told"), ENDS, ids=NAMES)
def test_each_outcome_changes_exactly_this(
    rig: Rig, outcome: Outcome, options: dict[str, Any], changed: dict[str, Any], told: tuple[Any, ...]
) -> None:
    one = held(rig)
    rig.raw("DEL", rig.keys.build("bell", "default"))
    with rig.changes() as seen:
        assert rig.finish(one, outcome, reason="said", detail=b"\x00\xff", **options) == FINISHED
    state, *counts, reason = told
    is_back = "q:default/A" in changed or "s:default/A" in changed
    assert seen.keys == FIRST | ended([1]) | changed | ({"b:default": [b"1"]} if is_back else {})
    assert seen.rows == [("F", NOW, "A", 2, str(outcome), state, 1, "w1", NOW - 10, *counts, reason, b"\x00\xff")]


@pytest.mark.parametrize(("outcome", "options", "changed", "told"), ENDS, ids=NAMES)
def test_an_end_after_a_told_start_is_the_same_attempt(
    rig: Rig, outcome: Outcome, options: dict[str, Any], changed: dict[str, Any], told: tuple[Any, ...]
) -> None:
    one = held(rig)
    rig.start(one, ago=700)
    with rig.changes() as seen:
        assert rig.finish(one, outcome, since_start_ms=1, reason="said", **options) == FINISHED
    states = {"st/A.state": changed.get("st/A.state", "queued"), "st/A.v": 3}
    own: dict[str, Any] = {"own:w1/A": None, "st/A.held": 0, "slot:w1": (3, "", [1], [])}
    assert seen.keys == own | changed | states
    state, *counts, reason = told
    assert seen.rows == [("F", NOW, "A", 3, str(outcome), state, 1, "w1", NOW - 700, *counts, reason, b"")]


@pytest.mark.parametrize(
    ("outcome", "options", "state"),
    [
        (Outcome.RELEASED, {}, "queued"),
        (Outcome.INTERRUPTED, {}, "queued"),
        (Outcome.RELEASED, {"delay_ms": 3_000}, "scheduled"),
        (Outcome.CANCELLED, {}, "cancelled"),
    ],
)
def test_what_had_not_started_goes_back_uncounted(
    rig: Rig, outcome: Outcome, options: dict[str, Any], state: str
) -> None:
    one = held(rig)
    with rig.changes() as seen:
        assert rig.finish(one, outcome, since_start_ms=-1, reason="revoked", **options) == FINISHED
    assert not {"st/A.attempts", "st/A.failures", "st/A.deaths", "st/A.started"} & seen.keys.keys()
    assert seen.rows == [("T", NOW, "A", 2, state, DUE if options else 0, "revoked", "")]


@pytest.mark.parametrize("outcome", [Outcome.SUCCEEDED, Outcome.FAILED, Outcome.REJECTED, Outcome.DIED])
def test_any_other_outcome_is_an_attempt_even_where_its_start_was_not_seen(rig: Rig, outcome: Outcome) -> None:
    one = held(rig)
    rig.finish(one, outcome, since_start_ms=-1, detail=b"error")
    kind, at, task_id, v, *rest = rig.rows()[-1]
    assert (kind, task_id, v, rest[2], rest[4], rest[-1]) == ("F", "A", 2, 1, at, b"error")


def test_retries_are_used_up_by_failures_alone(rig: Rig) -> None:
    one = held(rig, max_retries=1)
    rig.lead()
    for outcome in (Outcome.RELEASED, Outcome.INTERRUPTED, Outcome.DIED, Outcome.FAILED):
        assert rig.finish(one, outcome) == FINISHED
        rig.promote()
        (one,) = rig.claim(takes_suspect=True)
    assert (one.failures, one.deaths, one.attempts) == (1, 1, 4)
    rig.finish(one, Outcome.FAILED)
    assert rig.rows()[-1][4:6] == ("failed", "dead")
    assert rig.rows()[-1][-2] == "retries used up"


def test_the_third_lone_death_is_the_last(rig: Rig) -> None:
    one = held(rig, watched=True)
    for deaths in (0, 1):
        assert one.deaths == deaths
        rig.finish(one, Outcome.DIED)
        (one,) = rig.claim(takes_suspect=True)
    with rig.changes() as seen:
        rig.finish(one, Outcome.DIED, reason="exit code 42", detail=b"killed")
    assert seen.rows[0][5:] == ("dead", 3, "w1", NOW - 10, 0, 3, 0, "poison", b"killed")
    assert seen.keys["res/A"] == b"killed"
    assert rig.zset("suspects", "default") == {}


def test_a_finished_task_is_answered_as_repeated(rig: Rig) -> None:
    one = held(rig)
    rig.finish(one, Outcome.SUCCEEDED)
    with rig.changes() as seen:
        assert rig.finish(one, Outcome.FAILED) == REPEATED
    assert (seen.keys, seen.rows) == ({"slot:w1": (3, "", [2], [])}, [])


def test_a_repeated_finish_is_known_by_the_tombstone_too(rig: Rig) -> None:
    one = held(rig)
    rig.finish(one, Outcome.SUCCEEDED)
    rig.forget(("A", 2))
    assert rig.finish(one, Outcome.SUCCEEDED) == REPEATED
    assert rig.hash("stat") == {}


@pytest.mark.parametrize("token", ["", "1-1-w1-2", "1-1-w2-1", "2-1-w1-1", "1-w1-1", "1-1-w1-1 "])
def test_any_other_token_is_stale_and_counted(rig: Rig, token: str) -> None:
    one = held(rig)
    rig.start(one)
    end = worker_calls.finished("A", token, Outcome.SUCCEEDED, since_start_ms=1)
    with rig.changes() as seen:
        assert rig.round("w2", finished=[end]).codes == [STALE]
    counted = {"stat/stale": b"1", "stat/stale_at": str(rig.now).encode()}
    assert seen.keys == {"slot:w2": (1, "", [0], []), "slot:w2#minutes": 60, **counted}
    assert seen.rows == []


@pytest.mark.parametrize("token", ["", "1", "1-1-w2-1", "-w1-1"])
def test_no_part_of_a_token_passes_a_tombstone(rig: Rig, token: str) -> None:
    one = held(rig)
    rig.finish(one, Outcome.SUCCEEDED)
    rig.forget(("A", 2))
    end = worker_calls.finished("A", token, Outcome.SUCCEEDED, since_start_ms=1)
    assert rig.round("w2", finished=[end]).codes == [STALE]


def test_a_task_reported_twice_in_one_round_ends_once(rig: Rig) -> None:
    one = held(rig)
    failed = worker_calls.finished("A", one.token, Outcome.FAILED, since_start_ms=1)
    assert rig.round(finished=[failed, failed]).codes == [FINISHED, REPEATED]
    assert rig.live("A").failures == 1
    assert [row[0] for row in rig.rows()] == ["S", "W", "F"]


def test_a_start_and_an_end_in_one_round_are_two_rows_of_one_attempt(rig: Rig) -> None:
    one = held(rig)
    rig.round(
        started=[worker_calls.started("A", one.token, 20)],
        finished=[worker_calls.finished("A", one.token, Outcome.SUCCEEDED, since_start_ms=20)],
    )
    assert [row[:4] for row in rig.rows()[-2:]] == [("R", NOW, "A", 2), ("F", NOW, "A", 3)]
    assert rig.live("A").attempts == 1


def test_a_round_may_claim_again_what_it_gives_back(rig: Rig) -> None:
    one = held(rig)
    end = worker_calls.finished("A", one.token, Outcome.RELEASED, since_start_ms=1)
    reply = rig.round(places=1, finished=[end])
    assert [(again.id, again.token, again.attempts) for again in reply.claimed] == [("A", "1-2-w1-2", 1)]
    assert list(rig.hash("own", "w1")) == ["A"]


def test_the_end_of_a_watched_task_is_told_and_its_result_kept(rig: Rig) -> None:
    one = held(rig, watched=True)
    rig.now += 50
    with rig.changes() as seen:
        rig.finish(one, Outcome.SUCCEEDED, detail=b"\x93result")
    assert seen.keys["res/A"] == b"\x93result"
    assert seen.keys["st/A.watched"] == rig.now


def test_progress_ends_with_the_attempt(rig: Rig) -> None:
    one = held(rig)
    rig.do(worker_calls.note(rig.keys, [("A", one.token, '{"percent":40}', b"")]))
    assert rig.live("A").progress == {"percent": 40}
    rig.finish(one, Outcome.RELEASED)
    assert rig.hash("prog") == {}


def test_a_thousand_ends_in_one_round(rig: Rig) -> None:
    rig.submit(*[task(f"t{number}") for number in range(1000)])
    claimed = rig.claim(places=1000)
    ends = [worker_calls.finished(one.id, one.token, Outcome.SUCCEEDED, since_start_ms=1) for one in claimed]
    begun = [worker_calls.started(one.id, one.token, 1) for one in claimed]
    assert rig.round(started=begun, finished=ends).codes == [FINISHED] * 1000
    assert rig.hash("own", "w1") == {}
    assert len(rig.rows()) == 1 + 3 * 1000
