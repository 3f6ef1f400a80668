"""The health role on both pairs: every check is run, what it found is kept, and outages of SQL lose nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

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
from tqctl_runtime.doctor import run_checks
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


PLUG_IN = """
from tqctl_runtime.checks import ok, problem, skipped

def licence(scene):
    yield problem(f"the licence for {scene.settings.namespace} ends tomorrow", "renew it")

def silent(scene):
    return ()

def broken(scene):
    raise ZeroDivisionError("of the plug-in")
"""
POINTS = """
[tqctl.checks]
licence = plugged:licence
silent = plugged:silent
broken = plugged:broken
nowhere = plugged_nowhere:check
workers = plugged:licence
"""


@pytest.fixture
def plugged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package that offers checks, good and bad ones."""
    folder = tmp_path / "site"
    described = folder / "plugged-1.0.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(POINTS)
    (folder / "plugged.py").write_text(PLUG_IN)
    monkeypatch.syspath_prepend(folder)
    yield
    sys.modules.pop("plugged", None)


@pytest.mark.usefixtures("plugged")
def test_a_check_of_an_installed_package_is_run_by_doctor_and_a_broken_one_is_a_finding(tools: Tools) -> None:
    found = {item.check: item for item in run_checks(tools.settings)}

    assert found["licence"].message == f"the licence for {tools.settings.namespace} ends tomorrow"
    assert (found["silent"].level, found["silent"].message) == ("skipped", "it told nothing")
    assert found["broken"].message == "the check itself failed: ZeroDivisionError: of the plug-in"
    assert "plugged" in found["broken"].hint
    assert "cannot be imported: ModuleNotFoundError" in found["nowhere"].message
    assert found["nowhere"].hint == "mend or remove plugged: plugged_nowhere:check"
    assert found["workers"].message == "no worker", "a package replaces no check of ours"
    assert "another check has the name 'workers'" in found["workers (plugged:licence)"].message
    assert set(CHECKS) < set(found)


@pytest.mark.usefixtures("plugged")
def test_what_a_check_of_a_package_found_is_kept_and_found_by_name(tools: Tools) -> None:
    Health(tools).run_once(now_ms())

    states = {state.check: state.level for state in tools.store.health.checks(window_ms=60_000)}
    assert states.items() >= {"licence": "problem", "broken": "problem", "record": "ok"}.items()
