"""The record is away, slow, killed in the middle or written by two (scenarios 14 to 17, 33, 34)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.chaos.conftest import PAIRS, make_stage
from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import Figures, assert_world
from tests.chaos.stage import Stage, pass_time
from tests.support.cluster import Cluster
from tests.support.disk import fill
from tqctl_runtime.record import open_store

Scale = Callable[[int, int], int]
Measured = Callable[..., None]


def test_work_goes_on_while_postgresql_is_down_and_the_record_catches_up(
    cluster_stage: Stage, cluster: Cluster, scale: Scale, measured: Measured
) -> None:
    """Scenario 14: stopped at once (immediate) under load."""
    stage, seconds = cluster_stage, scale(5, 60)
    stage.tap.last(1)
    stage.coordinator()
    for _ in range(2):
        stage.worker()
    wanted: list[Wanted] = [("work", {"ms": 10}, {})] * (seconds * 150)
    with Feeder(stage.new_client(), wanted, at_once=15) as feeder:
        feeder.allow(100)
        stage.wait_effects(50)
        cluster.stop(signal.SIGQUIT)
        stage.tell("PostgreSQL is down")
        for step in range(seconds):
            feeder.allow(100 + step * 140)
            pass_time(1.0)
        stage.wait_effects(100 + seconds * 100)
        behind = stage.overview()
        cluster.start()
        back = time.monotonic()
        stage.wait_level()
        caught_up = time.monotonic() - back
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert (feeder.busy, feeder.failed, feeder.doubtful) == (0, 0, 0), "no submit failed"
    assert behind.lag_rows > seconds * 100
    assert figures.repeated == 0
    size = (int(behind.meta["bytes"]) - behind.watermark.bytes) // max(behind.lag_rows, 1)
    measured(
        figures,
        outage=f"{seconds} s",
        rows_behind=behind.lag_rows,
        bytes_a_row=size,
        level_again_after=f"{caught_up:.1f} s",
    )


@contextlib.contextmanager
def sql_away(stage: Stage) -> Iterator[None]:
    """Nobody can write the record: SQLite's write lock is held, PostgreSQL's tables are locked."""
    path = (stage.environment.database_url or "").removeprefix("sqlite:///")
    if path.startswith("/"):
        with contextlib.closing(sqlite3.connect(path, timeout=60, isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield
            connection.execute("ROLLBACK")
        return
    with open_store(stage.settings) as store, store.database.transaction():
        store.database.execute("LOCK TABLE checkpoint IN ACCESS EXCLUSIVE MODE")
        yield


def test_claims_stop_at_the_second_mark_and_nothing_is_lost(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 15: the record is locked until submits are refused, then until claims stop; then it is there again."""
    busy, stop = scale(400, 4_000), scale(600, 6_000)
    stage.tap.last(1)
    stage.values |= {"TQCTL_BUSY_ROWS": str(busy), "TQCTL_STOP_ROWS": str(stop)}
    stage.coordinator()
    stage.worker()
    wanted: list[Wanted] = [("work", {}, {})] * (stop * 2)
    stage.until(lambda: int(stage.overview().meta.get("stop_rows", 0)) == stop, "the marks stand")
    with Feeder(stage.new_client(), wanted, at_once=50) as feeder:
        # More than the first mark at once, before a worker may take any: each is two rows in the end.
        stage.pause("default")
        with sql_away(stage):
            stage.tell("SQL is away")
            feeder.allow(len(wanted))
            stage.until(lambda: feeder.busy, "a submit is refused")
            stage.resume("default")
            stage.until(lambda: is_stopped(stage), "claims have stopped")
            done = len(stage.effects())
            pass_time(2.0)
            assert len(stage.effects()) == done, "nothing is claimed beyond the second mark"
            left = sum(queue.ready for queue in stage.overview().queues)
            assert left > 0
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert figures.repeated == 0
    measured(figures, busy_mark=busy, stop_mark=stop, submits_refused=feeder.busy, waiting_at_the_stop=left)


def is_stopped(stage: Stage) -> bool:
    """Whether tasks stand in line that no idle worker takes."""
    seen = stage.overview()
    return (
        seen.lag_rows >= int(seen.meta["stop_rows"])
        and any(queue.ready for queue in seen.queues)
        and not any(worker.held for worker in seen.workers)
    )


def is_inside(stage: Stage) -> bool:
    """Whether a transaction of somebody is open on the record now."""
    path = (stage.environment.database_url or "").removeprefix("sqlite:///")
    if path.startswith("/"):
        with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                return "locked" in str(error)
            connection.execute("ROLLBACK")
            return False
    open_ones = stage.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND xact_start IS NOT NULL AND backend_type = 'client backend' AND backend_xid IS NOT NULL"
    )
    return bool(open_ones[0][0])


