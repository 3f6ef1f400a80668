"""What goes to stdout: tables, JSON, CSV, names.

Rows are whole JSON-ready objects; a :class:`View` says how a noun's rows look as a table. Rich is imported only to
draw on a terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import IO, Any, Literal

from tqctl.narrow import below, blocks, pair, terminal_width
from tqctl.text import cell, dig, dump, plain_table, printable, printable_log
from tqctl_runtime.core.errors import UsageError

Row = Mapping[str, Any]
#: Blanks between two columns on a terminal.
_GAP = 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. *value* is a dotted path or a function of the row; *wide* ones need ``-o wide``.

    *narrow* is what becomes of it where the terminal is: its texts are ``cut``, it is left out (``drop``), or texts
    that do not fit stand ``below`` their rows. Keys are always whole, numbers are left out.
    """

    header: str
    value: str | Callable[[Row], object]
    right: bool = False
    wide: bool = False
    key: bool = False
    narrow: Literal["cut", "drop", "below"] = "cut"

    @property
    def is_fixed(self) -> bool:
        """Whether its texts are never cut."""
        return self.key or self.right or self.narrow != "cut"

    def text(self, row: Row) -> str:
        """The cell of *row*."""
        return cell(dig(row, self.value) if isinstance(self.value, str) else self.value(row))


@dataclass(frozen=True, slots=True)
class View:
    """How the rows of one noun are shown. *name* is the field that ``-o name`` prints, *fields* all JSON names."""

    noun: str
    name: str
    fields: tuple[str, ...]
    columns: tuple[Column, ...]


def wants_color(stream: IO[str], choice: str = "auto", environ: Mapping[str, str] | None = None) -> bool:
    """Whether *stream* gets colours: ``--color``, FORCE_COLOR, NO_COLOR, TERM=dumb, then whether it is a terminal."""
    environ = os.environ if environ is None else environ
    if choice != "auto":
        return choice == "always"
    if environ.get("FORCE_COLOR"):
        return True
    if environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


class Output:
    """Writes the data of one command to stdout in one format."""

    def __init__(self, output_format: str, fields: Sequence[str] = (), *, color: str = "auto") -> None:
        self.format = output_format
        self.fields = tuple(fields)
        self.color = color

    @property
    def is_tty(self) -> bool:
        """Whether a person sees stdout."""
        return sys.stdout.isatty()

    def line(self, text: str) -> None:
        """One line as it is."""
        sys.stdout.write(text + "\n")

    def value(self, value: object) -> None:
        """One JSON value on one line, the same on terminal and pipe."""
        self.line(dump(value))

    def log(self, data: bytes) -> None:
        """Bytes of a log: escaped for a terminal, as they are for a pipe."""
        if self.is_tty or not hasattr(sys.stdout, "buffer"):
            sys.stdout.write(printable_log(data.decode("utf-8", "backslashreplace")))
            return
        sys.stdout.flush()
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            os._exit(0)

    def rows(self, view: View, rows: Iterable[Row]) -> int:
        """All *rows*; returns how many there were."""
        self._check_fields(view)
        if self.format == "jsonl":
            return sum(self._json_line(row) for row in rows)
        items = list(rows)
        match self.format:
            case "json":
                self.line(dump([self._pick(row) for row in items], indent=2) if items else "[]")
            case "csv":
                self._csv(view, items)
            case "name":
                for row in items:
                    self.line(cell(row[view.name]))
            case _:
                if items:
                    self._table(self._columns(view), items)
        sys.stdout.flush()
        return len(items)

    def show(self, view: View, items: Sequence[Row]) -> None:
        """Whole objects: one JSON object for one, an array for several, blocks of lines in a table."""
        if self.format not in {"table", "wide", "json"} or (self.format == "json" and len(items) != 1):
            self.rows(view, items)
            return
        self._check_fields(view)
        if self.format == "json":
            self.line(dump(self._pick(items[0]), indent=2))
            return
        for number, item in enumerate(items):
            if number:
                self.line("")
            self._block(self._pick(item))

    def _json_line(self, row: Row) -> int:
        self.line(dump(self._pick(row)))
        return 1

    def _pick(self, row: Row) -> Row:
        return {path: dig(row, path) for path in self.fields} if self.fields else row

    def _check_fields(self, view: View) -> None:
        for path in self.fields:
            head = path.partition(".")[0]
            if head not in view.fields:
                near = get_close_matches(head, view.fields, n=3, cutoff=0.5)
                hint = f"did you mean {' or '.join(near)}?" if near else "fields: " + ", ".join(view.fields)
                raise UsageError(f"a {view.noun} has no field {head!r}", hint=hint)

    def _columns(self, view: View) -> list[Column]:
        if self.fields:
            return [Column(path, path, key=path == view.name) for path in self.fields]
        return [column for column in view.columns if self.format == "wide" or not column.wide]

    def _csv(self, view: View, rows: Sequence[Row]) -> None:
        import csv

        names = self.fields or view.fields
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([cell(dig(row, name)) for name in names] for row in rows)

    def _table(self, columns: Sequence[Column], rows: Sequence[Row]) -> None:
        texts = [[column.text(row) for column in columns] for row in rows]
        if self.is_tty or self.color == "always":
            self._draw(columns, texts)
            return
        for line in plain_table([c.header for c in columns], texts, [c.right for c in columns]):
            self.line(line)

    def _draw(self, columns: Sequence[Column], texts: Sequence[Sequence[str]]) -> None:
        from rich.cells import cell_len
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        has_color = wants_color(sys.stdout, self.color)
        console = Console(
            file=sys.stdout, no_color=not has_color, force_terminal=has_color or None, highlight=False, soft_wrap=False
        )
        table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        lifts = self.format == "wide"
        overflow: Any = "fold" if lifts else "ellipsis"
        natural = [
            max(cell_len(text) for text in (c.header, *(row[i] for row in texts))) for i, c in enumerate(columns)
        ]
        under = [] if lifts else _under(columns, natural, console.width)
        # What lifts is folded, and wider than the terminal where that is not enough.
        widths = dict(enumerate(natural)) if lifts else _fit(columns, natural, console.width, under)
        for place, width in widths.items():
            column = columns[place]
            is_fixed = column.key or column.right
            justify: Any = "right" if column.right else "left"
            table.add_column(column.header.upper(), justify=justify, no_wrap=is_fixed or not lifts, overflow=overflow)
            if is_fixed or not lifts:
                table.columns[-1].min_width = table.columns[-1].max_width = width
        for row in texts:
            table.add_row(*(Text(row[place], style=state_style(row[place])) for place in widths))
        room = console.width
        least = sum(widths[place] + _GAP for place in widths if columns[place].key) - _GAP
        console.width = max(room, least)
        if not under:
            console.print(table)
            return
        with console.capture() as drawn:
            console.print(table)
        header, *lines = drawn.get().splitlines()
        left = room - sum(widths.values()) - _GAP * len(widths)
        title = columns[under[0]].header.upper()
        self.line(f"{header} {title}" if len(title) <= left else header)
        for line, row in zip(lines, texts, strict=True):
            first, *others = [("" if place == under[0] else columns[place].header, row[place]) for place in under]
            is_beside = cell_len(first[1]) <= left
            self.line(f"{line} {first[1]}" if is_beside else line)
            for told in below(others if is_beside else [first, *others], room):
                self.line(told)

    def _block(self, item: Row) -> None:
        shown = {name: value for name, value in item.items() if value not in (None, "", [], {}, ())}
        width = max((len(name) for name in shown), default=0)
        room = terminal_width() if self.is_tty else None
        for name, value in shown.items():
            if isinstance(value, list | tuple) and value and all(isinstance(part, Mapping) for part in value):
                self._nested(name, value, room)
            elif isinstance(value, Mapping) and any("\n" in str(part) for part in value.values()):
                self._long(name, value)
            elif room is None:
                self.line(f"{name:<{width}}  {cell(value)}")
            else:
                for line in pair(name, cell(value), width, room, keeps=not isinstance(value, str)):
                    self.line(line)

    def _nested(self, name: str, rows: Sequence[Row], room: int | None) -> None:
        self.line(f"{name}:")
        names = list(dict.fromkeys(key for row in rows for key in row))
        texts = [[short(row.get(key)) for key in names] for row in rows]
        used = [i for i, _ in enumerate(names) if any(row[i] for row in texts)]
        picked = [[row[i] for i in used] for row in texts]
        heads = [names[i] for i in used]
        lines = [f"  {line}" for line in plain_table(heads, picked, [False] * len(used))]
        if room is not None and max(map(len, lines)) > room:
            lines = blocks(heads, [dict(zip(heads, row, strict=True)) for row in picked], room)
        for line in lines:
            self.line(line)

    def _long(self, name: str, parts: Row) -> None:
        self.line(f"{name}:")
        for key, value in parts.items():
            for number, text in enumerate(str(value).rstrip("\n").split("\n") if value is not None else []):
                self.line(f"  {key + ':' if not number else '':<11} {printable(text)}")


