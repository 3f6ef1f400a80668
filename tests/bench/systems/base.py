"""A system that can be measured, and the stage it is measured on: fresh stores, marks, processes that all end."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.bench.apps.marks import Marks
from tests.bench.environments import ROOT
from tests.bench.processes import BenchError, Processes, run, wait_for
from tests.bench.servers import Database, RedisServer, database, redis_server, scratch

_DRIVE_TIMEOUT = 180.0


class Role(StrEnum):
    """Why a system is in the table."""

    OURS = "ours"
    PEER = "peer"
    FLOOR = "floor"


class Use(StrEnum):
    """What workers are started for; a system chooses its best documented settings by it."""

    DRAIN_1 = "drain_1"
    DRAIN_2 = "drain_2"
    IDLE = "idle"
    DEFAULTS = "defaults"


class Shell(StrEnum):
    """Command lines that are timed."""

    SUBMIT = "cli_submit"
    SCRIPT = "script_submit"
    HELP = "cli_help"
    VERSION = "cli_version"
    TAB = "cli_tab"
    SHOW = "cli_task_show"
    STATUS = "cli_status"
    LIST = "cli_task_list"


@dataclass
class Stage:
    """One system on stores of its own, open for one session."""

    system: System
    folder: Path
    marks: Marks
    processes: Processes
    env: dict[str, str]
    redis: RedisServer | None
    database: Database | None

    def drive(self, command: str, *words: object) -> dict[str, Any]:
        """Run the system's client in its own interpreter; see ``apps/driver.py``."""
        argv = [self.system.python, "-m", "tests.bench.apps.driver", self.system.app, command, *map(str, words)]
        answer: dict[str, Any] = json.loads(run(argv, self.env, _DRIVE_TIMEOUT, ROOT))
        return answer

    def start(self, use: Use) -> list[subprocess.Popen[bytes]]:
        """Start the workers for *use*."""
        env = self.env | self.system.worker_env(use)
        return [self.processes.start(argv, env, ROOT) for argv in self.system.workers(self, use)]

    def start_together(self, use: Use, expected: int) -> list[subprocess.Popen[bytes]]:
        """Start the workers for *use*; none runs a task before *expected* processes imported the application."""
        gate = self.folder / f"gate{time.monotonic_ns()}"
        gate.mkdir()
        env = self.env | self.system.worker_env(use) | {"BENCH_GATE": str(gate)}
        workers = [self.processes.start(argv, env, ROOT) for argv in self.system.workers(self, use)]
        wait_for(lambda: len(list(gate.glob("arrived.*"))) >= expected, "workers import the application", 60)
        time.sleep(0.3)  # the bound for a late sibling: processes start side by side, far closer than this
        (gate / "open").touch()
        return workers

    def stop(self, workers: Sequence[subprocess.Popen[bytes]]) -> None:
        """End *workers* in good order."""
        for worker in workers:
            self.processes.stop(worker)

    def require_redis(self) -> RedisServer:
        """The Redis of this stage."""
        if self.redis is None:
            raise BenchError(f"{self.system.name} has no Redis")
        return self.redis

    def require_database(self) -> Database:
        """The database of this stage."""
        if self.database is None:
            raise BenchError(f"{self.system.name} has no PostgreSQL")
        return self.database


class System:
    """A task queue, or a floor, and how to run it well."""

    name: str
    role: Role
    app: str
    keeps: str
    settings: str
    needs_redis = False
    needs_database = False
    has_bulk = False
    has_worker = True
    has_record = False
    python: str = ""

    def prepare(self, cache: Path) -> None:
        """Install what is needed; sets ``python``."""
        raise NotImplementedError

    def up(self, stage: Stage) -> None:
        """Make the fresh stores ready for tasks."""

    def down(self, stage: Stage) -> None:
        """Stop what :meth:`up` started."""

    def workers(self, stage: Stage, use: Use) -> list[list[str]]:
        """The command of each worker for *use*."""
        raise BenchError(f"{self.name} has no worker")

    def measures(self, row: str) -> bool:
        """Whether *row* makes sense for this system."""
        return self.has_worker

    def worker_env(self, use: Use) -> dict[str, str]:
        """Environment of the workers for *use*, beside the stage's."""
        return {}

    def pending(self, stage: Stage) -> int:
        """Tasks the store still holds as waiting or in flight."""
        return 0

    def is_quiet(self, stage: Stage) -> bool:
        """Whether everything that was submitted has also reached the lasting record."""
        return True

    def recorded(self, stage: Stage) -> int:
        """Finished tasks committed in the lasting record; only where ``has_record``."""
        return 0

    def used_bytes(self, stage: Stage) -> int:
        """What the store of waiting tasks occupies now."""
        if stage.redis is not None:
            return stage.redis.used_bytes()
        return stage.require_database().used_bytes()

    def extra_bytes(self, stage: Stage, tasks: int) -> dict[str, float]:
        """Parts of :meth:`used_bytes` worth telling apart, bytes a task."""
        return {}

    def expire(self, stage: Stage) -> None:
        """Let the time pass that finished tasks are still remembered for: drop every key with a time to live."""
        if stage.redis is not None:
            client = stage.redis.client
            for key in client.scan_iter(count=1000):
                if client.pttl(key) > 0:
                    client.delete(key)

    def told_deaths(self, stage: Stage) -> int | None:
        """How many lost workers the only task's record tells of; None: there is no such record."""
        return None

    def fill_for_shell(self, stage: Stage) -> None:
        """Whatever the timed commands need to be there."""
        return

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """The command line for *what*; None: it has none."""
        return None

    def driver_command(self, *words: str) -> list[str]:
        """A Python script that does one thing with the client library."""
        return [self.python, "-m", "tests.bench.apps.driver", self.app, *words]

    @contextlib.contextmanager
    def open(self, parent: Path, tasks: int) -> Iterator[Stage]:
        """A stage with fresh stores and room for *tasks* marks; everything is gone after it."""
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(scratch(parent))
            processes = stack.enter_context(Processes(folder))
            server = stack.enter_context(redis_server(processes)) if self.needs_redis else None
            base = stack.enter_context(database()) if self.needs_database else None
            marks = Marks.create(folder / "marks", tasks)
            env = os.environ | {"BENCH_MARKS": str(folder / "marks"), "PYTHONPATH": str(ROOT)}
            if server is not None:
                env["BENCH_REDIS_URL"] = server.url
            if base is not None:
                env["BENCH_DATABASE_URL"] = base.url
            stage = Stage(self, folder, marks, processes, env, server, base)
            stack.callback(marks.close)
            stack.callback(self.down, stage)
            self.up(stage)
            yield stage
