"""Redis of one pair beside the record of another: what needs both is refused, none of it told as if it fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration.loss import lose_everything, record
from tests.integration.recorder_stage import Stage
from tqctl_runtime import stack
from tqctl_runtime.broker.leader_calls import coordinator_beat
from tqctl_runtime.checks.situation import record_place_of
from tqctl_runtime.core.errors import RecordUnavailable, StoresDiffer
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import State
from tqctl_runtime.inspector import Inspector, TaskFilter

Ask = Callable[[Inspector, str], object]

#: What needs the record, with the id of a task that Redis does not know.
ASKED: dict[str, Ask] = {
    "tasks": lambda inspector, _: inspector.tasks(),
    "ids for a change": lambda inspector, _: inspector.task_ids(TaskFilter(queue="default")),
    "counts": lambda inspector, _: inspector.counts(),
    "dead letters": lambda inspector, _: inspector.dead_letters(),
    "queues": lambda inspector, _: inspector.queues(),
    "a task": lambda inspector, task_id: inspector.task(task_id),
    "a tail": lambda inspector, task_id: inspector.resolve(task_id[-8:]),
    "states": lambda inspector, task_id: inspector.states([task_id]),
    "logs": lambda inspector, task_id: inspector.logs(task_id),
    "a cancel": lambda inspector, task_id: inspector.cancel([task_id]),
    "a retry": lambda inspector, task_id: inspector.retry([task_id]),
    "a discard": lambda inspector, task_id: inspector.discard([task_id]),
    "checks": lambda inspector, _: inspector.checks(window_ms=1_000),
    "history of checks": lambda inspector, _: inspector.check_history(),
    "recoveries": lambda inspector, _: inspector.recoveries(),
    "a worker that left": lambda inspector, _: inspector.past_worker("w1"),
}
UNKNOWN = "tsk_01ARZ3NDEKTSV4RRFFQ69G5FAV"


def refusals(settings: Settings) -> Iterator[pytest.ExceptionInfo[StoresDiffer]]:
    """How each question is refused to an Inspector that was asked nothing before."""
    for ask in ASKED.values():
        with Inspector.open(settings) as inspector, pytest.raises(StoresDiffer) as refused:
            ask(inspector, UNKNOWN)
        yield refused


def test_what_needs_the_record_of_another_pair_is_refused(stage: Stage, other_record: Settings) -> None:
    assert len(list(refusals(other_record))) == len(ASKED)


def test_a_refusal_names_both_addresses_and_the_doctor(stage: Stage, other_record: Settings) -> None:
    refused = next(refusals(other_record))

    assert str(stage.settings.redis_url) in refused.value.message
    assert str(other_record.database_url).removeprefix("sqlite:///") in refused.value.message
    assert "redis://elsewhere:6379/0" in refused.value.message
    assert "tqctl doctor" in str(refused.value.hint)


def test_what_redis_alone_decides_is_still_done(stage: Stage, other_record: Settings) -> None:
    (task_id,) = stage.submit()

    with Inspector.open(other_record) as inspector:
        (change,) = inspector.cancel([task_id])

    assert change.done == "cancelled"


def test_a_redis_that_is_empty_or_away_is_none_of_another_pair(stage: Stage) -> None:
    (task_id,) = stage.submit()
    record(stage)
    lose_everything(stage)
    for settings in (stage.settings, replace(stage.settings, redis_url="redis://127.0.0.1:1/0")):
        with Inspector.open(settings) as inspector:
            assert inspector.task(task_id).state is State.QUEUED
            assert [task.id for task in inspector.tasks()] == [task_id]


def test_a_record_that_is_away_is_told_as_away(stage: Stage) -> None:
    away = replace(stage.settings, database_url="postgresql://nobody@127.0.0.1:1/none")

    with Inspector.open(away) as inspector, pytest.raises(RecordUnavailable):
        inspector.tasks()


def lead(stage: Stage) -> None:
    stage.elect("coo_lead")
    info = {"name": "lead", "host": "far", "pid": 1, "roles": {}, "record": record_place_of(stage.settings)}
    stage.wire.call(coordinator_beat(stage.keys, "coo_lead", info))


def test_a_machine_that_names_no_record_shows_live_tasks_beside_a_leader_elsewhere(
    stage: Stage, tmp_path: Path
) -> None:
    lead(stage)
    (task_id,) = stage.submit()

    with Inspector.open(replace(stage.settings, database_url=None, home=tmp_path / "none")) as inspector:
        assert inspector.task(task_id).state is State.QUEUED
        with pytest.raises(RecordUnavailable):
            inspector.tasks()


def test_a_record_without_a_schema_beside_a_leader_that_records_elsewhere_is_another_one(
    stage: Stage, empty_store_url: str
) -> None:
    lead(stage)
    empty = replace(stage.settings, database_url=empty_store_url)

    for refused in refusals(empty):
        assert record_place_of(stage.settings) in refused.value.message
        assert record_place_of(empty) in refused.value.message
        assert "db upgrade" not in str(refused.value.hint)


def test_status_tells_of_a_record_without_a_schema_beside_a_leader_that_records_elsewhere(
    stage: Stage, empty_store_url: str
) -> None:
    lead(stage)
    empty = replace(stage.settings, database_url=empty_store_url)

    found = stack.status(empty).trouble

    assert type(found) is StoresDiffer
    for address in (stage.settings, empty):
        assert record_place_of(address) in found.message


def test_status_is_ready_on_a_machine_that_names_no_record_beside_a_leader_elsewhere(
    stage: Stage, tmp_path: Path
) -> None:
    lead(stage)

    assert stack.status(replace(stage.settings, database_url=None, home=tmp_path / "none")).trouble is None
