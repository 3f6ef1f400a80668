"""No room grows too large: functions, modules and Lua files have a limit, without exceptions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_LINES, MODULE_LINES, LUA_LINES = 60, 450, 80
FOLDERS = ("tqctl", "runtime", "campaigns", "tests", "examples")


def sources(pattern: str) -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob(pattern))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of its steps: signature and docstring are a table that is looked up, not followed."""
    first = node.body[1] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body[0]
    return (node.end_lineno or first.lineno) - first.lineno + 1


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", sources("*.py"), ids=name_of)
def test_a_module_and_its_functions_stay_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= MODULE_LINES, "split the module"
    long = {node.name: lines_of(node) for node in functions(ast.parse(text)) if lines_of(node) > FUNCTION_LINES}
    assert not long, f"split these functions: {long}"


@pytest.mark.parametrize("path", sources("*.lua"), ids=name_of)
def test_a_lua_file_stays_small(path: Path) -> None:
    assert path.read_text(encoding="utf-8").count("\n") <= LUA_LINES
