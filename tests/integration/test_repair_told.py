"""What is kept of a repair: what was found, what was done, how long it took."""

from __future__ import annotations

from tests.integration.loss import (
    copy_namespace,
    copy_record,
    lose_everything,
    put_namespace_back,
    put_record_back,
    record,
    reopen,
)
from tests.integration.recorder_stage import Stage, drain
from tqctl_runtime.coordinator.pressure import Pressure
from tqctl_runtime.coordinator.recoveries import Recoveries
from tqctl_runtime.coordinator.roles import Tools
from tqctl_runtime.core.states import State


def test_a_repair_is_told_of_afterwards(stage: Stage) -> None:
    stage.submit(3)
    record(stage)
    lose_everything(stage)
    reopen(stage)

    (told,) = stage.store.health.events()

    assert (told.kind, told.subject) == ("repair", "namespace")
    assert "lost its data: the record knows it up to entry 1 of epoch 1" in told.message
    assert "built anew in epoch 2: 3 tasks put back" in told.message
    assert told.length_s is not None


def test_a_repair_tells_by_how_many_entries_redis_went_back(stage: Stage) -> None:
    stage.submit()
    record(stage)
    copy = copy_namespace(stage)
    for _ in range(3):
        stage.submit()
    record(stage)
    put_namespace_back(stage, copy)
    reopen(stage)

    (told,) = stage.store.health.events()

    assert "Redis went back by 3 entries: its journal ends at 1, 4 is recorded; built anew in epoch 2" in told.message


def test_an_older_record_that_the_journal_brings_up_is_told_with_what_was_replayed(stage: Stage) -> None:
    stage.submit()
    record(stage)
    copy = copy_record(stage)
    ids = [stage.submit()[0] for _ in range(3)]
    record(stage)
    put_record_back(stage, copy)
    assert reopen(stage) == 1, "nothing is built anew"
    recoveries = Recoveries()
    recorder = stage.recorder(stage.elect("d"), recoveries)

    drain(recorder)

    recoveries.flush(stage.store)
    (told,) = stage.store.health.events()
    assert (told.kind, told.subject) == ("repair", "record")
    assert "the record went back by 3 entries: it ended at 1, 4 was recorded once" in told.message
    assert "replayed from the journal: 3 entries with 3 rows" in told.message
    assert stage.states(ids) == {State.QUEUED}


def losses(stage: Stage, recoveries: Recoveries) -> list[str]:
    recoveries.flush(stage.store)
    return [event.message for event in stage.store.health.events() if event.kind == "loss"]


def seen_and_lost(stage: Stage) -> Recoveries:
    """A leader saw entries that were not recorded, then Redis went back behind them, to no less than is recorded."""
    recoveries = Recoveries()
    tools = Tools(stage.settings, stage.keys, stage.wire, stage.store, stage.elect("c"), recoveries)
    stage.submit()
    drain(stage.recorder(tools.term, recoveries))
    copy = copy_namespace(stage)
    for _ in range(3):
        stage.submit()
    Pressure(tools).run_once()
    put_namespace_back(stage, copy)
    return recoveries


def test_what_redis_lost_before_it_was_recorded_is_told(stage: Stage) -> None:
    recoveries = seen_and_lost(stage)

    drain(stage.recorder(stage.elect("d"), recoveries))

    (told,) = losses(stage, recoveries)
    assert told.startswith("Redis went back by at least 3 journal entries that were not recorded")
    drain(stage.recorder(stage.elect("e"), recoveries))
    assert losses(stage, recoveries) == [told], "once"


def test_what_redis_lost_is_told_also_where_its_journal_has_grown_again_until_sql_was_back(stage: Stage) -> None:
    recoveries = seen_and_lost(stage)
    tools = Tools(stage.settings, stage.keys, stage.wire, stage.store, stage.elect("d"), recoveries)
    Pressure(tools).run_once()
    for _ in range(5):
        stage.submit()
    Pressure(tools).run_once()

    drain(stage.recorder(tools.term, recoveries))

    assert len(losses(stage, recoveries)) == 1


def test_a_journal_that_only_grows_has_lost_nothing(stage: Stage) -> None:
    recoveries = Recoveries()
    tools = Tools(stage.settings, stage.keys, stage.wire, stage.store, stage.elect("c"), recoveries)
    for _ in range(3):
        stage.submit()
        Pressure(tools).run_once()
        drain(stage.recorder(tools.term, recoveries))

    assert losses(stage, recoveries) == []


def test_a_repair_tells_by_how_many_entries_the_record_went_back(stage: Stage) -> None:
    stage.submit()
    record(stage)
    copy = copy_record(stage)
    for _ in range(3):
        stage.submit()
    record(stage)
    put_record_back(stage, copy)
    stage.redis.xtrim(stage.keys.build("journal"), maxlen=1, approximate=False)
    reopen(stage)

    (told,) = stage.store.health.events()

    assert "the record went back by 3 entries: it ends at 1, 4 was recorded once" in told.message
