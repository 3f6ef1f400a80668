"""Results of checks and recovery events in the record, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.journal import START
from tqctl_runtime.coordinator.recoveries import Recoveries
from tqctl_runtime.core.clock import iso
from tqctl_runtime.core.errors import BrokerUnavailable, LeaseLost, NotOpen, RecordUnavailable, UnderRepair
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record import Store, open_store
from tqctl_runtime.record.health import KEPT_EVENTS, RecoveryNote, Result

HOUR, DAY = 3_600_000, 86_400_000
#: The beginning of an hour.
BEGIN = START - START % HOUR
STEP = 30_000


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(Settings(database_url=store_url)) as opened:
        opened.next_term("coordinator", "test")
        yield opened


def save(store: Store, at: int, level: str, message: str = "", *, name: str = "workers", term: int = 1) -> None:
    hint = "tqctl worker start" if level == "problem" else ""
    store.health.save(at, [Result(name, level, message, hint)], term=term, gap_ms=3 * STEP)


def test_runs_of_one_level_are_one_stretch(store: Store) -> None:
    for number in range(4):
        save(store, BEGIN + number * STEP, "ok", f"{number} live")

    (stretch,) = store.health.history()

    assert (stretch.check, stretch.level, stretch.runs, stretch.message) == ("workers", "ok", 4, "3 live")
    assert (stretch.since, stretch.until) == (iso(BEGIN), iso(BEGIN + 3 * STEP))


def test_a_change_of_level_begins_a_stretch_and_the_last_begun_comes_first(store: Store) -> None:
    for number, level in enumerate(["ok", "problem", "problem", "ok"]):
        save(store, BEGIN + number * STEP, level)

    found = store.health.history("workers")

    assert [(stretch.level, stretch.runs) for stretch in found] == [("ok", 1), ("problem", 2), ("ok", 1)]
    assert [stretch.hint for stretch in found] == [None, "tqctl worker start", None]
    assert store.health.history("broker") == []
    assert [stretch.level for stretch in store.health.history(since=BEGIN + 3 * STEP)] == ["ok"]


def test_a_stretch_goes_on_over_the_hour_and_ends_at_a_gap(store: Store) -> None:
    save(store, BEGIN + HOUR - STEP, "ok")
    save(store, BEGIN + HOUR, "ok")
    save(store, BEGIN + 3 * HOUR, "ok")

    found = store.health.history()

    assert [(stretch.since, stretch.runs) for stretch in found] == [
        (iso(BEGIN + 3 * HOUR), 1),
        (iso(BEGIN + HOUR - STEP), 2),
    ]


def test_the_success_rate_counts_the_runs_that_could_look(store: Store) -> None:
    for number, level in enumerate(["ok", "ok", "ok", "problem", "skipped", "skipped"]):
        save(store, BEGIN + number * STEP, level)
    save(store, BEGIN + 5 * STEP, "skipped", name="clock")
    save(store, BEGIN - 3 * DAY, "ok", name="long gone")

    found = {state.check: state for state in store.health.checks(window_ms=DAY, now=BEGIN + HOUR)}

    assert set(found) == {"workers", "clock"}
    assert (found["workers"].level, found["workers"].success_rate) == ("skipped", 0.75)
    assert found["workers"].since == iso(BEGIN + 4 * STEP)
    assert found["clock"].success_rate is None


def test_a_leader_of_an_earlier_term_writes_and_deletes_no_result(store: Store) -> None:
    save(store, BEGIN, "ok")
    store.next_term("coordinator", "other")

    with pytest.raises(LeaseLost):
        save(store, BEGIN + STEP, "problem")
    with pytest.raises(LeaseLost):
        store.health.prune(BEGIN + DAY, term=1)

    assert [stretch.level for stretch in store.health.history()] == ["ok"]


def test_old_results_go_and_the_last_events_stay(store: Store) -> None:
    save(store, BEGIN, "ok")
    save(store, BEGIN + DAY, "ok")
    store.health.note_all(RecoveryNote("leader", "c", f"term {n}", None, BEGIN + n) for n in range(KEPT_EVENTS + 5))

    store.health.prune(BEGIN + DAY, term=1)

    events = store.health.events(limit=2 * KEPT_EVENTS)
    assert len(store.health.history()) == 1
    assert len(events) == KEPT_EVENTS
    assert (events[0].message, events[-1].message) == (f"term {KEPT_EVENTS + 4}", "term 5")


def test_recovery_events_are_kept_with_their_length_and_the_latest_comes_first(store: Store) -> None:
    store.health.note("repair", "broker", "3 tasks put back\x00", length_ms=1_500, at=BEGIN)
    store.health.note("leader", "coordinator", "leads in term 2", at=BEGIN + 1)

    found = [event.to_json() for event in store.health.events()]

    assert [event["kind"] for event in found] == ["leader", "repair"]
    assert found[1] == {
        "at": iso(BEGIN),
        "kind": "repair",
        "subject": "broker",
        "message": "3 tasks put back\N{REPLACEMENT CHARACTER}",
        "length_s": 1.5,
    }
    assert [event.kind for event in store.health.events(since=BEGIN + 1)] == ["leader"]


def test_an_outage_is_one_event_however_often_it_was_noticed(store: Store) -> None:
    recoveries = Recoveries()
    recoveries.works("record")
    for _ in range(3):
        recoveries.fails("record", "connection refused")
    recoveries.works("record")
    recoveries.works("record")

    assert (recoveries.flush(store), recoveries.flush(store)) == (1, 0)
    (event,) = store.health.events()
    assert (event.kind, event.subject) == ("outage", "record")
    assert "connection refused" in event.message
    assert event.length_s is not None


def test_a_closed_namespace_is_no_outage_and_a_server_that_is_away_is(store: Store) -> None:
    recoveries = Recoveries()
    for error in (NotOpen("closed"), UnderRepair("at work"), LeaseLost("over")):
        recoveries.met(error)
    recoveries.works("broker")
    recoveries.works("record")
    assert recoveries.flush(store) == 0

    recoveries.met(BrokerUnavailable("connection refused"))
    recoveries.met(RecordUnavailable("locked"))
    recoveries.works("broker")
    recoveries.works("record")

    recoveries.flush(store)
    assert {event.subject for event in store.health.events()} == {"broker", "record"}


def test_an_event_that_was_written_twice_is_kept_once(store: Store) -> None:
    note = RecoveryNote("worker", "workers", "1 lost", None, BEGIN)

    store.health.note_all([note])
    store.health.note_all([note])

    assert len(store.health.events()) == 1
