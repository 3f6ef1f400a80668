"""Every Lua operation says what it takes, what it answers and which invariants it keeps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LUA = ROOT / "runtime" / "tqctl_runtime" / "broker" / "lua"
OPERATIONS = sorted(LUA.glob("*.lua"))
INCLUDES = sorted((LUA / "include").glob("*.lua"))


def header(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines[1:] if line.startswith("--") and not line.startswith("---"))


def body(path: Path) -> str:
    return "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("--"))


@pytest.mark.parametrize("path", OPERATIONS, ids=lambda path: path.stem)
def test_an_operation_has_a_whole_header(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.match(r"#!lua( flags=[a-z,-]+)?\n-- [A-Z]", text), "a shebang, then one line of purpose"
    for word in ("KEYS", "ARGV", "Returns", "Invariants: (INV-|none, it only reads)"):
        assert re.search(rf"^-- {word}", header(path), re.MULTILINE), f"the header does not tell {word}"


@pytest.mark.parametrize("path", INCLUDES, ids=lambda path: path.stem)
def test_an_include_says_what_it_holds(path: Path) -> None:
    assert re.match(r"-- [A-Z]", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", OPERATIONS + INCLUDES, ids=lambda path: path.stem)
def test_no_script_spells_a_key(path: Path) -> None:
    # Builders are k_NAME, generated from one table; else PREFIX only names channels, and only the gate reads KEYS.
    assert not re.search(r"PREFIX", re.sub(r"'PUBLISH', PREFIX", "", body(path)))
    assert "KEYS[" not in body(path) or path.stem == "gate"
    assert not re.search(r"redis\.p?call\('(KEYS|SCAN|RANDOMKEY|EVAL|FLUSH)", body(path))


@pytest.mark.parametrize("path", OPERATIONS + INCLUDES, ids=lambda path: path.stem)
def test_time_is_asked_in_one_place(path: Path) -> None:
    assert "'TIME'" not in body(path) or path.stem == "clock"
