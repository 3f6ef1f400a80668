"""States of a task, outcomes of an attempt and the transitions between them.

The numbers are written into Redis lines and journal rows; a number is never given a second meaning.
"""

from __future__ import annotations

from enum import StrEnum

from tqctl_runtime.core.errors import UsageError


class State(StrEnum):
    """Where a task is; exactly one at a time."""

    SCHEDULED = "scheduled"
    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Outcome(StrEnum):
    """How one attempt ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    DIED = "died"
    INTERRUPTED = "interrupted"
    RELEASED = "released"


STATE_CODES: dict[State, int] = {state: number for number, state in enumerate(State, start=1)}
STATES_BY_CODE: dict[int, State] = {number: state for state, number in STATE_CODES.items()}
OUTCOME_CODES: dict[Outcome, int] = {outcome: number for number, outcome in enumerate(Outcome, start=1)}
OUTCOMES_BY_CODE: dict[int, Outcome] = {number: outcome for outcome, number in OUTCOME_CODES.items()}

FINAL = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED})

#: (from, to) -> the operations that may cause it. ``None`` stands for "not there yet".
TRANSITIONS: dict[tuple[State | None, State], tuple[str, ...]] = {
    (None, State.QUEUED): ("submit",),
    (None, State.SCHEDULED): ("submit",),
    (None, State.WAITING): ("submit",),
    (State.WAITING, State.QUEUED): ("last parent done",),
    (State.WAITING, State.CANCELLED): ("cancel",),
    (State.SCHEDULED, State.QUEUED): ("promote", "retry now"),
    (State.SCHEDULED, State.CANCELLED): ("cancel",),
    (State.SCHEDULED, State.EXPIRED): ("expire",),
    (State.QUEUED, State.RUNNING): ("start",),
    (State.QUEUED, State.SCHEDULED): ("release with delay",),
    (State.QUEUED, State.CANCELLED): ("cancel", "purge"),
    (State.QUEUED, State.EXPIRED): ("expire",),
    (State.RUNNING, State.SUCCEEDED): ("finish",),
    (State.RUNNING, State.RETRYING): ("finish",),
    (State.RUNNING, State.DEAD): ("finish", "third lone death"),
    (State.RUNNING, State.CANCELLED): ("finish", "reap after a cancel request"),
    (State.RUNNING, State.QUEUED): ("release", "reap", "interrupted"),
    (State.RUNNING, State.SCHEDULED): ("release with delay",),
    (State.RETRYING, State.QUEUED): ("promote", "retry now"),
    (State.RETRYING, State.CANCELLED): ("cancel",),
    (State.DEAD, State.QUEUED): ("retry",),
    (State.CANCELLED, State.QUEUED): ("retry",),
    (State.EXPIRED, State.QUEUED): ("retry",),
}

#: Words accepted in filters beside the states themselves.
STATE_ALIASES: dict[str, State] = {
    "pending": State.QUEUED,
    "completed": State.SUCCEEDED,
    "failed": State.DEAD,
}


def parse_state(word: str) -> State:
    """The state named by *word*, case-free, aliases included.

    Raises:
        UsageError: no state has that name.
    """
    low = word.lower()
    if low in STATE_ALIASES:
        return STATE_ALIASES[low]
    try:
        return State(low)
    except ValueError:
        raise UsageError(f"no state is called {word!r}", hint="states: " + ", ".join(State)) from None
