"""The death of an executor: who is charged, who is under suspicion, who just runs again."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.worker_rig import Rig
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.states import Outcome
from tqctl_runtime.worker import frames


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as ready:
        yield ready


@pytest.mark.parametrize(
    ("handler", "how"),
    [("leave", "exited with code 3"), ("crash", "was killed by signal 11 (SIGSEGV)"), ("system_exit", "")],
)
def test_a_task_that_ends_its_executor_alone_has_died(rig: Rig, handler: str, how: str) -> None:
    ended, detail = rig.run(handler)
    if not how:  # only an exception to Python
        assert ended.outcome is Outcome.FAILED
        return
    assert ended.outcome is Outcome.DIED
    assert ended.reason == how
    assert detail.error is not None
    assert detail.error.message == f"the executor process {how}"


def test_the_last_words_of_a_dead_executor_are_kept(rig: Rig) -> None:
    assert rig.run("leave")[1].log == b"last words\n"


def test_tasks_that_had_not_started_run_elsewhere_uncounted(tmp_path: Path) -> None:
    marker = str(tmp_path / "marker")
    with Rig(tmp_path, concurrency=1) as rig:
        Path(marker).touch()
        rig.run("leave_once", {"marker": marker})
        Path(marker).unlink()
        guilty = rig.held("leave_once", {"marker": marker})
        behind = [rig.held("leave_once", {"marker": marker}) for _ in range(40)]
        rig.add_many([guilty, *behind])
        ends = rig.wait(guilty, *behind)
    assert ends[0].outcome is Outcome.DIED
    assert {ended.outcome for ended in ends[1:]} == {Outcome.SUCCEEDED}


def test_several_started_tasks_of_a_dead_executor_are_under_suspicion_and_not_charged(rig: Rig, tmp_path: Path) -> None:
    when = tmp_path / "when"
    guilty = rig.add("async_leave", {"when": str(when)})
    others = [
        rig.add("async_hold", {"started": str(tmp_path / f"s{n}"), "until": str(tmp_path / "u")}) for n in range(2)
    ]
    rig.until(lambda: all(held.started_at for held in (guilty, *others)), "three starts")
    when.touch()
    for ended in rig.wait(guilty, *others):
        assert ended.outcome is Outcome.INTERRUPTED
        assert ended.is_suspect
        assert ended.reason == "exited with code 4"


def test_an_async_task_alone_in_its_executor_is_charged(rig: Rig, tmp_path: Path) -> None:
    when = tmp_path / "when"
    when.touch()
    assert rig.run("async_leave", {"when": str(when)})[0].outcome is Outcome.DIED


def test_a_suspect_runs_alone_and_its_executor_ends_with_it(rig: Rig, tmp_path: Path) -> None:
    until = tmp_path / "until"
    neighbour = rig.add("async_hold", {"started": str(tmp_path / "s0"), "until": str(until)})
    rig.until(lambda: neighbour.started_at, "the neighbour")
    suspect = rig.held("async_leave", {"when": str(until)}, is_suspect=True)
    rig.add_alone(suspect)
    rig.until(lambda: suspect.started_at, "the suspect")
    assert suspect.executor is not neighbour.executor
    until.touch()
    alone, beside = rig.wait(suspect, neighbour)
    assert alone.outcome is Outcome.DIED
    assert beside.outcome is Outcome.SUCCEEDED
    rig.until(lambda: suspect.executor not in rig.pool.executors.values(), "the end of its executor")


def test_others_go_on_while_one_handler_kills_every_executor_it_gets(rig: Rig) -> None:
    deadly = [rig.held("leave") for _ in range(5)]
    good = [rig.held("noop") for _ in range(200)]
    rig.add_many([*deadly[:2], *good[:100], *deadly[2:], *good[100:]])
    assert {ended.outcome for ended in rig.wait(*deadly)} == {Outcome.DIED}
    assert {ended.outcome for ended in rig.wait(*good)} == {Outcome.SUCCEEDED}


def test_the_temporary_folder_of_a_dead_executor_is_removed(rig: Rig, tmp_path: Path) -> None:
    rig.run("leave")
    rig.run("crash")
    rig.until(lambda: not list((tmp_path / "executors").glob("*")), "empty folders")


def test_a_detail_of_a_death_is_small_and_readable(rig: Rig) -> None:
    ended, _ = rig.run("leave")
    assert Detail.from_bytes(ended.detail).result is None


def test_an_executor_that_says_what_makes_no_sense_ends_with_its_task(rig: Rig) -> None:
    ended, _ = rig.run("babble")
    assert ended.outcome is Outcome.DIED
    assert rig.run("noop")[0].outcome is Outcome.SUCCEEDED


@pytest.mark.slow  # 330 processes
def test_more_executors_are_started_at_once_than_one_burst_of_requests_can_ask_for(tmp_path: Path) -> None:
    """The socket of the nursery holds less than 300 requests."""
    with Rig(tmp_path, concurrency=330, processes=330) as rig:
        tasks = [rig.held("sleep", {"seconds": 1_000}) for _ in range(330)]
        rig.add_many(tasks)
        rig.until(lambda: all(held.started_at for held in tasks), "the start of all", 50)
        assert not rig.ended


def test_a_supervisor_goes_on_however_often_it_signals_an_executor_that_stands_still(rig: Rig, tmp_path: Path) -> None:
    held = rig.add("hold", {"started": str(tmp_path / "started"), "until": str(tmp_path / "until")})
    rig.until(lambda: held.started_at, "its start")
    executor = held.executor
    assert executor is not None
    os.kill(executor.pid, signal.SIGSTOP)
    for _ in range(20_000):
        executor.signal_doom(held)
    os.kill(executor.pid, signal.SIGKILL)
    assert rig.wait(held)[0].outcome is Outcome.DIED


def test_no_executor_is_started_without_descriptors_and_work_goes_on_once_there_are_some(
    rig: Rig, tmp_path: Path
) -> None:
    first, second = (
        rig.add("hold", {"started": str(tmp_path / "s"), "until": str(tmp_path / "until")}),
        rig.held("noop"),
    )
    rig.until(lambda: first.started_at, "its start")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def add_without_descriptors() -> bool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            rig.pool.add([second])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return True

    rig.until(add_without_descriptors, "a try")
    assert second.executor is None
    assert rig.wait(second)[0].outcome is Outcome.SUCCEEDED
    (tmp_path / "until").touch()
    rig.wait(first)


def test_what_is_cancelled_behind_another_task_never_starts(tmp_path: Path) -> None:
    until = tmp_path / "until"
    with Rig(tmp_path, concurrency=1, processes=1) as rig:
        # So many short ones that the next go to the executor together.
        rig.wait(*[rig.add("hold_if") for _ in range(30)])
        tasks = [rig.held("hold_if", {"until": str(until)}), *[rig.held("hold_if") for _ in range(39)]]
        rig.add_many(tasks)
        rig.doom(tasks[-1], frames.CANCELLED)
        (ended,) = rig.wait(tasks[-1])
        until.touch()
        ends = rig.wait(*tasks[:-1])
    assert (ended.outcome, tasks[-1].started_at) == (Outcome.RELEASED, 0.0)
    assert {end.outcome for end in ends} == {Outcome.SUCCEEDED}


def test_a_task_whose_handler_is_gone_after_a_reload_is_given_back(tmp_path: Path) -> None:
    app, until = tmp_path / "changing.py", tmp_path / "until"
    app.write_text(
        "from tqctl_runtime.api import handler\nfrom pathlib import Path\nimport time\n"
        "@handler\ndef f(until: str) -> None:\n    while not Path(until).exists(): time.sleep(0.005)\n"
    )
    with Rig(tmp_path, apps=[str(app)], concurrency=1, processes=1) as rig:
        running = rig.add("f", {"until": str(until)})
        rig.until(lambda: running.started_at, "its start")
        waiting = rig.add("f", {"until": str(until)})
        app.write_text("")
        rig.reload()
        until.touch()
        first, second = rig.wait(running, waiting)
    assert first.outcome is Outcome.SUCCEEDED
    assert (second.outcome, second.reason) == (Outcome.RELEASED, "its handler is gone")
