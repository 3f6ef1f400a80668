"""What a submit does while the broker is busy: it waits, says so once, and gives up in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from tqctl.patience import Patience
from tqctl_runtime.client import receipts
from tqctl_runtime.client.receipts import Durability, Posted
from tqctl_runtime.core.errors import Busy
from tqctl_runtime.core.submission import Submission


class Broker:
    """Refuses with *errors* one after the other, then takes everything."""

    def __init__(self, *errors: Busy) -> None:
        self.errors = list(errors)
        self.calls = 0

    def post(self, wishes: Sequence[Submission], *, durability: Durability) -> Posted:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return None  # type: ignore[return-value]

    def confirm(self, posted: Posted, *, is_bulk: bool, waiting: Callable[[], None] | None) -> None:
        raise AssertionError


def busy() -> Busy:
    return Busy("nothing was queued: memory is short", retry_after=0.001)


def test_one_line_says_why_and_how_long_however_often_the_broker_refuses() -> None:
    said: list[str] = []
    patience = Patience(60, said.append, is_asked=False)
    patience.post(Broker(*(busy() for _ in range(5))), [], "auto")
    patience.post(Broker(busy(), busy()), [], "auto")
    assert said == ["nothing was queued: memory is short; trying again for 1m"]


def test_after_the_time_it_is_tried_once_more_and_then_told() -> None:
    broker = Broker(busy(), Busy("the last"))
    with pytest.raises(Busy, match="the last"):
        Patience(0.0005, lambda _: None, is_asked=True).post(broker, [], "auto")
    assert broker.calls == 2


def test_without_patience_the_first_refusal_is_told_and_nothing_is_said() -> None:
    said: list[str] = []
    broker = Broker(busy())
    with pytest.raises(Busy):
        Patience(0, said.append, is_asked=False).post(broker, [], "auto")
    assert (said, broker.calls) == ([], 1)


def test_a_recorder_is_waited_for_where_that_was_asked_or_something_is_queued_already() -> None:
    def refusal() -> Busy:
        error = receipts.no_recorder()
        error.retry_after = 0.001
        return error

    with pytest.raises(receipts.NoRecorder):
        Patience(60, lambda _: None, is_asked=False).post(Broker(refusal()), [], "recorded")
    Patience(60, lambda _: None, is_asked=True).post(Broker(refusal()), [], "recorded")
    begun = Patience(60, lambda _: None, is_asked=False)
    begun.post(Broker(), [], "recorded")
    begun.post(Broker(refusal()), [], "recorded")
