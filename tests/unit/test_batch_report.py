"""What the report of a batch says wherever an interrupt comes."""

from __future__ import annotations

import io
import signal
from collections.abc import Callable

import pytest

from tqctl.batch import Batch, Events, Report
from tqctl.batch_command import _DrySender
from tqctl.patience import patience
from tqctl.wish import Wish
from tqctl_runtime.broker.calls import CHUNK
from tqctl_runtime.core.ids import new_id


def _interrupted(accepted: Callable[[int, str], None]) -> Report:
    events = Events(lambda *_: None, accepted, lambda _: None, lambda: None)
    batch = Batch(
        _DrySender(),
        new_id("bat"),
        Wish(handler="echo"),
        events,
        {},
        patience(None, 0, lambda _: None),
        durability="auto",
        limit=1_000,
        is_checked=False,
    )
    with pytest.raises(KeyboardInterrupt):
        batch.run(io.BytesIO(b"{}\n" * (2 * CHUNK)))
    return batch.report


def test_an_interrupt_while_ids_are_told_finds_the_whole_call_counted() -> None:
    def stop(number: int, _: str) -> None:
        if number == CHUNK // 2:
            raise KeyboardInterrupt

    report = _interrupted(stop)
    assert (report.reached, report.submitted, len(report.ids)) == (CHUNK, CHUNK, CHUNK)


def test_an_interrupt_while_a_call_is_counted_waits_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    count = Batch._count

    def disturbed(self: Batch, *words: list[object]) -> None:
        signal.raise_signal(signal.SIGINT)
        count(self, *words)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(Batch, "_count", disturbed)
    report = _interrupted(lambda *_: None)
    assert (report.reached, report.submitted) == (CHUNK, CHUNK)
