"""``--watch``: the same listing again and again, redrawn on a terminal, told as changes elsewhere."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from tqctl.guard import end_with_reader
from tqctl.output import Output, Row, View
from tqctl.text import dump
from tqctl_runtime.core.errors import UsageError

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _CLEAR_REST = "\x1b[H", "\x1b[J"


def watch(output: Output, view: View, read: Callable[[], Sequence[Row]], interval_ms: int) -> None:
    """Show what *read* returns every *interval_ms* until interrupted.

    On a terminal the table is redrawn and its last state stays; elsewhere each change is a line
    ``{"type":"ADDED|MODIFIED|REMOVED","object":…}``.

    Raises:
        UsageError: the format can neither be redrawn nor told as changes.
    """
    if output.format not in {"table", "wide", "jsonl"}:
        raise UsageError(f"--watch cannot be combined with -o {output.format}", hint="use -o table or -o jsonl")
    end_with_reader()
    if output.is_tty and output.format != "jsonl":
        _redraw(output, view, read, interval_ms / 1000)
    else:
        _tell_changes(view, read, interval_ms / 1000)


def _redraw(output: Output, view: View, read: Callable[[], Sequence[Row]], seconds: float) -> None:
    frame = ""
    sys.stdout.write(_ENTER)
    try:
        while True:
            frame = _frame(output, view, read())
            sys.stdout.write(_HOME + frame.replace("\n", "\x1b[K\n") + _CLEAR_REST)
            sys.stdout.flush()
            time.sleep(seconds)
    finally:
        sys.stdout.write(_LEAVE + frame)
        sys.stdout.flush()


class _Frame(io.StringIO):
    """Collects one frame while still looking like the terminal."""

    def __init__(self, terminal: Any) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return int(self._terminal.fileno())


def _frame(output: Output, view: View, rows: Sequence[Row]) -> str:
    terminal = sys.stdout
    sys.stdout = frame = _Frame(terminal)
    try:
        if not output.rows(view, rows):
            output.line(f"no {view.noun} yet")
    finally:
        sys.stdout = terminal
    return frame.getvalue()


def _tell_changes(view: View, read: Callable[[], Sequence[Row]], seconds: float) -> None:
    known: dict[str, Row] = {}
    while True:
        now = {str(row[view.name]): row for row in read()}
        for name, row in now.items():
            if known.get(name) != row:
                _tell("MODIFIED" if name in known else "ADDED", row)
        for name in known.keys() - now.keys():
            _tell("REMOVED", known[name])
        sys.stdout.flush()
        known = now
        time.sleep(seconds)


def _tell(kind: str, row: Row) -> None:
    sys.stdout.write(dump({"type": kind, "object": row}) + "\n")
