"""What the doctor tells of faults that are really there: processes of another clock or version, a careless server."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import Environment
from tests.support.servers import own_redis_binary, start_redis
from tests.support.wait import wait_until

_SLOW = pytest.mark.slow  # whole processes start and stop

#: Python imports it at its start: the process's clock is an hour behind, and a little, as on a machine that lost NTP.
_BEHIND = """
import time
_real, _real_ns = time.time, time.time_ns
time.time = lambda: _real() - 3630
time.time_ns = lambda: _real_ns() - 3630 * 10**9
"""


@pytest.fixture
def running(pair: Environment) -> Iterator[Environment]:
    """The pair with a coordinator; what the test starts beside it is killed at the end."""
    coordinator = pair.start("coordinator", "start", "--name", "lead")
    yield pair
    coordinator.send_signal(signal.SIGKILL)


def problems(pair: Environment, check: str) -> list[dict[str, Any]]:
    """What the program's doctor has to say against *check*."""
    said = pair.run("doctor", "--problems", "-o", "json")
    found = [row for row in json.loads(said.stdout) if row["check"] == check]
    assert said.returncode == (20 if json.loads(said.stdout) else 0)
    assert all(row["hint"] for row in found)
    return found


@_SLOW
def test_a_worker_whose_clock_is_behind_is_named_and_works_all_the_same(running: Environment) -> None:
    site = running.home / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_BEHIND)

    running.start("worker", "start", "--name", "late", "--lease", "3s", env={"PYTHONPATH": str(site)})

    (found,) = wait_until(lambda: problems(running, "clock"), "the difference is told", interval=0.5)
    assert "the clock of late on " in found["message"]
    assert " is 1h" in found["message"]
    assert "behind the broker's" in found["message"]
    assert running.run("submit", "echo", "-p", "message=hi", "--wait").stdout == '{"message": "hi"}\n'


@_SLOW
def test_a_command_whose_clock_is_behind_is_told_of_it(running: Environment) -> None:
    site = running.home / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(_BEHIND)

    said = running.run("doctor", "--problems", "-o", "json", env={"PYTHONPATH": str(site)})

    messages = [row["message"] for row in json.loads(said.stdout) if row["check"] == "clock"]
    assert said.returncode == 20
    assert "the broker's clock is 1h" in messages[0]


@_SLOW
def test_processes_of_two_versions_are_told_apart(running: Environment) -> None:
    installed = running.home / "site" / "tqctl-9.9.9.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: tqctl\nVersion: 9.9.9\n")

    running.start("worker", "start", "--name", "next", "--lease", "3s", env={"PYTHONPATH": str(installed.parent)})

    (found,) = wait_until(lambda: problems(running, "versions"), "the versions are told", interval=0.5)
    assert "next of version 9.9.9, this command of " in found["message"]


@pytest.fixture
def careless(sqlite_url: str, tmp_path: Path) -> Iterator[Environment]:
    """A set-up on a server that makes room by throwing keys away, and writes nothing to disk."""
    server = start_redis(own_redis_binary(), options=("--maxmemory", "200mb", "--maxmemory-policy", "allkeys-lru"))
    made = Environment("own", tmp_path, server.url, sqlite_url)
    yield made
    made.kill_all()
    server.stop()


@_SLOW
def test_a_server_that_throws_keys_away_is_told(careless: Environment) -> None:
    here = careless
    here.start("coordinator", "start")
    wait_until(lambda: not problems(here, "broker"), "the namespace is open", interval=0.5)

    (found,) = problems(here, "eviction policy")

    assert found["message"].startswith("allkeys-lru: ")
    assert "noeviction" in found["hint"]
    assert problems(here, "persistence")
