"""Two releases side by side on one pair (scenario 32)."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage
from tqctl_runtime.broker.keys import PROTOCOL

Scale = Callable[[int, int], int]
ROOT = Path(__file__).parents[2]
_KEYS = "runtime/tqctl_runtime/broker/keys.py"
_MIGRATIONS = "runtime/tqctl_runtime/record/migrations/versions/"
_LOOK_BACK = 40


def git(*words: str) -> str:
    """What git says about this checkout; empty where it refuses."""
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True)
    return done.stdout if done.returncode == 0 else ""


def find_release() -> str:
    """The oldest of the last commits that speaks this protocol and has this schema; empty where there is none."""
    schema = git("ls-tree", "--name-only", "HEAD", _MIGRATIONS)
    found = ""
    for commit in git("rev-list", f"--max-count={_LOOK_BACK}", "HEAD~1").split():
        speaks = f"PROTOCOL = {PROTOCOL}\n" in git("show", f"{commit}:{_KEYS}")
        if not speaks or git("ls-tree", "--name-only", commit, _MIGRATIONS) != schema:
            break
        found = commit
    return found


@pytest.fixture
def earlier(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """An earlier commit, and the environment in which ``python -m tqctl`` is that commit's."""
    if shutil.which("git") is None or not (commit := find_release()):
        pytest.skip(f"not run, missing: an earlier commit with PROTOCOL = {PROTOCOL} and the same schema")
    place = tmp_path / "earlier"
    assert git("worktree", "add", "--detach", "--force", str(place), commit) is not None
    try:
        roots = [str(place), str(place / "runtime"), str(place / "campaigns")]
        yield commit[:9], {"PYTHONPATH": ":".join(roots)}
    finally:
        git("worktree", "remove", "--force", str(place))


def test_half_of_the_processes_may_be_of_an_earlier_release(
    stage: Stage, earlier: tuple[str, dict[str, str]], scale: Scale, measured: Callable[..., None]
) -> None:
    """Workers and coordinators of both work together; the old ones are replaced one by one under load."""
    commit, old = earlier
    tasks = scale(600, 6_000)
    stage.tap.last(1)
    shown = subprocess.run(
        [sys.executable, "-c", "import tqctl; print(tqctl.__file__)"],
        env={**stage.environment.env, **old},
        cwd=stage.environment.home,
        capture_output=True,
        text=True,
    )
    assert "/earlier/" in shown.stdout, shown.stderr
    coordinators = [stage.coordinator(**old), stage.coordinator()]
    workers = [stage.worker(**old) for _ in range(2)] + [stage.worker() for _ in range(2)]
    wanted: list[Wanted] = [(("work", "flaky", "async_work")[number % 3], {"ms": 5}, {}) for number in range(tasks)]
    with Feeder(stage.new_client(), wanted) as feeder:
        feeder.allow(tasks // 3)
        stage.wait_effects(tasks // 4)
        for number, process in enumerate(workers[:2]):
            feeder.allow(tasks // 3 * (number + 2) // 2)
            assert stage.kill(process, signal.SIGTERM) == 0
            stage.worker()
        assert stage.kill(coordinators[0], signal.SIGTERM) == 0
        stage.coordinator()
        # And back: the roll-back of a release is a rolling deploy, too.
        stage.worker(**old)
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert figures.workers_lost == 0
    measured(figures, earlier=commit, protocol=PROTOCOL)
