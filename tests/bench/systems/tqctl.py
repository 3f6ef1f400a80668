"""tqctl itself, on the embedded pair and on Redis with PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
from pathlib import Path
from typing import Any, Literal

from tests.bench.environments import ROOT
from tests.bench.processes import BenchError, last_lines, run, wait_for
from tests.bench.servers import RedisServer
from tests.bench.systems.base import Role, Shell, Stage, System, Use

_NAMESPACE = "default"
_PREFIX = f"{{tq:{_NAMESPACE}}}:"
_FINISHED = "SELECT count(*) FROM tasks WHERE finished_at IS NOT NULL"
_KNOWN = "SELECT count(*) FROM tasks"
_UP_TIMEOUT = 60.0
_PAGE = 50
#: Tasks at once where throughput is asked for: long rounds. 100 is a fifth slower, 1000 no faster.
_PLACES = "400"


class Tqctl(System):
    """tqctl of the interpreter that runs the bench: leases, tokens, journal, results, executors, recorder."""

    role = Role.OURS
    app = "tests.bench.apps.tqctl_app"
    keeps = "everything in SQL: payload, result, times, attempts, errors, logs"
    has_bulk = True
    has_record = True

    def __init__(self, pair: Literal["embedded", "servers"]) -> None:
        self.pair = pair
        self.name = {"embedded": "tqctl", "servers": "tqctl-pg"}[pair]
        stores = {"embedded": "private Valkey (AOF everysec) + SQLite", "servers": "Redis + PostgreSQL"}[pair]
        self.settings = (
            f"{stores}; defaults; drain: --concurrency {_PLACES} --processes 1; plain function in an executor process"
        )
        self.needs_redis = self.needs_database = pair == "servers"

    def prepare(self, cache: Path) -> None:
        """The interpreter that runs this has it."""
        self.python = sys.executable

    def up(self, stage: Stage) -> None:
        """Start the stack without workers."""
        for name in [name for name in stage.env if name.startswith("TQCTL_") and not name.startswith("TQCTL_BENCH_")]:
            del stage.env[name]
        stage.env["TQCTL_HOME"] = str(stage.folder / "home")
        if self.pair == "servers":
            stage.env["TQCTL_REDIS_URL"] = stage.require_redis().url
            stage.env["TQCTL_DATABASE_URL"] = stage.require_database().url
        try:
            run(self._tqctl("up", "--detach", "--workers", "0"), stage.env, _UP_TIMEOUT, ROOT)
        except BenchError as error:
            logs = (stage.folder / "home" / "default" / "logs").glob("*.log")
            told = "; ".join(f"{log.name}: {last_lines(log.read_text())}" for log in logs)
            raise BenchError(f"{error}; {told}") from None
        if self.pair == "embedded":
            socket = (stage.folder / "home" / "default" / "valkey" / "address").read_text().strip()
            stage.redis = RedisServer(f"unix://{socket}")

    def down(self, stage: Stage) -> None:
        """Stop the stack at once; the folder is removed by the stage."""
        run(self._tqctl("down", "--force"), stage.env, _UP_TIMEOUT, ROOT)

    def _tqctl(self, *words: str) -> list[str]:
        return [self.python, "-m", "tqctl", *words]

    def workers(self, stage: Stage, use: Use) -> list[list[str]]:
        """``tqctl worker start``: more places where throughput is asked for, else as it comes."""
        options = ["--concurrency", _PLACES, "--processes", "1"] if use in (Use.DRAIN_1, Use.DRAIN_2) else []
        command = self._tqctl("worker", "start", "--app", self.app, *options)
        return [command] * (2 if use is Use.DRAIN_2 else 1)

    def pending(self, stage: Stage) -> int:
        """Queued tasks and those that workers hold."""
        client = stage.require_redis().client
        waiting = sum(client.zcard(key) for kind in ("q", "s") for key in client.keys(f"{_PREFIX}{kind}:*"))
        return waiting + sum(client.hlen(key) for key in client.keys(f"{_PREFIX}own:*"))

    def is_quiet(self, stage: Stage) -> bool:
        """Whether the record knows every task that lives in Redis."""
        return self._count(stage, _KNOWN) >= stage.require_redis().client.hlen(f"{_PREFIX}st")

    def recorded(self, stage: Stage) -> int:
        """Finished tasks in SQL."""
        return self._count(stage, _FINISHED)

    def _count(self, stage: Stage, query: str) -> int:
        if self.pair == "servers":
            return stage.require_database().number(query)
        record = stage.folder / "home" / "default" / "record.db"
        with contextlib.closing(sqlite3.connect(f"file:{record}?mode=ro", uri=True, timeout=5)) as connection:
            return int(connection.execute(query).fetchone()[0])

    def extra_bytes(self, stage: Stage, tasks: int) -> dict[str, float]:
        """The journal, which is trimmed a minute behind the record."""
        size = stage.require_redis().client.memory_usage(f"{_PREFIX}j", samples=0)
        return {"journal": float(size or 0) / tasks}

    def told_deaths(self, stage: Stage) -> int | None:
        """``deaths`` of the task."""
        return int(self._newest(stage)["deaths"])

    def fill_for_shell(self, stage: Stage) -> None:
        """A live worker and a page of finished tasks."""
        stage.start(Use.DEFAULTS)
        stage.drive("bulk", _PAGE)
        wait_for(lambda: self.recorded(stage) >= _PAGE, "a page of tasks is recorded", _UP_TIMEOUT)

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """Every command line that is timed."""
        match what:
            case Shell.SUBMIT:
                return self._tqctl("submit", "echo", "-p", "message=hi")
            case Shell.SCRIPT:
                return self.driver_command("one", "0")
            case Shell.HELP:
                return self._tqctl("--help")
            case Shell.VERSION:
                return self._tqctl("--version")
            case Shell.TAB:
                return self._tqctl("__complete", "handlers", "e")
            case Shell.SHOW:
                return self._tqctl("task", "show", str(self._newest(stage)["id"]))
            case Shell.STATUS:
                return self._tqctl("status")
            case Shell.LIST:
                return self._tqctl("task", "list")

    def _newest(self, stage: Stage) -> dict[str, Any]:
        listed: list[dict[str, Any]] = json.loads(
            run(self._tqctl("task", "list", "--limit", "1", "-o", "json"), stage.env, 20, ROOT)
        )
        return listed[0]
