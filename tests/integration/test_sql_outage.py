"""SQL goes away under real processes: work goes on, everybody is told how far the record is behind and why."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import _obtain, migrate
from tests.support.cluster import Cluster
from tests.support.environment import Environment
from tests.support.servers import RedisServer
from tests.support.wait import wait_until
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.views import Overview, overview
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.client import Client
from tqctl_runtime.core.errors import Busy

BUSY, STOP = 200, 400
Away = Callable[[], AbstractContextManager[None]]


@contextlib.contextmanager
def locked_sqlite(path: Path) -> Iterator[None]:
    """Somebody keeps the write lock."""
    with contextlib.closing(sqlite3.connect(path, timeout=20, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


@contextlib.contextmanager
def crashed(cluster: Cluster) -> Iterator[None]:
    """The server is stopped at once, and started again."""
    cluster.stop(signal.SIGQUIT)
    yield
    cluster.start()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that the test may stop."""
    folder = Path(tempfile.mkdtemp(prefix="tqctl-cluster-"))
    folder.chmod(0o711)
    made = _obtain(lambda: Cluster(folder))
    yield made
    made.stop()


@pytest.fixture(params=["valkey+sqlite", "redis7+postgresql"])
def outage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Environment, Away]]:
    """A set-up with a coordinator and a worker, and what takes its SQL away."""
    server: RedisServer = request.getfixturevalue("valkey" if "valkey" in request.param else "redis7")
    away: Away
    if "sqlite" in request.param:
        url = request.getfixturevalue("sqlite_url")
        path = Path(url.removeprefix("sqlite:///"))
        away = lambda: locked_sqlite(path)  # noqa: E731  one of two ways
    else:
        own: Cluster = request.getfixturevalue("cluster")
        migrate(own.url)
        url, away = own.url, lambda: crashed(own)
    here = Environment(request.param, tmp_path, server.url, url)
    marks = {"TQCTL_BUSY_ROWS": str(BUSY), "TQCTL_STOP_ROWS": str(STOP)}
    here.start("coordinator", "start", "--name", "lead", env=marks)
    here.start("worker", "start", "--name", "hand", "--concurrency", "20")
    yield here, away
    here.kill_all()


def figures(here: Environment) -> Overview:
    settings = here.settings()
    with Wire(BrokerAddress.of(settings)) as wire:
        return wire.call(overview(Keys(settings.namespace)))


def summary(here: Environment) -> str:
    return here.run("status").stderr


def doctor(here: Environment) -> str:
    return " ".join(
        f"{row['check']}: {row['message']}" for row in json.loads(here.run("doctor", "--problems", "-o", "json").stdout)
    )


@pytest.mark.slow  # whole processes start and stop
def test_work_goes_on_without_sql_and_everybody_says_how_far_the_record_is_behind_and_why(
    outage: tuple[Environment, Away],
) -> None:
    here, away = outage
    wait_until(lambda: figures(here).meta.get("stop_rows"), "the marks stand", ignore=(Exception,))
    with Client(here.settings()) as client:
        client.submit("echo")
        with away():
            # Each is a row at its submit, to be two in the end: together beyond the second mark.
            here.run("queue", "pause", "default")
            ids = client.submit_many([("echo", {"message": str(n)}) for n in range(BUSY)])
            with pytest.raises(Busy):
                client.submit("echo")
            first = summary(here)
            here.run("queue", "resume", "default")
            wait_until(lambda: not any(queue.ready for queue in figures(here).queues), "work goes on")
            wait_until(lambda: "the recorder cannot work" in summary(here), "the cause is told", interval=0.5)
            told, found = summary(here), doctor(here)
            listed = here.run("task", "list")
        wait_until(lambda: figures(here).lag_rows <= 0, "the record has caught up")
        client.submit("echo")

    assert "first mark reached: submits answer busy" in first
    assert "nothing is recorded: the recorder cannot work: " in told
    assert "tasks run on and the journal waits" in told
    assert " rows (0." in told
    assert " behind, the oldest for " in told
    assert "second mark reached: workers claim nothing" in told
    assert "recorder lag: nothing is recorded: the recorder cannot work" in found
    assert "recorder lag: second mark reached" in found
    assert listed.returncode == 69 or "the recorder cannot work" in listed.stderr
    assert here.run("task", "wait", *ids[:5]).returncode == 0
    assert int(here.run("task", "list", "--limit", "1000", "-o", "name").stdout.count("\n")) == BUSY + 2
    wait_until(lambda: "outage" in here.run("health", "history", "--events").stdout, "it is an event", interval=0.5)
    wait_until(lambda: "nothing is recorded" not in summary(here), "nothing is left to tell", interval=0.5)
    assert "mark reached" not in summary(here)
