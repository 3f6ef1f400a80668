"""What a submit says when it is in doubt again while it waits for the record."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.client import receipts
from tqctl_runtime.client.sending import Sender
from tqctl_runtime.core.errors import BrokerUnavailable


class LostWire:
    """Has just lost its connection, each call anew."""

    drops = 1

    def call(self, call: Any) -> Any:
        raise BrokerUnavailable("Redis at redis://host:6379/0: Connection refused")


def test_that_a_task_may_be_queued_or_not_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "PATIENCE", 0.0)
    sender: Any = Sender(LostWire(), Keys("unit"))  # type: ignore[arg-type]
    sender._has_worked = True
    posted: Any = SimpleNamespace(
        wishes=[SimpleNamespace(id="tsk_1")], call=None, drops=0, awaits_record=True, sent_again=None
    )

    with pytest.raises(receipts.Unconfirmed) as caught:
        sender.confirm(posted)

    assert caught.value.message == ("task tsk_1 may be queued or not: Redis at redis://host:6379/0: Connection refused")