def _under(columns: Sequence[Column], natural: Sequence[int], room: int) -> list[int]:
    """Places of the columns that go below their rows: from the right, until the others fit into *room* uncut."""
    chosen: list[int] = []
    for place in reversed([place for place, column in enumerate(columns) if column.narrow == "below"]):
        if sum(natural) - sum(natural[other] for other in chosen) + _GAP * (len(natural) - len(chosen) - 1) <= room:
            break
        chosen.insert(0, place)
    return chosen


def _fit(columns: Sequence[Column], natural: Sequence[int], room: int, under: Sequence[int]) -> dict[int, int]:
    """Place → width of the columns that *room* characters are enough for, from the left, without those that go *under*.

    Keys are never cut nor left out, numbers never cut; what is left is shared by making the widest narrower.
    """
    least = [
        natural[place] if column.is_fixed else min(natural[place], len(column.header))
        for place, column in enumerate(columns)
    ]
    kept = [place for place, column in enumerate(columns) if column.key]
    for place, column in enumerate(columns):
        is_in_row = not column.key and place not in under
        if is_in_row and sum(least[other] + _GAP for other in (*kept, place)) - _GAP <= room:
            kept.append(place)
    widths = {place: natural[place] for place in sorted(kept)}
    while sum(widths.values()) + _GAP * (len(widths) - 1) > room:
        spare = {place: width for place, width in widths.items() if width > least[place]}
        if not spare:
            break
        widths[max(spare, key=spare.__getitem__)] -= 1
    return widths


def short(value: object) -> str:
    """A cell of a table inside of a block: of an error only type and message."""
    if isinstance(value, Mapping) and "message" in value:
        return printable(f"{value.get('type') or 'error'}: {value['message']}")
    return cell(value)


_STYLES = {
    "running": "cyan",
    "succeeded": "green",
    "live": "green",
    "up": "green",
    "dead": "red",
    "lost": "red",
    "failed": "red",
    "expired": "red",
    "cancelled": "yellow",
    "retrying": "yellow",
    "paused": "yellow",
}


def state_style(text: str) -> str:
    """The colour of a cell that is the name of a state; none for every other text."""
    return _STYLES.get(text, "")
