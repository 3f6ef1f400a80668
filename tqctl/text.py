"""Text that is safe and short on a terminal."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

#: Control characters, lone surrogates, and marks that reverse or hide text. Compiled by their first use, which a
#: submit does not come to.
_UNSAFE = "[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
_UNSAFE_IN_JSON = "[\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
_UNSAFE_IN_LOG = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
_SHORT = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return _SHORT.get(match[0]) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def printable(value: object) -> str:
    """*value* as one line in which nothing can move the cursor or change colours."""
    return re.sub(_UNSAFE, _escape, str(value))


def printable_log(text: str) -> str:
    """Lines of a log for a terminal: line breaks and tabs stay, everything else that acts is escaped."""
    return re.sub(_UNSAFE_IN_LOG, _escape, text)


def shell_line(words: Sequence[str]) -> str:
    """*words* as one printable line that bash, zsh and the like read back as the same words."""
    return " ".join(_shell_word(word) for word in words)


def _shell_word(word: str) -> str:
    import shlex

    if not re.search(_UNSAFE, word):
        return shlex.quote(word)
    quoted = word.replace("\\", "\\\\").replace("'", "\\'")
    return "$'" + re.sub(_UNSAFE, _shell_escape, quoted) + "'"


def _shell_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    # Bytes of an argument that are no text arrive as lone surrogates of this range.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def dump(value: object, *, indent: int | None = None) -> str:
    """*value* as JSON that people can read and any terminal can show."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    return re.sub(_UNSAFE_IN_JSON, _json_escape, text)


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    # Half of a surrogate pair is no text: jq and others refuse a whole document for it, also where it is escaped.
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\\u{code:04x}"


def cell(value: object) -> str:
    """*value* as the text of one table cell; nothing is an empty text, objects and lists are JSON."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping | list | tuple):
        return printable(dump(value)) if value else ""
    return str(value)


def dig(row: Mapping[str, Any], path: str) -> Any:
    """The value of dotted *path* in *row*; None where a step is missing. A number picks an element of a list."""
    value: Any = row
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list | tuple) and step.lstrip("-").isdigit():
            place = int(step)
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return None
    return value


def plural(count: int, word: str) -> str:
    """``1 task``, ``2,000 tasks``, ``3 processes``."""
    if count == 1:
        return f"1 {word}"
    return f"{count:,} {word}{'es' if word.endswith('s') else 's'}"


def plain_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool]) -> list[str]:
    """Lines of a table in aligned columns, two spaces apart, without box or truncation."""
    widths = [max([len(header), *(len(row[i]) for row in rows)]) for i, header in enumerate(headers)]
    lines = []
    for row in [[header.upper() for header in headers], *rows]:
        cells = [
            text.rjust(width) if is_right else text.ljust(width)
            for text, width, is_right in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
