"""The floors: what the tools below a task queue can do at best on this machine, keeping nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from tests.bench.environments import ROOT
from tests.bench.systems.base import Role, Shell, Stage, System, Use


class Floor(System):
    """redis-py with hiredis on a bare list: one by one (``single``) or in Lua batches of 100 (``lua``)."""

    role = Role.FLOOR
    app = "tests.bench.apps.floor_app"
    keeps = "nothing"
    needs_redis = True
    has_bulk = True

    def __init__(self, kind: Literal["single", "lua"]) -> None:
        self.kind = kind
        self.name = f"floor-{kind}"
        words = {"single": "LPUSH, BLMOVE and LREM for each task", "lua": "as floor-single, 100 taken by a Lua script"}
        self.settings = f"redis-py, hiredis: {words[kind]}; bulk: pipelines of 1000"

    def prepare(self, cache: Path) -> None:
        """The interpreter that runs this."""
        self.python = sys.executable

    def workers(self, stage: Stage, use: Use) -> list[list[str]]:
        """One or two loops."""
        return [[self.python, "-m", self.app, self.kind]] * (2 if use is Use.DRAIN_2 else 1)

    def measures(self, row: str) -> bool:
        """The batches matter for the drains only; all else is the same for both kinds."""
        return self.kind == "single" or row.startswith("drain")

    def pending(self, stage: Stage) -> int:
        """The length of its list."""
        return stage.require_redis().client.llen("floor:queue")

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """A redis-py script, once."""
        if what is Shell.SCRIPT and self.kind == "single":
            return self.driver_command("one", "0")
        return None


class Interpreter(System):
    """The bare interpreter, and a script that pushes over a raw socket: the floor of the shell rows."""

    name = "floor-shell"
    role = Role.FLOOR
    app = ""
    keeps = "nothing"
    settings = "`python -c pass`; for cli_submit a script of one LPUSH over a raw socket"
    needs_redis = True
    has_worker = False

    def prepare(self, cache: Path) -> None:
        """The interpreter that runs this."""
        self.python = sys.executable

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """Nothing at all, or one LPUSH."""
        if what is Shell.SUBMIT:
            script = ROOT / "tests" / "bench" / "apps" / "raw_submit.py"
            return [self.python, str(script), stage.require_redis().url.split(":")[2].split("/")[0], "0"]
        return [self.python, "-c", "pass"]
