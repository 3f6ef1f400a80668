"""A ready set-up for one test: folder, namespace, URLs, the environment that carries them, and its end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.servers import new_namespace
from tqctl_runtime.core.settings import Settings

#: How the program under test is called; set to try another installation, words parted by spaces.
COMMAND = "TQCTL_TEST_COMMAND"


def program() -> list[str]:
    """The words that start tqctl: this interpreter's module unless ``TQCTL_TEST_COMMAND`` names another."""
    return os.environ[COMMAND].split() if COMMAND in os.environ else [sys.executable, "-m", "tqctl"]


@dataclass(frozen=True)
class Environment:
    """One set-up. *redis_url* and *database_url* are None where tqctl brings its own server or file."""

    name: str
    home: Path
    redis_url: str | None = None
    database_url: str | None = None
    namespace: str = field(default_factory=new_namespace)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def temporary(self) -> Path:
        """The folder for temporary files of processes."""
        folder = self.home / "tmp"
        folder.mkdir(exist_ok=True)
        return folder

    @property
    def env(self) -> dict[str, str]:
        """The environment of processes: ours without any setting of the caller's, and what this set-up needs."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("TQCTL_", "XDG_", "PYTEST_"))}
        own = {
            "HOME": str(self.home),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "XDG_DATA_HOME": str(self.home / "data"),
            "TQCTL_HOME": str(self.home / "tqctl"),
            "TQCTL_NAMESPACE": self.namespace,
            # What a killed worker leaves behind goes with the folder of the test.
            "TMPDIR": str(self.temporary),
            "NO_COLOR": "1",
        }
        if self.redis_url is not None:
            own["TQCTL_REDIS_URL"] = self.redis_url
        if self.database_url is not None:
            own["TQCTL_DATABASE_URL"] = self.database_url
        return kept | own

    def settings(self, **changes: object) -> Settings:
        """The same set-up for code that runs inside the test; *changes* are fields of ``Settings``."""
        values: dict[str, object] = {
            "home": self.home / "tqctl",
            "namespace": self.namespace,
            "redis_url": self.redis_url,
            "database_url": self.database_url,
        }
        return Settings(**(values | changes))  # type: ignore[arg-type]

    def run(
        self,
        *words: str,
        stdin: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 50,
    ) -> subprocess.CompletedProcess[str]:
        """Run tqctl to its end with captured text output; standard input is empty unless given."""
        return subprocess.run(
            [*program(), *words],
            env=self.env | dict(env or {}),
            cwd=cwd or self.home,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def start(
        self,
        *words: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        command: Sequence[str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start tqctl in a process group of its own; its output goes to ``<first word>.log`` in the home.

        *command* are other words than :func:`program` to start it with.
        """
        with open(self.home / f"{words[0]}.log", "a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [*(command or program()), *words],
                env=self.env | dict(env or {}),
                cwd=cwd or self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def processes(self) -> list[int]:
        """The ids of all living processes that were started with this home in their environment, or work inside it."""
        mark = f"TQCTL_HOME={self.home / 'tqctl'}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    # A server that shows a title in place of its command overwrites its environment with it.
                    is_ours = (entry / "cwd").readlink().is_relative_to(self.home)
                    if is_ours or mark in (entry / "environ").read_bytes().split(b"\x00"):
                        found.append(int(entry.name))
        return found

    def kill_all(self) -> None:
        """Kill whatever this set-up started and left running."""
        # Twice: a parent that was about to fork may have done so while we looked.
        for _ in range(2):
            for number in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
        for process in self._started:
            process.wait(timeout=20)
