"""Opening a namespace: a fresh pair is paired once, halves of different pairs are refused and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.environment import Environment
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.calls import submit
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import COORDINATOR, elect, journal_last, open_gate, pairing, publish
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator.opening import open_namespace, refuse_new_beside_recorded
from tqctl_runtime.core.errors import StoresDiffer
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.record import Store, open_store


class Pair:
    """Both stores of a set-up, as a coordinator holds them."""

    def __init__(self, pair: Environment) -> None:
        self.settings = pair.settings()
        self.keys = Keys(pair.namespace)
        self.store: Store = open_store(self.settings)
        self.wire = Wire(BrokerAddress.of(self.settings))

    def held_by_redis(self) -> tuple[int, str] | None:
        return self.wire.call(pairing(self.keys))

    def record_something(self) -> None:
        self.store.database.execute("UPDATE checkpoint SET sequence = 7, rows = 9")

    def record_all(self) -> None:
        """A task is submitted, and the record says that it has it."""
        done = self.wire.call(submit(self.keys, [build_submission("echo", {})]))
        last = self.wire.call(journal_last(self.keys))
        self.store.database.execute(
            "UPDATE checkpoint SET stream_id = ?, sequence = ?, rows = 1", (last, done.position.seq)
        )

    def close(self) -> None:
        self.store.close()
        self.wire.close()


@pytest.fixture
def stores(pair: Environment) -> Iterator[Pair]:
    made = Pair(pair)
    yield made
    made.close()


def test_a_fresh_pair_is_opened_in_epoch_one_and_both_hold_one_pairing_id(stores: Pair) -> None:
    opened = open_namespace(stores.store, stores.wire, stores.keys)

    known = stores.store.checkpoint()
    assert known is not None
    assert (opened.epoch, opened.is_new) == (1, True)
    assert stores.held_by_redis() == (1, opened.pairing) == (known.epoch, known.pairing)


def test_an_open_pair_is_joined(stores: Pair) -> None:
    first = open_namespace(stores.store, stores.wire, stores.keys)
    stores.record_all()

    again = open_namespace(stores.store, stores.wire, stores.keys)

    assert (again.pairing, again.epoch, again.is_new) == (first.pairing, 1, False)


def test_the_record_remembers_where_its_redis_is(stores: Pair) -> None:
    open_namespace(stores.store, stores.wire, stores.keys, place="redis://before:6379/0")
    stores.record_all()

    open_namespace(stores.store, stores.wire, stores.keys)

    known = stores.store.checkpoint()
    assert known is not None
    assert known.broker == stores.wire.address.display


def test_a_new_record_takes_the_pairing_id_of_an_open_redis(stores: Pair) -> None:
    stores.wire.call(open_gate(stores.keys, epoch=1, pairing="par_of_the_starter"))

    opened = open_namespace(stores.store, stores.wire, stores.keys)

    known = stores.store.checkpoint()
    assert known is not None
    assert opened.pairing == known.pairing == "par_of_the_starter"


def test_a_record_that_holds_nothing_opens_its_redis_under_its_own_pairing_id(stores: Pair) -> None:
    stores.store.pair("par_before_a_crash", 1)

    opened = open_namespace(stores.store, stores.wire, stores.keys)

    assert stores.held_by_redis() == (1, "par_before_a_crash")
    assert opened.pairing == "par_before_a_crash"


def test_an_empty_redis_at_another_address_than_before_is_left_alone(stores: Pair) -> None:
    stores.store.pair("par_known", 3, "redis://before:6379/0")
    stores.record_something()

    with pytest.raises(StoresDiffer) as refused:
        open_namespace(stores.store, stores.wire, stores.keys)

    assert stores.wire.address.display in refused.value.message
    assert "redis://before:6379/0" in refused.value.message
    assert "up to entry 7 of epoch 3" in refused.value.message
    assert "tqctl doctor --repair" in (refused.value.hint or "")
    assert stores.wire.command("EXISTS", stores.keys.meta) == 0


def test_an_empty_redis_where_it_was_before_is_opened_in_the_next_epoch(stores: Pair) -> None:
    stores.store.pair("par_known", 3, stores.wire.address.display)
    stores.record_something()

    opened = open_namespace(stores.store, stores.wire, stores.keys)

    known = stores.store.checkpoint()
    assert known is not None
    assert stores.held_by_redis() == (4, "par_known") == (opened.epoch, opened.pairing)
    assert (known.epoch, known.sequence, known.stream_id) == (4, 0, "0-0")


@pytest.mark.parametrize(("redis_epoch", "record_epoch"), [(1, 2), (2, 1)])
def test_a_redis_that_the_record_was_moved_away_from_is_left_alone(
    stores: Pair, redis_epoch: int, record_epoch: int
) -> None:
    stores.store.pair("par_known", record_epoch, "redis://after:6379/0")
    stores.wire.call(open_gate(stores.keys, epoch=redis_epoch, pairing="par_known"))

    with pytest.raises(StoresDiffer) as refused:
        open_namespace(stores.store, stores.wire, stores.keys)

    assert stores.wire.address.display in refused.value.message
    assert "redis://after:6379/0" in refused.value.message
    assert stores.held_by_redis() == (redis_epoch, "par_known")
    known = stores.store.checkpoint()
    assert known is not None
    assert (known.epoch, known.broker) == (record_epoch, "redis://after:6379/0")


def test_a_redis_of_another_pair_is_refused(stores: Pair) -> None:
    stores.store.pair("par_known", 1)
    stores.wire.call(open_gate(stores.keys, epoch=1, pairing="par_other"))

    with pytest.raises(StoresDiffer, match="belongs to another Redis"):
        open_namespace(stores.store, stores.wire, stores.keys)


@pytest.mark.parametrize(("redis_epoch", "record_epoch"), [(1, 2), (2, 1)])
def test_a_half_in_an_earlier_epoch_is_repaired_into_a_later_one_than_both(
    stores: Pair, redis_epoch: int, record_epoch: int
) -> None:
    stores.store.pair("par_known", record_epoch)
    stores.wire.call(open_gate(stores.keys, epoch=redis_epoch, pairing="par_known"))

    opened = open_namespace(stores.store, stores.wire, stores.keys)

    assert stores.held_by_redis() == (3, "par_known") == (opened.epoch, opened.pairing)


def test_a_database_without_a_schema_is_refused_before_it_gets_one_beside_a_redis_that_is_recorded(
    stores: Pair, empty_store_url: str
) -> None:
    opened = open_namespace(stores.store, stores.wire, stores.keys)
    term = stores.store.next_term(COORDINATOR, "coo_lead")
    stores.wire.call(elect(stores.keys, role=COORDINATOR, holder="coo_lead", term=term, lease_ms=60_000))
    mark = publish(stores.keys, term=term, epoch=opened.epoch, seq=0, stream_id="0-0", rows=0, size=0)
    stores.wire.call(mark)

    refuse_new_beside_recorded(stores.store, stores.wire, stores.keys, "here")
    with open_store(Settings(database_url=empty_store_url)) as empty:
        with pytest.raises(StoresDiffer, match="records Redis at here into another one"):
            refuse_new_beside_recorded(empty, stores.wire, stores.keys, "here")
        assert not empty.is_there()


def test_a_database_without_a_schema_beside_a_redis_that_nobody_records_is_let_through(
    stores: Pair, empty_store_url: str
) -> None:
    stores.wire.call(open_gate(stores.keys, epoch=1, pairing="par_of_the_starter"))

    with open_store(Settings(database_url=empty_store_url)) as empty:
        refuse_new_beside_recorded(empty, stores.wire, stores.keys, "here")


def test_coordinators_that_start_at_once_agree_on_one_pairing_id(pair: Environment) -> None:
    pairs = [Pair(pair) for _ in range(4)]
    try:
        with ThreadPoolExecutor(4) as pool:
            opened = list(pool.map(lambda one: open_namespace(one.store, one.wire, one.keys), pairs))
    finally:
        for one in pairs:
            one.close()

    assert len({one.pairing for one in opened}) == 1
    assert [one.is_new for one in opened].count(True) == 1
