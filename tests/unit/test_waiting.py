"""How long a wait goes on without a broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from tqctl_runtime.broker.calls import Watched
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.client import waiting
from tqctl_runtime.client.outcomes import Ended
from tqctl_runtime.client.receipts import PATIENCE
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.errors import BrokerUnavailable
from tqctl_runtime.core.states import State

RUNS = Watched("A", State.RUNNING, 1, False, b"")
ENDED = Watched("A", State.SUCCEEDED, 2, False, Detail(result=b"1").to_bytes())


class Broker:
    """What a waiter talks to: each answer is a number of seconds that pass without a broker, or what it tells."""

    was_connected = True

    def __init__(self, answers: list[float | Watched]) -> None:
        self.now = 0.0
        self._answers = answers

    @contextmanager
    def subscribe(self, *_channels: str) -> Iterator[Any]:
        """A subscription that hears nothing."""
        yield SimpleNamespace(wait=lambda _seconds: None)

    def call(self, _call: object) -> list[Watched]:
        """The next answer."""
        answer = self._answers.pop(0)
        if isinstance(answer, Watched):
            return [answer]
        self.now += answer
        raise BrokerUnavailable("away")


@pytest.fixture
def wait(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Ended]]:
    """Waits for the task A with the answers that it is given."""

    def run(*answers: float | Watched, was_connected: bool = True) -> list[Ended]:
        broker: Any = Broker(list(answers))
        broker.was_connected = was_connected
        clock = SimpleNamespace(monotonic=lambda: broker.now, sleep=lambda _seconds: None)
        monkeypatch.setattr(waiting, "time", clock)
        return list(waiting.wait_for_ends(broker, Keys("n"), ["A"], None, lambda _id: None))

    return run


def test_each_loss_of_the_broker_has_a_patience_of_its_own(wait: Callable[..., list[Ended]]) -> None:
    assert [end.id for end in wait(1.0, RUNS, RUNS, PATIENCE, RUNS, PATIENCE, ENDED)] == ["A"]


def test_a_broker_that_stays_away_is_given_up(wait: Callable[..., list[Ended]]) -> None:
    with pytest.raises(BrokerUnavailable):
        wait(RUNS, 1.0, PATIENCE + 1.0, ENDED)


def test_a_broker_that_was_never_there_is_told_at_once(wait: Callable[..., list[Ended]]) -> None:
    with pytest.raises(BrokerUnavailable):
        wait(0.0, ENDED, was_connected=False)
