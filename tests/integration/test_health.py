"""The health role on both pairs: every check is run, what it found is kept, and outages of SQL lose nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.environment import Environment
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import open_gate
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.checks import CHECKS
from tqctl_runtime.checks.finding import Finding
from tqctl_runtime.coordinator.health import Health, summarise
from tqctl_runtime.coordinator.roles import Tools
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.errors import LeaseLost, RecordUnavailable
from tqctl_runtime.record import open_store


@pytest.fixture
def tools(pair: Environment) -> Iterator[Tools]:
    settings = pair.settings()
    keys = Keys(settings.namespace)
    with Wire(BrokerAddress.of(settings)) as wire, open_store(settings) as store:
        wire.call(open_gate(keys, epoch=1, pairing="par_test"))
        store.pair("par_test", 1)
        yield Tools(settings, keys, wire, store, store.next_term("coordinator", "test"))


def test_every_check_has_a_result_with_the_level_that_doctor_tells(tools: Tools) -> None:
    Health(tools).run_once(now_ms())

    found = {state.check: state for state in tools.store.health.checks(window_ms=60_000)}
    assert set(found) == set(CHECKS)
    assert found["record"].level == found["broker"].level == "ok"
    assert (found["workers"].level, found["workers"].message) == ("problem", "no worker")
    assert found["workers"].hint


def test_checks_run_again_only_when_it_is_time(tools: Tools) -> None:
    role = Health(tools, first_look=0.0)
    role.run_once()
    role.run_once()
    Health(tools).run_once()

    assert [stretch.runs for stretch in tools.store.health.history("broker")] == [1]


def test_what_was_seen_while_sql_was_away_is_written_when_it_is_back(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    role, now = Health(tools), now_ms()

    def refuse(*_: object, **__: object) -> None:
        raise RecordUnavailable("away")

    with monkeypatch.context() as away:
        away.setattr("tqctl_runtime.record.health.Health.save", refuse)
        away.setattr("tqctl_runtime.record.health.Health.note_all", refuse)
        tools.recoveries.note("leader", "coordinator", "leads in term 1")
        role.run_once(now)
        role.run_once(now + 30_000)
    assert tools.store.health.history() == []
    role.run_once(now + 60_000)

    assert sum(stretch.runs for stretch in tools.store.health.history("broker")) == 3
    assert [event.kind for event in tools.store.health.events()] == ["leader"]


def test_a_role_whose_term_is_over_ends(tools: Tools) -> None:
    tools.store.next_term("coordinator", "other")

    with pytest.raises(LeaseLost):
        Health(tools).run_once(now_ms())


def test_a_check_is_as_bad_as_its_worst_finding() -> None:
    found = [
        Finding("a", "ok", "fine"),
        Finding("a", "problem", "bad", "mend it"),
        Finding("a", "problem", "worse", "mend that"),
        Finding("b", "skipped", "no broker"),
        Finding("b", "ok", "fine"),
    ]

    assert [tuple(result) for result in summarise(found)] == [
        ("a", "problem", "bad; worse", "mend it"),
        ("b", "ok", "fine", ""),
    ]
