"""What the journal alone tells: folds its rows and holds each to the numbered invariants, without the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.property.records import Row
from tqctl_runtime.core.states import FINAL, TRANSITIONS, State

_FAILURES = {"failed", "timed_out"}


@dataclass
class Past:
    """One task as its rows tell it."""

    state: State
    v: int
    due: int
    expires: int
    attempts: int = 0
    failures: int = 0
    deaths: int = 0
    is_cancel_asked: bool = False
    epoch: int = 1


class History:
    """All rows so far."""

    def __init__(self) -> None:
        self.tasks: dict[str, Past] = {}
        self.keys: dict[str, str] = {}
        self.last_seq = 0
        self.epoch = 1

    def begin_epoch(self) -> None:
        """The namespace was repaired: versions and the sequence begin anew."""
        self.epoch += 1
        self.last_seq = 0

    def append(self, rows: list[Row], numbers: list[int]) -> None:
        """Check and keep the new *rows*, which came in entries *numbers*."""
        for number in numbers:
            assert number == self.last_seq + 1, "INV-6: the sequence has no gap"
            self.last_seq = number
        for row in rows:
            if row[0] == "S":
                self._submitted(row)
            elif row[0] in "RFTOC":
                self._changed(row)

    def _submitted(self, row: Row) -> None:
        _, _, task_id, v, state, _, _, _, due, expires, key, _, _ = row
        assert task_id not in self.tasks, "INV-7: an id has one life"
        assert v == 1, "INV-3: versions begin at 1"
        assert (None, State(state)) in TRANSITIONS, "INV-1"
        if key:
            assert key not in self.keys, "INV-7: a key has one life"
            self.keys[key] = task_id
        self.tasks[task_id] = Past(State(state), v, due, expires, epoch=self.epoch)

    def _changed(self, row: Row) -> None:
        kind, at, task_id, v = row[:4]
        past = self.tasks[task_id]
        follows = past.v + 1 if past.epoch == self.epoch else 1
        assert v == follows, f"INV-3: {row} follows version {past.v} of epoch {past.epoch}"
        is_put_back = past.epoch != self.epoch and kind == "T"
        past.v, past.epoch = v, self.epoch
        if is_put_back and past.state == row[4]:
            return
        change: Any = {
            "R": self._started,
            "F": self._ended,
            "T": self._moved,
            "O": self._reset,
            "C": self._cancel_asked,
        }[kind]
        change(past, at, row)

    @staticmethod
    def _go(past: Past, state: State, due: int) -> None:
        if (past.state, state) != (State.QUEUED, State.QUEUED):
            assert (past.state, state) in TRANSITIONS, f"INV-1: {past.state} to {state}"
        if past.is_cancel_asked:
            allowed = {State.RUNNING, State.SUCCEEDED, State.CANCELLED}
            assert state in allowed, f"INV-10: only success beats a cancel request, not {state}"
        past.state, past.due = state, due
        if state in FINAL:
            past.is_cancel_asked = False

    def _started(self, past: Past, at: int, row: Row) -> None:
        number = row[4]
        assert past.due <= at, "INV-9: nothing starts before it is due"
        assert number == past.attempts + 1, "INV-3: attempts count up"
        past.attempts = number
        self._go(past, State.RUNNING, 0)

    def _ended(self, past: Past, at: int, row: Row) -> None:
        outcome, state, number, _, _, failures, deaths, due = row[4:12]
        if past.state is not State.RUNNING:
            # An attempt that ended in the round that names it: started and ended in one row.
            assert past.due <= at, "INV-9: nothing starts before it is due"
            assert number == past.attempts + 1, "INV-3: attempts count up"
            past.attempts, past.state = number, State.RUNNING
        assert number == past.attempts, "INV-3: the running attempt ends"
        past.failures += outcome in _FAILURES
        past.deaths += outcome == "died"
        assert (failures, deaths) == (past.failures, past.deaths), "INV-8: only failures and lone deaths count"
        self._go(past, State(state), due)

    def _moved(self, past: Past, at: int, row: Row) -> None:
        state, due, reason = State(row[4]), row[5], row[6]
        if reason == "due":
            assert past.due <= at, "INV-9: nothing is queued before it is due"
        if state is State.EXPIRED:
            assert 0 < past.expires <= at, "INV-9: nothing expires before its time"
            assert past.attempts == 0, "INV-9: what was started does not expire"
        self._go(past, state, due)

    def _reset(self, past: Past, at: int, row: Row) -> None:
        past.failures = past.deaths = past.expires = 0
        self._go(past, State(row[4]), row[5])

    def _cancel_asked(self, past: Past, at: int, row: Row) -> None:
        assert past.state in {State.QUEUED, State.RUNNING}, "INV-10: only a held task is asked to stop"
        past.is_cancel_asked = True
