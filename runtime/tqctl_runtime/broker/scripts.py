"""Assembles the Lua operations: includes, constants and keys written out, unused functions left out, one SHA-1 each.

A file in ``lua/`` is one operation; ``--- include NAME`` lines pull in ``lua/include/NAME.lua``, each once, depth
first. Scripts are called by content hash, so two releases never share one.
"""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tqctl_runtime.broker.keys import write_keys
from tqctl_runtime.core.retry import MAX_DEATHS
from tqctl_runtime.core.states import OUTCOME_CODES, STATE_CODES

_ROOT = Path(__file__).parent / "lua"
_INCLUDE = re.compile(r"^--- include (\w+)$", re.MULTILINE)
#: Names in capitals with numbers or texts for all time, and where they may be used: texts are looked over whole.
_DECLARED = re.compile(r"^local ([A-Z][A-Z_, ]*) = ((?:\d+|'[^'\n]*')(?:, (?:\d+|'[^'\n]*'))*)\n", re.MULTILINE)
_NAME_OR_TEXT = re.compile(r"'[^'\n]*'|\b[A-Z][A-Z_]*\b")
_FUNCTION = re.compile(r"^local function (\w+)\([^)\n]*\)\n(?:(?: [^\n]*)?\n)*?end\n", re.MULTILINE)
_WORD = re.compile(r"\w+")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)

#: The layout of lines in ``st``; a script refuses another one.
LINE_LAYOUT = 1
#: Priority moves a task this many milliseconds forward: 17 years, so it is strict, and scores stay exact doubles.
PRIORITY_BAND = 2**39


class Script(NamedTuple):
    """One assembled operation."""

    name: str
    source: str
    sha: str


def operation_names() -> list[str]:
    """All operations by name."""
    return sorted(path.stem for path in _ROOT.glob("*.lua"))


@cache
def load(name: str) -> Script:
    """The assembled operation *name*."""
    try:
        from _sha1 import sha1  # type: ignore[import-not-found,unused-ignore]  # no stub for it; hashlib would load OpenSSL, which costs a shell submit two milliseconds
    except ImportError:
        from hashlib import sha1
    text = (_ROOT / f"{name}.lua").read_text(encoding="utf-8")
    shebang, _, body = text.partition("\n")
    body = _without_unused(_COMMENT.sub("", _expand(body, name, set(), ())))
    source = f"{shebang}\n{write_keys(_write_constants(body))}"
    return Script(name, source, sha1(source.encode()).hexdigest())  # noqa: S324  Redis names scripts so


def _expand(text: str, place: str, seen: set[str], path: tuple[str, ...]) -> str:
    def pull(match: re.Match[str]) -> str:
        name = match[1]
        if name in path:
            raise ValueError(f"{place}: include cycle {' -> '.join((*path, name))}")
        if name in seen:
            return ""
        seen.add(name)
        included = (_ROOT / "include" / f"{name}.lua").read_text(encoding="utf-8")
        return _expand(included, place, seen, (*path, name))

    return _INCLUDE.sub(pull, text)


def _without_unused(body: str) -> str:
    """*body* without the functions of its includes that it does not call: Lua makes each anew in every call."""
    lean = _without_uncalled(body)
    while lean != body:
        body, lean = lean, _without_uncalled(lean)
    return body


def _without_uncalled(body: str) -> str:
    words = Counter(_WORD.findall(body))
    return _FUNCTION.sub(lambda match: match[0] if words[match[1]] > 1 else "", body)


def _write_constants(body: str) -> str:
    """*body* with literals for the names of states and outcomes, and for those it declares itself.

    Every local that a function uses is captured anew in each call of the script, which costs more than the function.
    """
    values = {f"S_{state.upper()}": str(code) for state, code in STATE_CODES.items()}
    values |= {f"O_{outcome.upper()}": str(code) for outcome, code in OUTCOME_CODES.items()}
    values |= {"LINE_LAYOUT": str(LINE_LAYOUT), "PRIORITY_BAND": str(PRIORITY_BAND), "MAX_DEATHS": str(MAX_DEATHS)}

    def declare(match: re.Match[str]) -> str:
        values.update(zip(match[1].split(", "), match[2].split(", "), strict=True))
        return ""

    body = _DECLARED.sub(declare, body)
    return _NAME_OR_TEXT.sub(lambda match: values.get(match[0], match[0]), body)
