"""Text for a terminal that is narrower than what is to be shown: nothing is cut, long things get lines of their own."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence

#: A column of text that is narrower is worse to read than lines of their own.
_READABLE = 24


def terminal_width() -> int:
    """Columns of the terminal, as ``COLUMNS`` or the terminal itself says."""
    return shutil.get_terminal_size().columns


def wrap(text: str, room: int, *, first: str = "", rest: str = "") -> list[str]:
    """*text* in lines of *room* characters, broken between words alone: ids, paths and commands stay whole."""
    lines = textwrap.wrap(
        text, room, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
    return lines or [first.rstrip()]


def below(parts: Sequence[tuple[str, str]], room: int) -> list[str]:
    """(label, text) of one row as lines under it; an empty label is not told, an empty text is left out."""
    lines: list[str] = []
    for label, text in parts:
        if text:
            lines += wrap(text, room, first=f"  {label}: " if label else "  ", rest="    " if label else "  ")
    return lines


def pair(name: str, text: str, width: int, room: int, *, indent: int = 0, keeps: bool = False) -> list[str]:
    """*name* and its *text* beside it, *width* characters on, or under it where there is no room.

    *keeps*: the text is to be copied as it is, such as JSON; only the terminal itself may break it.
    """
    margin = " " * indent
    beside = f"{margin}{name:<{width}}  "
    if len(beside) + len(text) <= room:
        return [beside + text]
    if not keeps and room - len(beside) >= max(_READABLE, *map(len, text.split())):
        return wrap(text, room, first=beside, rest=" " * len(beside))
    under = f"{margin}  "
    return [margin + name, *([under + text] if keeps else wrap(text, room, first=under, rest=under))]


def blocks(names: Sequence[str], rows: Sequence[Mapping[str, str]], room: int) -> list[str]:
    """Each of *rows* as lines ``name  text``, the first of them as its title."""
    width = max(map(len, names[1:]), default=0)
    lines = []
    for row in rows:
        lines.append(f"  {names[0]} {row[names[0]]}")
        for name in names[1:]:
            if row[name]:
                lines += pair(name, row[name], width, room, indent=4)
    return lines
