"""The chaos suite: its seed, its scale, and what ``make test`` takes of it.

``TQCTL_CHAOS_SCALE`` (``small`` or ``full``) selects the whole suite and how large it is; without it only what is
marked ``in_make_test`` is taken. ``TQCTL_CHAOS_SEED`` repeats a run.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.chaos.oracle import Figures
from tests.chaos.stage import Stage
from tests.conftest import migrate
from tests.support.cluster import Cluster
from tests.support.disk import small_file_system
from tests.support.durable import DurableRedis
from tests.support.environment import Environment
from tests.support.servers import MissingServerError, redis_binary, require_servers, valkey_binary

T = TypeVar("T")
SCALE, SEED = "TQCTL_CHAOS_SCALE", "TQCTL_CHAOS_SEED"
HAS_FAILED = pytest.StashKey[bool]()
PAIRS = ("valkey+sqlite", "redis7+postgresql")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without a scale, take the one run that belongs to ``make test``."""
    here = Path(__file__).parent
    if SCALE in os.environ:
        return
    left = [item for item in items if item.path.parent == here and not item.get_closest_marker("in_make_test")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let fixtures know that their test failed."""
    report = yield
    item.stash[HAS_FAILED] = item.stash.get(HAS_FAILED, False) or report.failed
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell what each scenario measured."""
    rows = []
    for kind in ("passed", "failed"):
        for report in terminalreporter.stats.get(kind, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "chaos":
                    rows.append(f"{report.nodeid.rpartition('::')[2]}: {value}, {report.duration:.0f} s")
    if rows:
        terminalreporter.section("what the scenarios measured")
        for row in rows:
            terminalreporter.line(row)


@pytest.fixture
def seed() -> int:
    """The seed of the run."""
    return int(os.environ.get(SEED, "1"))


@pytest.fixture
def scale() -> Callable[[int, int], int]:
    """Chooses between the number of a quick run and that of a full one."""
    is_full = os.environ.get(SCALE) == "full"
    return lambda small, full: full if is_full else small


@pytest.fixture
def measured(record_property: Callable[[str, object], None], seed: int) -> Callable[..., None]:
    """Takes figures for the end of the run and for docs/reliability.md."""

    def take(figures: Figures | None = None, **more: object) -> None:
        words = [f"{key.replace('_', ' ')} {value}" for key, value in more.items()]
        record_property("chaos", ", ".join([f"seed {seed}", *([str(figures)] if figures else []), *words]))

    return take


@pytest.fixture(params=PAIRS)
def stage(request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Iterator[Stage]:
    """A pair whose broker is the test's own and keeps its append-only file; workers and coordinators to come."""
    with make_stage(request, tmp_path, request.param, seed) as made:
        yield made


@pytest.fixture
def valkey_stage(request: pytest.FixtureRequest, tmp_path: Path, seed: int) -> Iterator[Stage]:
    """The first of the pairs alone, where the scenario says nothing about the other."""
    with make_stage(request, tmp_path, PAIRS[0], seed) as made:
        yield made


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MB."""
    with contextlib.ExitStack() as closing:
        yield obtain(lambda: closing.enter_context(small_file_system(tmp_path / "disk", 24)))


@pytest.fixture
def cluster_folder() -> Iterator[Path]:
    """A folder that whoever runs PostgreSQL can pass."""
    folder = Path(tempfile.mkdtemp(prefix="tqctl-pg-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(cluster_folder: Path) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own."""
    made = obtain(lambda: Cluster(cluster_folder))
    yield made
    made.stop()


@pytest.fixture
def small_cluster(cluster_folder: Path) -> Iterator[Cluster]:
    """A PostgreSQL of the test's own whose data is on a file system of 160 MB."""
    with contextlib.ExitStack() as closing:
        disk = obtain(lambda: closing.enter_context(small_file_system(cluster_folder / "disk", 160)))
        made = obtain(lambda: Cluster(cluster_folder, disk))
        migrate(made.url)
        yield made
        made.stop()


@pytest.fixture
def cluster_stage(request: pytest.FixtureRequest, tmp_path: Path, seed: int, cluster: Cluster) -> Iterator[Stage]:
    """The second of the pairs with a PostgreSQL of its own."""
    migrate(cluster.url)
    with make_stage(request, tmp_path, PAIRS[1], seed, database_url=cluster.url) as made:
        yield made


def obtain(start: Callable[[], T]) -> T:
    """What *start* returns; a missing server fails the test where servers are required, else it is not run."""
    try:
        return start()
    except MissingServerError as error:
        if require_servers():
            pytest.fail(f"missing: {error}", pytrace=False)
        pytest.skip(f"not run, missing: {error}")


@contextlib.contextmanager
def make_stage(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    pair: str,
    seed: int,
    *,
    database_url: str = "",
    server_folder: Path | None = None,
) -> Iterator[Stage]:
    """The stage of *pair*; on the record at *database_url*, with the broker's files in *server_folder*, where given."""
    binary = obtain(valkey_binary if pair == PAIRS[0] else redis_binary)
    if not database_url:
        database_url = request.getfixturevalue("sqlite_url" if pair == PAIRS[0] else "postgres_url")
    server = DurableRedis(binary, server_folder or tmp_path / "redis")
    try:
        environment = Environment(pair, tmp_path, server.url, database_url)
        with Stage(environment, server, random.Random(f"{seed} {request.node.name}")) as made:
            yield made
            made.has_failed = request.node.stash.get(HAS_FAILED, False)
    finally:
        server.stop()
