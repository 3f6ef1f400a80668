"""What a process really loads: the commands that people call all day start without the heavy libraries."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.environment import Environment
from tests.support.servers import RedisServer
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import open_gate
from tqctl_runtime.broker.wire import Wire

HEAVY = {"rich", "redis", "sqlalchemy", "sqlmodel", "psycopg", "asyncio", "pydantic", "textual", "alembic", "structlog"}


def loaded(words: list[str], env: dict[str, str], folder: Path, code: int = 0) -> set[str]:
    """The top-level names that ``tqctl WORDS`` imports; its exit code must be *code*."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tqctl", *words], env=env, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr[-2000:]
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize(
    "words",
    [
        ["--version"],
        ["--help"],
        ["submit", "--help"],
        ["task", "--help"],
        ["__complete", "handlers", "ec"],
        ["completion", "bash"],
        ["version", "-o", "name"],
    ],
    ids=" ".join,
)
def test_talking_about_itself_loads_no_heavy_library(words: list[str], embedded: Environment) -> None:
    names = loaded(words, embedded.env, embedded.home)
    assert "tqctl" in names
    assert not names & HEAVY


def test_submitting_loads_no_heavy_library(valkey: RedisServer, tmp_path: Path) -> None:
    ready = Environment("valkey", tmp_path, valkey.url)
    with Wire(BrokerAddress.parse(valkey.url)) as wire:
        wire.call(open_gate(Keys(ready.namespace), epoch=1, pairing="test"))
    words = ["submit", "echo", "-p", "message=hi", "--unchecked", "--durability", "accepted", "-q"]
    assert not loaded(words, ready.env, tmp_path) & HEAVY


def test_the_package_itself_loads_almost_nothing(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import tqctl; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert not {name.partition(".")[0] for name in done.stdout.split()} & HEAVY


@pytest.mark.parametrize("module", ["tqctl_runtime.worker.executor", "tqctl_runtime.worker.nursery"])
def test_what_runs_users_code_reaches_neither_store(module: str, tmp_path: Path) -> None:
    code = f"import sys; import {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    names = set(done.stdout.split())
    assert not {name.partition(".")[0] for name in names} & {"redis", "hiredis", "sqlalchemy", "sqlmodel", "psycopg"}
    assert not [name for name in names if name.startswith(("tqctl_runtime.broker", "tqctl_runtime.record"))]
