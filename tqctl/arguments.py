"""Arguments and options that several commands share, and the small grammars behind them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from tqctl_runtime.core.clock import parse_duration_ms, parse_instant
from tqctl_runtime.core.errors import UsageError

Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="whole ids, their last 4 or more characters, or -")]
SomeIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="whole ids, tails of them, or -")]
Names = Annotated[list[str], typer.Argument(metavar="NAME...")]
Limit = Annotated[int, typer.Option(metavar="ROWS", help="rows at most", min=1, max=100_000)]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="again and again")]
Interval = Annotated[str, typer.Option(metavar="2s", help="period of --watch")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="kept in the record")]
Since = Annotated[str | None, typer.Option(metavar="TIME", help="1h, -1h or ISO")]
Until = Annotated[str | None, typer.Option(metavar="TIME", help="1h, -1h or ISO")]
QueueName = Annotated[str | None, typer.Option(metavar="QUEUE")]
StateNames = Annotated[list[str] | None, typer.Option("--state", metavar="STATE", help="repeatable")]
TagPairs = Annotated[list[str] | None, typer.Option("--tag", metavar="K=V", help="repeatable")]
TenantName = Annotated[str | None, typer.Option("--tenant", metavar="NAME")]
HandlerName = Annotated[str | None, typer.Option(metavar="HANDLER")]

_SHORTEST_INTERVAL_MS = 100


def parse_interval(text: str) -> int:
    """The period of ``--watch`` in ms.

    Raises:
        UsageError: not a duration, or too short for the servers.
    """
    period = parse_duration_ms(text)
    if period < _SHORTEST_INTERVAL_MS:
        raise UsageError(f"--interval {text}: at least {_SHORTEST_INTERVAL_MS}ms")
    return period


def parse_when(text: str | None) -> int | None:
    """The instant of ``--since`` or ``--until`` in ms: a bare duration lies in the past."""
    if text is None:
        return None
    return round(parse_instant(text, now=datetime.now().astimezone()).timestamp() * 1000)


def require_one(words: Sequence[str] | None, what: str) -> list[str]:
    """*words*, of which there must be one at least.

    Raises:
        UsageError: there are none.
    """
    if not words:
        raise UsageError(f"no {what} is named")
    return list(words)


def who() -> str:
    """Who asks, as the record keeps it: user@host."""
    import getpass
    import socket

    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as containers have them
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def moment(iso_text: object) -> str:
    """An instant of JSON output to the second, without the year, such as ``11-22 07:37:36Z``; empty for none."""
    return f"{iso_text[5:10]} {iso_text[11:19]}Z" if isinstance(iso_text, str) else ""


def ago(iso_text: object) -> str:
    """The age of an instant of JSON output, such as ``3m12s``; empty for none."""
    from tqctl_runtime.core.clock import format_duration, now_ms

    if not isinstance(iso_text, str):
        return ""
    moment = datetime.fromisoformat(iso_text).timestamp() * 1000
    return format_duration(now_ms() - moment)
