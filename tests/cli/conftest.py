"""Running the program inside of the test, and a broker that knows handlers although no worker runs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.support.environment import Environment
from tests.support.servers import RedisServer, drop_namespace, new_namespace
from tqctl.__main__ import main
from tqctl_runtime.broker import leader_calls, views, worker_calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire


@dataclass(frozen=True)
class Said:
    """What one run wrote and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its data."""
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """Its data by line."""
        return self.out.splitlines()


class Program:
    """The program inside of this process; nothing is a terminal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch

    def set(self, **variables: str) -> None:
        """Set environment variables for this test."""
        for name, value in variables.items():
            self._monkeypatch.setenv(name, value)

    def run(self, *words: str, stdin: str | bytes = b"") -> Said:
        """Run the command line *words*."""
        with CliRunner().isolation(input=stdin) as (out, err, _):
            code = main(words)
            return Said(code, _text(out), _text(err))

    def done(self, *words: str, stdin: str | bytes = b"") -> Said:
        """Run *words*, which must succeed."""
        said = self.run(*words, stdin=stdin)
        assert said.code == 0, said
        return said


def _text(stream: Any) -> str:
    return bytes(stream.getvalue()).decode()


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Program:
    """The program in an environment of its own: no server runs, no file is there."""
    import os

    for name in list(os.environ):
        if name.startswith(("TQCTL_", "XDG_")) and not name.startswith("TQCTL_TEST_"):
            monkeypatch.delenv(name)
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TQCTL_HOME", str(tmp_path / "home"))
    return Program(monkeypatch, folder)


class Broker:
    """A namespace that a coordinator opened and in which a worker once registered handlers."""

    def __init__(self, server: RedisServer, namespace: str) -> None:
        self.url = server.url
        self.namespace = namespace
        self.keys = Keys(namespace)
        self.wire = Wire(BrokerAddress.parse(server.url))
        self.call(leader_calls.open_gate(self.keys, epoch=1, pairing="test"))

    def call(self, call: Call[Any]) -> Any:
        """The reply of *call*."""
        return self.wire.call(call)

    def register(self, *rows: dict[str, Any], queues: Sequence[str] = ("default",), worker: str = "wrk_test") -> None:
        """Let a worker join that offers *rows*."""
        info = {"name": "test", "queues": list(queues), "handlers": [row["name"] for row in rows], "concurrency": 5}
        self.call(worker_calls.register(self.keys, worker, lease_ms=60_000, info=info, rows=rows))

    def task(self, task_id: str) -> views.LiveTask:
        """The live task *task_id*."""
        found = self.call(views.look(self.keys, [task_id]))[0]
        assert found is not None, f"{task_id} is not live"
        return found  # type: ignore[no-any-return]


def row(name: str, *parameters: tuple[str, str, str | None], **changes: Any) -> dict[str, Any]:
    """A catalogue row as workers write it."""
    return {
        "name": name,
        "queue": "default",
        "priority": 5,
        "timeout_s": None,
        "max_retries": 5,
        "backoff": None,
        "is_async": False,
        "argv": False,
        "needs": [],
        "overlap_ok": False,
        "parameters": [list(parameter) for parameter in parameters],
        "takes_any": False,
        "doc": "",
        **changes,
    }


ECHO = row("echo", ("message", "str", None), ("times", "int", "1"), ("loud", "bool", "false"), ("more", "json", "null"))
SHELL = row("shell", ("argv", "json", None), ("env", "json", "null"), argv=True)


@pytest.fixture
def broker(valkey: RedisServer, program: Program) -> Iterator[Broker]:
    """A broker that *program* uses, with the handlers echo and shell and a live worker for the default queue."""
    namespace = new_namespace()
    program.set(TQCTL_REDIS_URL=valkey.url, TQCTL_NAMESPACE=namespace)
    made = Broker(valkey, namespace)
    made.register(ECHO, SHELL)
    yield made
    made.wire.close()
    drop_namespace(valkey.url, namespace)


@pytest.fixture(scope="session")
def stack_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """The real embedded stack with one worker, once for each process of the run."""
    ready = Environment("embedded", tmp_path_factory.mktemp("stack"))
    done = ready.run("up", "--detach", "--concurrency", "4", timeout=120)
    assert done.returncode == 0, done.stderr
    yield ready
    ready.run("down", "--force", timeout=120)
    ready.kill_all()


@pytest.fixture
def stack(stack_home: Environment, program: Program) -> Program:
    """The program on the real stack; tests share it and tell their tasks apart by tags and queues."""
    program.set(TQCTL_HOME=stack_home.env["TQCTL_HOME"], TQCTL_NAMESPACE=stack_home.namespace)
    return program
