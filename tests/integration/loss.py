"""Losing things on purpose: what a namespace or a record held at some moment, put back later."""

from __future__ import annotations

from typing import Any

from tests.integration.recorder_stage import Stage, drain
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.coordinator.opening import open_namespace
from tqctl_runtime.record.columns import TABLES

Copy = dict[bytes, tuple[bytes, int]]


def _names(stage: Stage) -> list[bytes]:
    return list(stage.redis.scan_iter(match=f"{stage.keys.prefix}*", count=1000))


def lose_everything(stage: Stage) -> None:
    """Redis forgets the whole namespace, as after FLUSHALL."""
    names = _names(stage)
    if names:
        stage.redis.delete(*names)


def copy_namespace(stage: Stage) -> Copy:
    """Every key of the namespace as it is now."""
    return {name: (stage.redis.dump(name), max(stage.redis.pttl(name), 0)) for name in _names(stage)}


def put_namespace_back(stage: Stage, copy: Copy) -> None:
    """Redis goes back to *copy*, as after the loss of its disk's last writes."""
    lose_everything(stage)
    for name, (value, left) in copy.items():
        stage.redis.restore(name, left, value)


def copy_record(stage: Stage) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of the record as it is now."""
    return {
        table: stage.store.database.rows(f"SELECT {', '.join(columns)} FROM {table}")
        for table, columns in TABLES.items()
    }


def put_record_back(stage: Stage, copy: dict[str, list[tuple[Any, ...]]]) -> None:
    """The record becomes an older copy of itself."""
    database = stage.store.database
    with database.transaction():
        for table, columns in TABLES.items():
            database.execute(f"DELETE FROM {table}")
            places = ", ".join("?" * len(columns))
            for row in copy[table]:
                database.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", row)


def record(stage: Stage, holder: str = "c") -> None:
    """Everything that the journal has is recorded."""
    drain(stage.recorder(stage.elect(holder)))


def reopen(stage: Stage) -> int:
    """Open the namespace as a coordinator does; the epoch."""
    return open_namespace(stage.store, stage.wire, stage.keys, holder="coo_test").epoch


def started(stage: Stage, held: list[worker_calls.Claimed]) -> None:
    """The worker tells that it started *held*."""
    stage.round(started=[worker_calls.started(one.id, one.token, 0) for one in held])
