"""States, their numbers on the wire, and the transitions between them."""

from __future__ import annotations

import pytest

from tqctl_runtime.core.errors import UsageError
from tqctl_runtime.core.states import (
    FINAL,
    OUTCOME_CODES,
    OUTCOMES_BY_CODE,
    STATE_CODES,
    STATES_BY_CODE,
    TRANSITIONS,
    Outcome,
    State,
    parse_state,
)


def test_the_numbers_on_the_wire_never_change_their_meaning() -> None:
    assert {str(state): code for state, code in STATE_CODES.items()} == {
        "scheduled": 1,
        "waiting": 2,
        "queued": 3,
        "running": 4,
        "retrying": 5,
        "succeeded": 6,
        "dead": 7,
        "cancelled": 8,
        "expired": 9,
    }
    assert {str(outcome): code for outcome, code in OUTCOME_CODES.items()} == {
        "succeeded": 1,
        "failed": 2,
        "timed_out": 3,
        "rejected": 4,
        "cancelled": 5,
        "died": 6,
        "interrupted": 7,
        "released": 8,
    }
    assert all(STATES_BY_CODE[STATE_CODES[state]] is state for state in State)
    assert all(OUTCOMES_BY_CODE[OUTCOME_CODES[outcome]] is outcome for outcome in Outcome)


def test_every_state_can_be_reached_from_nothing() -> None:
    reached: set[State | None] = {None}
    while more := {after for before, after in TRANSITIONS if before in reached} - reached:
        reached |= more
    assert reached - {None} == set(State)


def test_every_state_leads_to_a_final_one() -> None:
    ending: set[State | None] = set(FINAL)
    while more := {before for before, after in TRANSITIONS if after in ending} - ending:
        ending |= more
    assert set(State) <= ending


def test_a_final_state_is_left_only_by_an_operator() -> None:
    leaving = {(before, after): how for (before, after), how in TRANSITIONS.items() if before in FINAL}
    assert set(leaving.values()) == {("retry",)}
    assert {after for _, after in leaving} == {State.QUEUED}


def test_success_is_for_ever() -> None:
    assert not [after for before, after in TRANSITIONS if before is State.SUCCEEDED]


def test_only_running_tasks_succeed_or_are_retried() -> None:
    assert {before for before, after in TRANSITIONS if after in (State.SUCCEEDED, State.RETRYING)} == {State.RUNNING}


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("queued", State.QUEUED),
        ("PENDING", State.QUEUED),
        ("completed", State.SUCCEEDED),
        ("failed", State.DEAD),
        ("Dead", State.DEAD),
    ],
)
def test_states_are_found_by_name_and_by_the_words_of_others(word: str, state: State) -> None:
    assert parse_state(word) is state


def test_an_unknown_state_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError) as caught:
        parse_state("sleeping")
    assert "retrying" in str(caught.value.hint)
