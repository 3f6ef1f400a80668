"""A terminal of 40 and of 80 columns: nothing is cut so that its meaning is lost, and no line is broken by accident."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest

from tqctl.commands.doctor import VIEW as FINDINGS
from tqctl.commands.health import EVENTS, HISTORY
from tqctl.commands.health import VIEW as CHECKS
from tqctl.commands.stack import VIEW as PROCESSES
from tqctl.commands.task import VIEW as TASKS
from tqctl.output import Output, View

MESSAGE = "coordinator lead on a-rather-long-host-name does not lead: its lease ended 31 s ago; nothing is recorded"
HINT = "look whether process 4711 is stopped or hangs; tqctl coordinator start adds another"
NOW = "2026-11-22T07:37:36.224Z"
FINDING = {"check": "eviction policy", "level": "problem", "message": MESSAGE, "hint": HINT}
ROWS: dict[str, tuple[View, dict[str, Any]]] = {
    "doctor": (FINDINGS, FINDING),
    "health list": (CHECKS, {**FINDING, "since": NOW, "success_rate": 0.5}),
    "health history": (HISTORY, {**FINDING, "since": NOW, "until": NOW, "runs": 7}),
    "events": (EVENTS, {"at": NOW, "kind": "restart", "subject": "broker", "message": MESSAGE, "length_s": 3.5}),
}
TASK = {
    "id": f"tsk_{7:026}",
    "handler": "resize",
    "payload": {"path": "/srv/images/of/a/long/name.png", "sizes": [1, 2, 3]},
    "reason": "cancelled by an operator who gave a reason that is as long as a sentence",
    "created_at": NOW,
    "attempts": [
        {
            "number": n,
            "outcome": "failed",
            "worker": f"wrk_{n:026}",
            "error": {"type": "Bad", "message": MESSAGE},
        }
        for n in (1, 2)
    ],
}


class _Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(params=[40, 80])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("COLUMNS", str(request.param))
    return int(request.param)


def shown(monkeypatch: pytest.MonkeyPatch, view: View, *rows: dict[str, Any], is_whole: bool = False) -> list[str]:
    screen = _Screen()
    with monkeypatch.context() as terminal:
        terminal.setattr(sys, "stdout", screen)
        output = Output("table")
        output.show(view, rows) if is_whole else output.rows(view, rows)
    return re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()


def words(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


@pytest.mark.parametrize("name", ROWS)
def test_what_was_found_and_what_mends_it_is_told_whole(
    name: str, columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    view, row = ROWS[name]

    lines = shown(monkeypatch, view, row, row)

    assert max(map(len, lines)) <= columns
    assert words(lines).count(MESSAGE) == 2
    assert "…" not in words(lines)
    if "hint" in row and name != "health history":
        assert words(lines).count(f"hint: {HINT}") == 2


def test_a_text_that_fits_stays_beside_its_row(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fine = {"check": "clock", "level": "ok", "message": "1 ms apart", "hint": None}

    lines = shown(monkeypatch, FINDINGS, FINDING, fine)

    assert re.fullmatch(r"clock +ok +1 ms apart", lines[-1])
    assert lines[0].split() == ["CHECK", "LEVEL", "MESSAGE"]


def test_a_process_is_shown_with_its_whole_state_and_never_with_half_a_path(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = "/home/somebody/.local/share/tqctl/default/logs/coordinator.log"
    row = {"role": "coordinator", "name": "coordinator", "pid": 32358, "state": "suspended", "version": "0.1.0"}

    header, line = shown(monkeypatch, PROCESSES, {**row, "since": NOW, "log": log})

    assert len(line) <= columns
    assert "suspended" in line
    assert "…" not in line
    assert "LOG" not in header


def test_one_object_fits_and_none_of_its_values_is_lost(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, TASKS, TASK, is_whole=True)

    # Only what is to be copied as it is, JSON, may be longer: the terminal breaks it.
    assert max(len(line) for line in lines if "{" not in line) <= columns
    told = words(lines)
    assert str(TASK["reason"]) in told
    assert told.count(f"Bad: {MESSAGE}") == 2
    assert {f"wrk_{n:026}" for n in (1, 2)} <= set(told.split())
    assert '{"path": "/srv/images/of/a/long/name.png", "sizes": [1, 2, 3]}' in "\n".join(lines)


def test_attempts_that_fit_stay_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    lines = shown(monkeypatch, TASKS, TASK, is_whole=True)

    assert [line.split()[0] for line in lines[-3:]] == ["NUMBER", "1", "2"]
