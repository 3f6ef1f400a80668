"""Stores that lose what they had: emptied, cut off, behind, restored, exchanged (scenarios 9, 10, 11)."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage, pass_time
from tests.support.cluster import Cluster
from tests.support.durable import DurableRedis
from tests.support.proxy import Proxy
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.core.states import State

Scale = Callable[[int, int], int]
Measured = Callable[..., None]
WORKERS = 3


def epoch_of(stage: Stage) -> int:
    """The epoch of the open namespace; 0 while it is closed."""
    return int(stage.wire.command("HGET", stage.keys.meta, "epoch") or 0)


def in_flight(stage: Stage) -> int:
    """How many effects may come twice when the broker loses everything now: handed out, or ended and not recorded."""
    seen = stage.overview()
    return sum(worker.held for worker in seen.workers) + seen.lag_rows + 2 * WORKERS * stage.concurrency


def test_a_broker_that_is_emptied_again_and_again_loses_no_recorded_task_and_stays_paused(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 10: FLUSHALL under recorded submits; the record puts back tasks and settings by itself."""
    assert stage.server is not None
    losses, tasks = 3, scale(900, 6_000)
    stage.tap.last(1)
    stage.coordinator()
    for _ in range(WORKERS):
        stage.worker()
    stage.pause("parked")
    parked = stage.submit("work", 20, queue="parked")
    unique: dict[str, Any] = {"queue": "parked", "unique_for": 3_600}
    parked += stage.submit("work", 1, {"ms": 1}, **unique)
    wanted: list[Wanted] = [("work", {"ms": 5}, {})] * tasks
    allowed = 0
    client = stage.new_client()
    with Feeder(client, wanted, durability="recorded") as feeder:
        stage.wait_level()
        for number in range(losses):
            feeder.allow((number + 1) * tasks // losses)
            share = tasks // losses
            stage.wait_effects(number * share + stage.rng.randrange(share // 8, share // 3))
            allowed += in_flight(stage)
            stage.server.command("FLUSHALL")
            stage.tell("FLUSHALL")
            stage.until(lambda number=number: epoch_of(stage) >= number + 2, "it is repaired")
        ids = [*feeder.finish(), *parked]
    paused = {queue.name: queue.ready for queue in stage.overview().queues if queue.pause is not None}
    assert paused == {"parked": len(parked)}, "the pause survived"
    assert stage.submit("work", 1, {"ms": 1}, **unique) == parked[-1:], "the unique window survived"
    stage.resume("parked")
    stage.worker("--queues", "parked")
    stage.drain(ids)

    figures = assert_world(stage, ids, has_whole_journal=False, open_across_repair=allowed, healthy_deaths=True)

    assert stage.sql("SELECT count(*) FROM tasks") == [(tasks + len(parked),)]
    measured(figures, flushes=losses, repeats_allowed=allowed, doubtful_submits=feeder.doubtful)


def test_a_hundred_thousand_open_tasks_come_back(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 10: how long the rebuilding takes."""
    assert stage.server is not None
    tasks = scale(5_000, 100_000)
    stage.tap.last(1)
    stage.coordinator()
    ids = stage.submit("echo", tasks, {"message": "x"})
    stage.wait_level()
    stage.server.command("FLUSHALL")
    began = time.monotonic()
    stage.until(lambda: epoch_of(stage) >= 2, "it is repaired")
    repaired = time.monotonic() - began
    assert stage.server_count("HLEN", "st") == tasks
    assert {row[0] for row in stage.sql("SELECT state FROM tasks")} == {State.QUEUED}
    stage.environment.run("queue", "purge", "default", "--yes", env=stage.values)
    stage.drain(ids)

    figures = assert_world(stage, ids, ends=dict.fromkeys(ids, State.CANCELLED), has_whole_journal=False)

    measured(figures, open_again_after=f"{repaired:.1f} s")


def test_a_broker_that_lost_the_end_of_its_file_is_repaired_though_its_workers_were_back_first(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 9: power fails while the recorder lags; a tenth of the append-only file is gone."""
    server = stage.server
    assert server is not None
    tasks = scale(600, 6_000)
    stage.tap.last(1)
    coordinator = stage.coordinator()
    for _ in range(WORKERS):
        stage.worker()
    wanted: list[Wanted] = [("work", {"ms": 5}, {})] * tasks
    with Feeder(stage.new_client(), wanted, durability="recorded") as feeder:
        feeder.allow(tasks * 2 // 3)
        stage.wait_effects(tasks * 2 // 3)
        # The recorder lags: what comes now is accepted at most.
        os.kill(coordinator.pid, signal.SIGSTOP)
        before = len(stage.effects())
        lost_candidates = stage.submit("work", 5)
        stage.wait_effects(before + 2)
        allowed = in_flight(stage)
        stage.kill(coordinator)
        server.kill()
        file = server.append_file()
        size = file.stat().st_size
        os.truncate(file, size - size // 10)
        stage.tell(f"{size // 10} of {size} bytes of the append-only file are gone")
        server.start()
        alive = len(stage.effects())
        stage.until(lambda: len(stage.effects()) > alive or epoch_of(stage), "workers are back")
        stage.submit("work", 5)
        stage.coordinator()
        stage.until(lambda: epoch_of(stage) >= 2, "it is repaired")
        ids = feeder.finish()
    stage.drain(ids)

    known = {row[0] for row in stage.sql("SELECT id FROM tasks")}
    figures = assert_world(
        stage, ids, has_whole_journal=False, open_across_repair=allowed + size // 10 // 100, healthy_deaths=True
    )

    measured(figures, bytes_cut=size // 10, accepted_only_and_lost=len(set(lost_candidates) - known))


def test_a_replica_that_was_behind_is_repaired_after_it_took_over(
    stage: Stage, tmp_path: Path, scale: Scale, measured: Measured
) -> None:
    """Scenario 11: the primary dies, the replica that takes its address lacks the last entries."""
    first = stage.server
    assert first is not None
    tasks = scale(600, 6_000)
    second = DurableRedis(first.binary, tmp_path / "replica")
    with Proxy(first.url) as clients, Proxy(first.url) as replication:
        stage.environment = dataclasses.replace(stage.environment, redis_url=clients.url)
        host, _, port = replication.url.removeprefix("redis://").removesuffix("/0").partition(":")
        second.command("REPLICAOF", host, port)
        stage.until(lambda: second.role() == "replica in sync", "the replica is in sync")
        stage.tap.last(1)
        stage.coordinator()
        for _ in range(WORKERS):
            stage.worker()
        wanted: list[Wanted] = [("work", {"ms": 5}, {})] * tasks
        with Feeder(stage.new_client(), wanted, durability="recorded") as feeder:
            feeder.allow(tasks // 2)
            stage.wait_effects(tasks // 4)
            replication.pause()
            behind = len(feeder.acknowledged)
            feeder.allow(behind + tasks // 3)
            stage.until(lambda: len(feeder.acknowledged) > behind + tasks // 10, "the replica lags")
            allowed = in_flight(stage) + 3 * (len(feeder.acknowledged) - behind) + 100
            first.kill()
            replication.refuse()
            second.command("REPLICAOF", "NO", "ONE")
            clients.retarget(second.url)
            stage.tell("the replica took over")
            stage.until(lambda: epoch_of(stage) >= 2, "it is repaired")
            ids = feeder.finish()
        stage.drain(ids)

        figures = assert_world(stage, ids, has_whole_journal=False, open_across_repair=allowed, healthy_deaths=True)
        stage.environment.kill_all()
    second.stop()
    measured(figures, doubtful_submits=feeder.doubtful)


def test_a_postgresql_that_is_restored_to_an_older_copy_is_brought_up_to_date(
    cluster_stage: Stage, cluster: Cluster, scale: Scale, measured: Measured
) -> None:
    """The record goes back by seconds under a running coordinator: the journal still has them."""
    stage, seconds = cluster_stage, scale(5, 30)
    stage.tap.last(1)
    stage.coordinator()
    for _ in range(2):
        stage.worker()
    copy = cluster.folder / "copy"
    wanted: list[Wanted] = [("work", {"ms": 5}, {})] * (seconds * 100 + 400)
    with Feeder(stage.new_client(), wanted, at_once=10) as feeder:
        feeder.allow(200)
        stage.wait_effects(150)
        cluster.stop()
        cluster.copy_to(copy)
        cluster.start()
        for step in range(seconds):
            feeder.allow(200 + step * 100)
            pass_time(1.0)
        stage.wait_level()
        before = stage.recorded_final()
        cluster.stop(signal.SIGQUIT)
        cluster.restore_from(copy)
        cluster.start()
        after = stage.recorded_final()
        stage.tell("PostgreSQL is a copy of before")
        assert after < before
        ids = feeder.finish()
        stage.drain(ids)

    figures = assert_world(stage, ids, has_whole_journal=False)

    assert (feeder.busy, feeder.failed, feeder.doubtful) == (0, 0, 0)
    assert figures.repeated == 0
    measured(figures, copy_age=f"{seconds} s", ends_replayed=before - after)


def test_a_sqlite_that_is_restored_to_an_older_copy_is_brought_up_to_date(
    valkey_stage: Stage, scale: Scale, measured: Measured
) -> None:
    """The same where the record is a file: it is exchanged while no coordinator runs."""
    stage, tasks = valkey_stage, scale(400, 4_000)
    stage.tap.last(1)
    coordinator = stage.coordinator()
    stage.worker()
    path = Path((stage.environment.database_url or "").removeprefix("sqlite:///"))
    copy = path.with_name("older.db")
    ids = stage.submit("work", tasks // 4)
    stage.wait_effects(tasks // 8)
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    ids += stage.submit("work", tasks // 2)
    stage.drain(ids)
    stage.kill(coordinator)
    for name in path.parent.glob(f"{path.name}*"):
        name.unlink()
    shutil.move(copy, path)
    ids += stage.submit("work", tasks // 4)
    stage.coordinator()
    stage.drain(ids)

    figures = assert_world(stage, ids, has_whole_journal=False)

    assert figures.repeated == 0
    measured(figures)


def test_an_empty_broker_at_another_address_is_left_alone(stage: Stage, tmp_path: Path, measured: Measured) -> None:
    """Somebody changes TQCTL_REDIS_URL: nothing is rebuilt there, and the message names both places and the command."""
    assert stage.server is not None
    stage.tap.last(1)
    coordinator = stage.coordinator()
    stage.worker()
    ids = stage.submit("work", 20)
    stage.drain(ids)
    assert stage.kill(coordinator, signal.SIGTERM) == 0
    other = DurableRedis(stage.server.binary, tmp_path / "other")
    try:
        refused = stage.environment.run("coordinator", "start", env={**stage.values, "TQCTL_REDIS_URL": other.url})
        left = other.command("KEYS", f"{Keys(stage.environment.namespace).prefix}*")
    finally:
        other.stop()
    assert refused.returncode == 78, refused.stderr
    assert other.url in refused.stderr
    assert stage.server.url in refused.stderr
    assert "tqctl doctor --repair" in refused.stderr
    assert left == []
    stage.coordinator()
    stage.drain(ids)

    measured(assert_world(stage, ids))


@pytest.mark.parametrize("moment", [0, 1, 2])
def test_a_coordinator_killed_while_it_repairs_is_followed_by_one_that_ends_the_repair(
    stage: Stage, moment: int, scale: Scale, measured: Measured
) -> None:
    """The repair itself is killed, earlier or later; the namespace opens once, whole."""
    assert stage.server is not None
    tasks = scale(3_000, 30_000)
    stage.tap.last(1)
    coordinator = stage.coordinator()
    ids = stage.submit("echo", tasks, {"message": "x"})
    stage.wait_level()
    stage.server.command("FLUSHALL")
    wanted = (1, tasks // 3, tasks * 2 // 3)[moment]
    stage.until(lambda: stage.server_count("HLEN", "st") >= wanted, "the repair is under way")
    stage.kill(coordinator)
    stage.tell(f"the repairing coordinator is killed after {wanted} tasks")
    stage.coordinator()
    stage.until(lambda: epoch_of(stage) >= 2, "it is repaired")
    assert stage.server_count("HLEN", "st") == tasks
    stage.environment.run("queue", "purge", "default", "--yes", env=stage.values)
    stage.drain(ids)

    measured(assert_world(stage, ids, ends=dict.fromkeys(ids, State.CANCELLED), has_whole_journal=False))
