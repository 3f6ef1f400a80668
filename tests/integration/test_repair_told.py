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
from tests.integration.recorder_stage import Stage


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
