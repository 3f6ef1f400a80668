"""Deleting what is old, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.journal import START, WORKER, Journal
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator import pruner as pruner_module
from tqctl_runtime.coordinator.pruner import Pruner
from tqctl_runtime.core.errors import LeaseLost
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import State
from tqctl_runtime.record import Store, open_store

DAY = 86_400_000


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(Settings(database_url=store_url)) as opened:
        opened.pair("par_test", 1)
        yield opened


@pytest.fixture
def ids(store: Store) -> dict[str, str]:
    """A dead, a succeeded and a queued task of the start, and one that succeeded ten days later."""
    journal = Journal()
    names = {name: new_id("tsk") for name in ("dead", "done", "queued", "late")}
    entries = [journal.entry(*(journal.submit(i, tags={"a": "b"}) for i in names.values()))]
    entries.append(journal.entry(journal.die(names["dead"]), journal.finish(names["done"], result=b"1")))
    entries.append(journal.entry(journal.move(names["queued"], 2, State.QUEUED, who="ann")))
    entries.append(journal.entry([b"W", journal.now, WORKER, "live", '{"name":"w1"}']))
    entries.append(journal.entry([b"W", journal.now, WORKER, "gone", "{}"]))
    journal.now = START + 10 * DAY
    entries.append(journal.entry(journal.finish(names["late"], result=b"1")))
    writer = store.writer(store.next_term("coordinator", "test"))
    assert not writer.apply(entries, writer.take()).quarantined
    return names


def pruner(store: Store, *, term: int = 1, **settings: int) -> Pruner:
    wire = Wire(BrokerAddress(path="/nowhere"))
    return Pruner(store=store, wire=wire, term=term, settings=Settings(**settings))  # type: ignore[arg-type]


def test_old_dead_letters_go_and_their_tasks_stay(store: Store, ids: dict[str, str]) -> None:
    letters = [letter.task_id for letter in store.queries.dead_letters()]

    early = pruner(store).run_once(START + 29 * DAY)
    late = pruner(store).run_once(START + 30 * DAY + 60_000)

    assert letters == [ids["dead"]]
    assert (early, late) == (0, 2)
    assert store.queries.dead_letters() == []
    assert store.lookup.states(list(ids.values()))[ids["dead"]] is State.DEAD


def test_old_final_tasks_go_with_everything_about_them(store: Store, ids: dict[str, str]) -> None:
    kept = store.lookup.task(ids["late"])

    while pruner(store, task_retention=5 * DAY).run_once(START + 6 * DAY):
        pass

    assert set(store.lookup.states(list(ids.values()))) == {ids["queued"], ids["late"]}
    assert store.lookup.task(ids["late"]) == kept
    for table, column in (("attempts", "task_id"), ("task_tags", "task_id"), ("dead_letters", "task_id")):
        rows = store.database.rows(f"SELECT DISTINCT {column} FROM {table}")
        assert {row[0] for row in rows} <= {ids["queued"], ids["late"]}


def test_tasks_stay_for_ever_unless_a_retention_is_set(store: Store, ids: dict[str, str]) -> None:
    pruner(store).run_once(START + 1_000 * DAY)

    assert set(store.lookup.states(list(ids.values()))) == set(ids.values())


def test_a_unique_window_goes_when_it_has_ended(store: Store) -> None:
    journal = Journal()
    rows = [journal.submit(new_id("tsk"), payload={"n": n}, unique_ms=n * DAY) for n in (1, 2)]
    writer = store.writer(store.next_term("coordinator", "test"))
    writer.apply([journal.entry(*rows)], writer.take())

    assert pruner(store).run_once(START + DAY) == 0
    assert pruner(store).run_once(START + DAY + 1) == 1
    assert [end for page in store.mender(1).windows(0) for _, _, end in page] == [START + 2 * DAY]


@pytest.mark.parametrize("wrong", ["this machine's", "the broker's"])
def test_a_clock_that_is_far_ahead_deletes_nothing(
    store: Store, ids: dict[str, str], monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    clocks = [START + DAY, START + 1_000 * DAY]
    mine, theirs = reversed(clocks) if wrong == "this machine's" else clocks
    monkeypatch.setattr(pruner_module, "now_ms", lambda: mine)
    monkeypatch.setattr(Wire, "call_idempotent", lambda _self, _call: theirs)

    pruner(store, task_retention=5 * DAY).run_once()

    assert set(store.lookup.states(list(ids.values()))) == set(ids.values())


def test_workers_that_left_go_after_a_month(store: Store, ids: dict[str, str]) -> None:
    pruner(store).run_once(START + 29 * DAY)
    before = [worker.id for worker in store.queries.workers()]
    pruner(store).run_once(START + 31 * DAY)

    assert before == [WORKER]
    assert store.queries.workers() == []
    assert store.queries.events(WORKER) == []


def test_a_leader_of_an_earlier_term_deletes_nothing(store: Store, ids: dict[str, str]) -> None:
    store.next_term("coordinator", "other")

    with pytest.raises(LeaseLost):
        pruner(store, term=1).run_once(START + 40 * DAY)

    assert len(store.queries.dead_letters()) == 1
