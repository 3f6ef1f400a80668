"""Fixtures of all suites: servers once per process of the run, set-ups and databases once per test."""

from __future__ import annotations

import itertools
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from tests.support import postgres as postgres_support
from tests.support.environment import Environment
from tests.support.leaks import find_leaks
from tests.support.servers import (
    MissingServerError,
    RedisServer,
    drop_namespace,
    find_redis7,
    new_namespace,
    own_redis_binary,
    require_servers,
    start_redis,
    valkey_binary,
)
from tqctl_runtime.core.settings import Settings

T = TypeVar("T")
NOT_RUN = "not run, missing: "
_SLOW_SERVERS = [HealthCheck.too_slow, HealthCheck.data_too_large]

hypothesis_settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=100, suppress_health_check=_SLOW_SERVERS, print_blob=True
)
hypothesis_settings.register_profile(
    "chaos", deadline=None, max_examples=1000, suppress_health_check=_SLOW_SERVERS, print_blob=True
)
hypothesis_settings.load_profile("ci")


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """Begin the run: one folder for all its processes."""
    if not _is_worker(config):
        postgres_support.begin_run()


def pytest_unconfigure(config: pytest.Config) -> None:
    """End the run: no database, server or folder of it stays."""
    if not _is_worker(config):
        postgres_support.end_run()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell the time of each suite, and name every test that was not run for want of a server."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for report in itertools.chain.from_iterable(terminalreporter.stats.values()):
        if isinstance(report, pytest.TestReport):
            seconds["/".join(report.nodeid.split("/")[:2])] += report.duration
    terminalreporter.section("seconds by suite, summed over processes")
    for suite, total in sorted(seconds.items()):
        terminalreporter.line(f"{suite:24} {total:8.1f}")
    rows = []
    for report in terminalreporter.stats.get("skipped", []):
        reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if NOT_RUN in reason:
            rows.append(f"{report.nodeid}: {reason.partition(NOT_RUN)[2]}")
    if rows:
        terminalreporter.section(f"{len(rows)} tests not run for want of a server")
        for row in sorted(rows):
            terminalreporter.line(row)


def _obtain(start: Callable[[], T]) -> T:
    """What *start* returns; a missing server fails the test where servers are required, else it is not run."""
    try:
        return start()
    except MissingServerError as error:
        if require_servers():
            pytest.fail(f"missing: {error}", pytrace=False)
        pytest.skip(f"{NOT_RUN}{error}")


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    """The Valkey of this process of the run."""
    server = _obtain(lambda: start_redis(valkey_binary()))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def redis7() -> Iterator[RedisServer]:
    """Redis 7; perhaps shared with others, so only namespaces of our own may be touched."""
    server = _obtain(find_redis7)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def postgres() -> postgres_support.Postgres:
    """The PostgreSQL of the run."""
    return _obtain(postgres_support.find_postgres)


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that the test may stop, flood and configure."""
    server = _obtain(lambda: start_redis(own_redis_binary()))
    yield server
    server.stop()


@pytest.fixture
def namespace() -> str:
    """A namespace that nobody else uses."""
    return new_namespace()


@pytest.fixture(params=["valkey", "redis7"])
def broker_address_url(request: pytest.FixtureRequest, namespace: str) -> Iterator[str]:
    """The URL of a broker, once for each kind; afterwards *namespace* is checked for leaked keys and removed."""
    server: RedisServer = request.getfixturevalue(request.param)
    yield server.url
    _close_namespace(server.url, namespace)


def _close_namespace(url: str, namespace: str) -> None:
    import redis

    with redis.Redis.from_url(url, protocol=2, socket_timeout=10) as client:
        leaks = find_leaks(client, namespace)
    drop_namespace(url, namespace)
    assert not leaks, "keys are left that nothing bounds:\n" + "\n".join(leaks)


def migrate(url: str) -> None:
    """Bring the database at *url* to the newest schema, as ``tqctl db upgrade`` does."""
    from tqctl_runtime.record import open_store

    store = open_store(Settings(database_url=url))
    try:
        store.upgrade()
    finally:
        store.close()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "record.db"
    migrate(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(migrated_sqlite: Path, tmp_path: Path) -> str:
    """A migrated SQLite file of the test's own."""
    path = tmp_path / "record.db"
    shutil.copyfile(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: postgres_support.Postgres) -> Iterator[str]:
    """A migrated PostgreSQL database of the test's own."""
    url = postgres.create(postgres.template(migrate))
    yield url
    postgres.drop(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """The URL of a migrated, empty record, once for each kind."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of a database without any table, once for each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'empty.db'}"
        return
    server: postgres_support.Postgres = request.getfixturevalue("postgres")
    url = server.create()
    yield url
    server.drop(url)


@pytest.fixture(params=["valkey+sqlite", "redis7+postgresql"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Environment]:
    """One of the two pairs, ready: both servers by URL, record migrated; everything is removed afterwards."""
    broker, _, record = request.param.partition("+")
    server: RedisServer = request.getfixturevalue(broker)
    database_url = request.getfixturevalue("sqlite_url" if record == "sqlite" else "postgres_url")
    ready = Environment(request.param, tmp_path, server.url, database_url)
    yield ready
    ready.kill_all()
    _close_namespace(server.url, ready.namespace)


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Environment]:
    """The embedded default: no URL at all; whatever was started in it is killed afterwards."""
    ready = Environment("embedded", tmp_path)
    yield ready
    ready.kill_all()