@pytest.mark.parametrize("place", ["inside", "outside"])
def test_a_stopped_leader_is_followed_in_time_and_writes_nothing_once_it_wakes(
    stage: Stage, place: str, scale: Scale, measured: Measured
) -> None:
    """Scenarios 17 and 22: SIGSTOP inside and outside of its SQL transaction, for longer than its term."""
    tasks = scale(2_000, 20_000)
    stage.tap.last(1)
    both = {process.pid: process for process in (stage.coordinator(), stage.coordinator())}
    stage.worker()
    wanted: list[Wanted] = [("work", {}, {})] * (tasks * 100)
    with Feeder(stage.new_client(), wanted, at_once=100) as feeder:
        feeder.allow(200)
        stage.wait_effects(100)
        old = stage.wait_leader()
        term = stage.overview().leaders["coordinator"].term
        if place == "outside":
            stage.drain(feeder.acknowledged[:100])
            stop_at(stage, old, is_wanted=lambda: not is_inside(stage))
        else:
            stop_at(stage, old, is_wanted=lambda: is_busy(stage, feeder))
        stage.tell(f"the leader is stopped {place} of its transaction")
        stopped = time.monotonic()
        feeder.allow(len(feeder.acknowledged) + tasks // 2)
        stage.wait_leader(other_than=old)
        followed = time.monotonic() - stopped
        written = stage.sql("SELECT term FROM checkpoint")[0][0]
        if both[old].poll() is None:
            os.kill(old, signal.SIGCONT)
        ids = feeder.finish(only_allowed=True)
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert stage.sql("SELECT term FROM checkpoint")[0][0] > term
    assert written in (term, term + 1)
    assert figures.repeated == 0
    measured(figures, followed_after=f"{followed:.1f} s", old_leader="killed" if both[old].poll() else "woken")


def is_busy(stage: Stage, feeder: Feeder) -> bool:
    """Whether a transaction is open; submits a little more, so that there will be one."""
    feeder.allow(len(feeder.acknowledged) + 20)
    return is_inside(stage)


def is_started(stage: Stage, task_id: str) -> bool:
    """Whether the broker was told that an attempt of *task_id* runs."""
    return any(row[2] == task_id for row in stage.tap.rows("R"))


def stop_at(stage: Stage, pid: int, *, is_wanted: Callable[[], bool]) -> None:
    """Stop process *pid* at a moment that is wanted: stop it, look, and let it go on otherwise."""

    def stop() -> bool:
        for _ in range(20):
            os.kill(pid, signal.SIGSTOP)
            if is_wanted():
                return True
            os.kill(pid, signal.SIGCONT)
        return False

    stage.until(stop, "the process stands where it should")


def test_a_leader_killed_again_and_again_leaves_no_row_twice_and_none_out(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 16: what it had committed and not told is found by its successor, wherever it was."""
    kills, tasks = scale(1, 6), scale(600, 6_000)
    stage.tap.last(1)
    coordinators = {process.pid: process for process in (stage.coordinator(), stage.coordinator())}
    stage.worker()
    wanted: list[Wanted] = [("work", {}, {})] * (tasks * 100)
    with Feeder(stage.new_client(), wanted, at_once=100) as feeder:
        for _ in range(kills):
            victim: subprocess.Popen[str] = stage.until(
                lambda: coordinators.get(stage.leader_pid()), "a living coordinator leads"
            )
            feeder.allow(len(feeder.acknowledged) + tasks // kills)
            stage.wait_effects(len(stage.effects()) + stage.rng.randrange(1, tasks // kills // 4))
            stop_at(stage, victim.pid, is_wanted=lambda: is_busy(stage, feeder))
            stage.tell(f"kill -9 of the leader {victim.pid} inside its transaction")
            stage.kill(coordinators.pop(victim.pid))
            new = stage.start("coordinator", "start")
            coordinators[new.pid] = new
        ids = feeder.finish(only_allowed=True)
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert stage.sql("SELECT count(*) FROM attempts") == [(len(ids),)]
    assert figures.repeated == 0
    measured(figures, kills=kills)


def test_two_coordinators_that_take_turns_count_each_death_once(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 34: each killed worker ran one task; leaders change while its lease runs out."""
    kills = scale(2, 8)
    stage.tap.last(1)
    coordinators = {process.pid: process for process in (stage.coordinator(), stage.coordinator())}
    until = stage.environment.home / "until"
    ids: list[str] = []
    for _ in range(kills):
        worker = stage.worker("--concurrency", "1")
        ids += stage.submit("hold", 1, {"until": str(until)})
        stage.wait_effects(len(ids))
        stage.until(partial(is_started, stage, ids[-1]), "its start is told")
        stage.kill(worker)
        stage.tell("a worker with one task is killed, the leader hands over")
        leader = stage.wait_leader()
        stage.kill(coordinators.pop(leader), signal.SIGTERM)
        new = stage.coordinator()
        coordinators[new.pid] = new
        stage.until(lambda: stage.server_count("ZCARD", "leases") == 0, "the dead worker is reaped")
        until.touch()
        stage.worker(TQCTL_LEASE="30s")
        stage.drain(ids)
        until.unlink()
        for held in stage.overview().workers:
            os.kill(held.info["pid"], signal.SIGTERM)
        stage.until(lambda: not stage.overview().workers, "the second worker leaves")
    # That it left is recorded, too.
    stage.drain(ids)

    figures = assert_world(stage, ids, healthy_deaths=True)

    assert figures.deaths == kills
    measured(figures, kills=kills)


def test_an_entry_that_nobody_understands_goes_into_quarantine_and_the_rest_goes_on(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 33."""
    rounds = scale(3, 30)
    stage.tap.last(1)
    stage.coordinator()
    stage.worker()
    ids: list[str] = []
    for number in range(rounds):
        ids += stage.submit("work", 20)
        stage.wire.command("XADD", stage.keys.build("journal"), "*", "odd", stage.rng.randbytes(20 + number))
    stage.drain(ids)

    figures = assert_world(stage, ids, quarantined=rounds)

    assert stage.tap.foreign == rounds
    measured(figures, corrupt_entries=rounds)


def outlive_full_disk(
    stage: Stage,
    disk: Path,
    tasks: int,
    *,
    worsen: Callable[[], None] = lambda: None,
    mend: Callable[[], None] = lambda: None,
) -> tuple[Figures, int]:
    """Tasks run while the record's *disk* is full; the figures of the judge, and how many rows the record was behind.

    *worsen* is called on the full disk, *mend* once there is room again.
    """
    stage.tap.last(1)
    stage.coordinator()
    stage.worker()
    wanted: list[Wanted] = [("work", {"ms": 2}, {})] * tasks
    with Feeder(stage.new_client(), wanted) as feeder:
        feeder.allow(tasks // 10)
        stage.wait_effects(tasks // 20)
        filler = fill(disk)
        stage.tell("the record's disk is full")
        worsen()
        ids = feeder.finish()
        stage.wait_effects(tasks)
        behind = stage.overview().lag_rows
        filler.unlink()
        mend()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert (feeder.busy, feeder.failed, feeder.doubtful, figures.repeated) == (0, 0, 0, 0)
    assert behind > tasks
    return figures, behind


@pytest.mark.root
def test_a_record_whose_disk_is_full_is_waited_for(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    seed: int,
    small_disk: Path,
    migrated_sqlite: Path,
    scale: Scale,
    measured: Measured,
) -> None:
    """Scenario 15: SQLite cannot grow; tasks run on, the journal waits, and the record catches up by itself."""
    path = small_disk / "record.db"
    shutil.copyfile(migrated_sqlite, path)
    with make_stage(request, tmp_path, PAIRS[0], seed, database_url=f"sqlite:///{path}") as stage:
        figures, behind = outlive_full_disk(stage, small_disk, scale(600, 6_000))
    measured(figures, rows_behind=behind)


@pytest.mark.root
def test_a_postgresql_whose_disk_is_full_is_waited_for(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    seed: int,
    small_cluster: Cluster,
    scale: Scale,
    measured: Measured,
) -> None:
    """Scenario 15: its tables cannot grow; it refuses to write, and goes on by itself once there is room."""
    disk = small_cluster.data.parent
    with make_stage(request, tmp_path, PAIRS[1], seed, database_url=small_cluster.url) as stage:
        figures, behind = outlive_full_disk(stage, disk, scale(600, 6_000))
    assert small_cluster.is_running
    measured(figures, rows_behind=behind)


@pytest.mark.root
def test_a_postgresql_that_a_full_disk_ends_is_waited_for(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    seed: int,
    small_cluster: Cluster,
    scale: Scale,
    measured: Measured,
) -> None:
    """Scenario 15: its own log cannot grow, which no PostgreSQL survives; somebody makes room and starts it."""

    def use_up_the_log() -> None:
        with contextlib.suppress(psycopg.Error), psycopg.connect(small_cluster.url, autocommit=True) as connection:
            while True:
                connection.execute("SELECT pg_logical_emit_message(false, 'x', repeat('x', 200000))")
        stage.until(lambda: not small_cluster.is_running, "it ended")
        stage.tell("PostgreSQL ended")

    disk = small_cluster.data.parent
    with make_stage(request, tmp_path, PAIRS[1], seed, database_url=small_cluster.url) as stage:
        figures, behind = outlive_full_disk(
            stage, disk, scale(600, 6_000), worsen=use_up_the_log, mend=small_cluster.start
        )
    measured(figures, rows_behind=behind)
