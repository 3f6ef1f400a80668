"""The names of ``tqctl``, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tqctl

HEAVY = ("redis", "asyncio", "sqlalchemy", "sqlmodel", "sqlite3", "psycopg", "pydantic", "rich", "textual", "typer")


def loaded_after(statement: str) -> set[str]:
    """Top-level modules and own modules that a fresh interpreter has loaded after *statement*."""
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50)
    return set(found.stdout.split())


def test_every_public_name_exists_and_unknown_ones_do_not() -> None:
    for name in tqctl.__all__:
        assert getattr(tqctl, name) is not None
    assert set(tqctl.__all__) <= set(dir(tqctl))
    with pytest.raises(AttributeError, match="nosuch"):
        tqctl.nosuch  # noqa: B018  the look-up is the test


def test_importing_tqctl_loads_nothing_of_the_runtime() -> None:
    assert {name for name in loaded_after("import tqctl") if name.startswith("tqctl")} == {"tqctl", "tqctl._version"}


@pytest.mark.parametrize(
    "statement",
    [
        "from tqctl import Client; Client",
        "from tqctl import handler, current_task, Retry, Cancel",
        "from tqctl_runtime.client.sync import Client",
        "from tqctl_runtime.inspector import Inspector, TaskFilter",
    ],
)
def test_clients_and_handlers_load_no_heavy_library(statement: str) -> None:
    assert not loaded_after(statement) & set(HEAVY)


def test_a_submit_from_python_loads_no_heavy_library() -> None:
    statement = (
        "from tqctl import Client, Settings, BrokerUnavailable\n"
        "client = Client(Settings(redis_url='redis://127.0.0.1:1/0'))\n"
        "try:\n    client.submit('echo', {})\n"
        "except BrokerUnavailable:\n    pass\n"
        "else:\n    raise SystemExit('somebody answered')"
    )
    assert not loaded_after(statement) & {*HEAVY, "tqctl_runtime.core.handler", "ssl", "logging"}
