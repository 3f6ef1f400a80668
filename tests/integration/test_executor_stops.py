"""Stopping attempts: every kind of handler that does not want to end does, and nobody else is harmed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.worker_rig import Rig, is_alive
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.states import Outcome
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.ends import HANDED_BACK, LOST

SYNC = ["spin", "backtrack", "stubborn", "long_c_call"]
ASYNC = ["async_spin", "async_swallow", "async_sleep", "async_thread_of_own"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as ready:
        yield ready


@pytest.mark.parametrize("handler", SYNC + ASYNC)
def test_a_handler_that_does_not_end_is_stopped_at_its_time_limit(rig: Rig, handler: str) -> None:
    ended, detail = rig.run(handler, timeout_s=0.3)
    assert ended.outcome is Outcome.TIMED_OUT
    assert ended.reason == "time limit"
    assert detail.error is not None
    assert detail.error.type == "TimeLimitReached"
    assert rig.run("noop")[0].outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("handler", SYNC + ASYNC)
def test_a_handler_that_does_not_end_is_stopped_by_a_cancel_request(rig: Rig, handler: str) -> None:
    held = rig.add(handler)
    rig.until(lambda: held.started_at, "its start")
    rig.doom(held, frames.CANCELLED)
    (ended,) = rig.wait(held)
    assert ended.outcome is Outcome.CANCELLED


def test_a_cancel_that_had_to_be_carried_out_by_killing_says_so(rig: Rig, tmp_path: Path) -> None:
    held = rig.add("deaf_to_stops", {"inside": str(tmp_path / "inside")})
    rig.until((tmp_path / "inside").exists, "a handler that hears no stop any more")
    rig.doom(held, frames.CANCELLED)
    (ended,) = rig.wait(held)
    error = Detail.from_bytes(ended.detail).error
    assert (ended.outcome, ended.reason) == (Outcome.CANCELLED, "killed after the grace")
    assert error is not None
    assert (error.type, "killed after the grace" in error.message) == ("CancelRequested", True)


@pytest.mark.parametrize("handler", ["async_spin", "async_thread_of_own"])
def test_a_soft_stop_keeps_the_async_executor(rig: Rig, handler: str) -> None:
    rig.run(handler, timeout_s=0.2)
    before = list(rig.pool.executors.values())
    rig.run(handler, timeout_s=0.2)
    assert list(rig.pool.executors.values()) == before


@pytest.mark.parametrize("handler", SYNC)
def test_tasks_of_other_executors_go_on_while_one_is_killed(rig: Rig, tmp_path: Path, handler: str) -> None:
    until = tmp_path / "until"
    neighbour = rig.add("hold", {"started": str(tmp_path / "started"), "until": str(until)})
    rig.run(handler, timeout_s=0.2)
    assert rig.find(neighbour) is None
    until.touch()
    assert rig.wait(neighbour)[0].outcome is Outcome.SUCCEEDED


def test_neighbours_in_an_async_executor_that_had_to_be_killed_are_interrupted_without_suspicion(
    rig: Rig, tmp_path: Path
) -> None:
    neighbours = [
        rig.add("async_hold", {"started": str(tmp_path / f"started{n}"), "until": str(tmp_path / "until")})
        for n in range(2)
    ]
    rig.until(lambda: all(held.started_at for held in neighbours), "the neighbours")
    guilty = rig.add("async_swallow", timeout_s=0.2)
    ended = rig.wait(guilty, *neighbours)
    assert [item.outcome for item in ended] == [Outcome.TIMED_OUT, Outcome.INTERRUPTED, Outcome.INTERRUPTED]
    assert not any(item.is_suspect for item in ended)


def test_a_stuck_loop_is_freed_without_harm_to_its_neighbours(rig: Rig, tmp_path: Path) -> None:
    until = tmp_path / "until"
    neighbour = rig.add("async_hold", {"started": str(tmp_path / "started"), "until": str(until)})
    rig.until(lambda: neighbour.started_at, "the neighbour")
    guilty = rig.add("async_spin", timeout_s=0.2)
    assert rig.wait(guilty)[0].outcome is Outcome.TIMED_OUT
    until.touch()
    assert rig.wait(neighbour)[0].outcome is Outcome.SUCCEEDED


def test_clean_up_code_runs_before_the_end(rig: Rig, tmp_path: Path) -> None:
    ended, detail = rig.run("clean_up", {"path": str(tmp_path / "cleaned")}, timeout_s=0.2)
    assert ended.outcome is Outcome.TIMED_OUT
    assert (tmp_path / "cleaned").read_text() == "cleaned"
    assert detail.error is not None
    assert detail.error.traceback is not None
    assert "clean_up" in detail.error.traceback
    assert "tqctl_runtime/worker" not in detail.error.traceback


def test_a_cancel_before_the_start_releases_the_task(rig: Rig, tmp_path: Path) -> None:
    busy = [rig.add("hold", {"started": str(tmp_path / f"s{n}"), "until": str(tmp_path / "until")}) for n in range(4)]
    rig.until(lambda: all(held.started_at for held in busy), "all places taken")
    waiting = rig.add("noop")
    rig.doom(waiting, frames.CANCELLED)
    assert rig.wait(waiting)[0].outcome is Outcome.RELEASED
    assert not waiting.started_at


def test_grandchildren_die_with_a_killed_executor(rig: Rig, tmp_path: Path) -> None:
    file = tmp_path / "pid"
    held = rig.add("grandchild", {"pid_file": str(file)})
    pid = rig.until(lambda: file.exists() and file.read_text(), "the grandchild")
    assert is_alive(int(pid))
    rig.doom(held, LOST)
    rig.wait(held)
    rig.until(lambda: not is_alive(int(pid)), "the end of the grandchild")


@pytest.mark.parametrize("reason", [frames.TIME_LIMIT, frames.CANCELLED])
def test_what_a_softly_stopped_handler_started_ends_with_its_executor(rig: Rig, tmp_path: Path, reason: int) -> None:
    file = tmp_path / "pid"
    held = rig.add("grandchild", {"pid_file": str(file)})
    pid = rig.until(lambda: file.exists() and file.read_text(), "the grandchild")
    assert is_alive(int(pid))
    executor = held.executor
    rig.doom(held, reason)
    (ended,) = rig.wait(held)
    assert ended.outcome is (Outcome.TIMED_OUT if reason == frames.TIME_LIMIT else Outcome.CANCELLED)
    assert executor is not None
    assert executor.guilty is None  # it was asked, not killed
    rig.until(lambda: not is_alive(int(pid)), "the end of the grandchild")
    rig.until(lambda: executor not in rig.pool.executors.values(), "the end of its executor")
    assert rig.run("noop")[0].outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("places", [1, 2])
def test_tasks_in_the_frame_behind_a_stopped_one_run_elsewhere_uncounted(tmp_path: Path, places: int) -> None:
    until = tmp_path / "until"
    with Rig(tmp_path, concurrency=places, processes=places) as rig:
        rig.run("hold_if")
        stopped = rig.held("hold_if", {"until": str(until)})
        behind = [rig.held("hold_if") for _ in range(40)]
        rig.add_many([stopped, *behind])
        rig.until(lambda: stopped.started_at, "its start")
        executor = stopped.executor
        rig.doom(stopped, frames.CANCELLED)
        first, *rest = rig.wait(stopped, *behind)
        assert first.outcome is Outcome.CANCELLED
        assert {ended.outcome for ended in rest} == {Outcome.SUCCEEDED}
        assert len(rig.ended) == 42
        assert all(held.executor is not executor for held in behind)


def test_what_is_handed_back_counts_nothing(rig: Rig) -> None:
    tasks = [rig.add("spin"), rig.add("async_sleep")]
    rig.until(lambda: all(held.started_at for held in tasks), "both starts")
    rig.pool.stop("the worker stops")
    assert rig.pool.hand_back_all()
    for ended in rig.wait(*tasks):
        assert ended.outcome is Outcome.RELEASED
        assert ended.held.doom == HANDED_BACK


def test_the_log_of_a_killed_attempt_is_kept(rig: Rig) -> None:
    _, detail = rig.run("fail", {"mode": "stubborn"}, timeout_s=0.2)
    assert b"caught TimeLimitReached, going on" in detail.log


def test_a_killed_nursery_interrupts_what_ran_and_blames_nobody(rig: Rig) -> None:
    held = rig.add("spin")
    rig.until(lambda: held.started_at, "its start")
    os.kill(rig.nursery.pid, signal.SIGKILL)
    (ended,) = rig.wait(held)
    assert ended.outcome is Outcome.INTERRUPTED
    assert not ended.is_suspect
    assert Detail.from_bytes(ended.detail).error is None
    rig.reload()
    assert rig.run("noop")[0].outcome is Outcome.SUCCEEDED


def test_a_lost_async_task_is_stopped_and_its_neighbour_goes_on(rig: Rig, tmp_path: Path) -> None:
    until = tmp_path / "until"
    lost, kept = [rig.add("async_hold", {"started": str(tmp_path / f"s{n}"), "until": str(until)}) for n in range(2)]
    rig.until(lambda: lost.started_at and kept.started_at, "both starts")
    rig.doom(lost, LOST)
    rig.wait(lost)
    assert rig.find(kept) is None
    until.touch()
    assert rig.wait(kept)[0].outcome is Outcome.SUCCEEDED


def test_a_lane_that_is_never_idle_is_replaced_all_the_same(tmp_path: Path) -> None:
    with Rig(tmp_path, concurrency=1, processes=2, max_tasks=100) as rig:
        rig.run("hold_if")
        tasks = [rig.held("hold_if") for _ in range(1_000)]
        rig.add_many(tasks)
        pids = [json.loads(Detail.from_bytes(ended.detail).result or b"") for ended in rig.wait(*tasks)]
    assert max(pids.count(pid) for pid in set(pids)) <= 100
