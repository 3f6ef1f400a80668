"""``tqctl health``: what the checks found over time, what was recovered from, and whether a process lives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqctl.arguments import Limit, Since, ago, moment, parse_when
from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.session import open_session

if TYPE_CHECKING:
    from tqctl_runtime.inspector import Inspector


def _percent(row: Mapping[str, Any]) -> str:
    rate = row.get("success_rate")
    return "" if rate is None else f"{rate:.1%}"


def _length(row: Mapping[str, Any]) -> str:
    from tqctl_runtime.core.clock import format_duration

    length = row.get("length_s")
    return "" if length is None else format_duration(length * 1000)


VIEW = View(
    "check",
    "check",
    ("check", "level", "since", "seen_at", "success_rate", "message", "hint"),
    (
        Column("check", "check", key=True),
        Column("level", "level", key=True),
        Column("since", lambda row: ago(row.get("since")), right=True),
        Column("ok 24h", _percent, right=True),
        Column("message", "message", narrow="below"),
        Column("hint", "hint", narrow="below"),
        Column("seen", lambda row: ago(row.get("seen_at")), right=True, wide=True),
    ),
)
HISTORY = View(
    "stretch",
    "check",
    ("check", "level", "since", "until", "runs", "message", "hint"),
    (
        Column("since", lambda row: moment(row.get("since")), key=True),
        Column("until", lambda row: moment(row.get("until")), narrow="drop"),
        Column("check", "check", key=True),
        Column("level", "level", key=True),
        Column("runs", "runs", right=True),
        Column("message", "message", narrow="below"),
        Column("hint", "hint", wide=True),
    ),
)
EVENTS = View(
    "event",
    "kind",
    ("at", "kind", "subject", "message", "length_s"),
    (
        Column("at", lambda row: moment(row.get("at")), key=True),
        Column("kind", "kind", key=True),
        Column("lasted", _length, right=True),
        Column("subject", "subject", narrow="drop"),
        Column("message", "message", narrow="below"),
    ),
)
SIGNS = View(
    "process",
    "name",
    ("name", "pid", "is_alive", "is_ready", "age_s"),
    (
        Column("name", "name", key=True),
        Column("pid", "pid", right=True),
        Column("alive", "is_alive"),
        Column("ready", "is_ready"),
        Column("seen", lambda row: _length({"length_s": row.get("age_s")}), right=True),
    ),
)
_DAY_MS = 86_400_000
#: How long results are kept at most.
_KEPT_MS = 30 * _DAY_MS
#: The leader looks each 30 s; results that are older than three looks are told to be old.
_STALE_MS = 90_000
app = noun(
    "What the checks found over time, and what was recovered from; now: tqctl doctor.",
    "  tqctl health list\n  tqctl health history --check workers --since 1d\n  tqctl health history --events",
)


@verb(app, "list", examples="  tqctl health list\n  tqctl health list -o json --fields check,level,success_rate")
def list_(ctx: typer.Context) -> None:
    """Show each check as the leading coordinator saw it last, with its success rate over 24 hours."""
    from datetime import datetime

    from tqctl_runtime.core.clock import format_duration, now_ms

    session = open_session(ctx)
    with session.inspector() as inspector:
        rows = [state.to_json() for state in inspector.checks(window_ms=_DAY_MS)]
    if not session.output.rows(VIEW, rows):
        session.note("no coordinator looked in the last 24 hours; look now: tqctl doctor")
        return
    last = max(datetime.fromisoformat(row["seen_at"]).timestamp() * 1000 for row in rows)
    age = now_ms() - last
    if age > _STALE_MS:
        session.note(f"seen last {format_duration(age)} ago: no coordinator looks; look now: tqctl doctor")


@verb(
    app,
    "history",
    examples="  tqctl health history --check workers --since 1d\n  tqctl health history --events --since 1h -o jsonl",
)
def history(
    ctx: typer.Context,
    check: Annotated[str | None, typer.Option(metavar="CHECK", help="of one check, such as workers")] = None,
    since: Since = None,
    events: Annotated[bool, typer.Option("--events", help="what was recovered from")] = False,
    limit: Limit = 50,
) -> None:
    """Show how long each check stayed at which level, or what was recovered from; the latest first."""
    from tqctl_runtime.core.errors import UsageError

    session = open_session(ctx)
    if events and check is not None:
        raise UsageError("--events are not of a check")
    begin = parse_when(since) or 0
    with session.inspector() as inspector:
        if events:
            view, rows = EVENTS, [event.to_json() for event in inspector.recoveries(since=begin, limit=limit)]
        else:
            found = inspector.check_history(_known(check, inspector), since=begin, limit=limit)
            view, rows = HISTORY, [stretch.to_json() for stretch in found]
    count = session.output.rows(view, rows)
    if not count:
        session.note("nothing was recovered from" if events else "nothing is recorded of it")
    elif count == limit:
        session.note(f"the first {count:,}; more with --limit")


@verb(
    app,
    "probe",
    examples="  tqctl health probe worker-1\n  tqctl health probe worker-1 --ready -q\n  tqctl health probe -o json",
)
def probe(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="one process; all of this machine")] = None,
    ready: Annotated[bool, typer.Option("--ready", help="ready for work, not only alive")] = False,
) -> None:
    """Tell whether processes of this machine are alive; 20 where one is not. Asks no server."""
    from dataclasses import asdict

    from tqctl_runtime.core.errors import CheckFailed, NotFound
    from tqctl_runtime.observe.probe import read, read_all
    from tqctl_runtime.observe.registry import folder

    session = open_session(ctx)
    place = folder(session.settings)
    signs = read_all(place) if name is None else [read(place, name)]
    if name is not None and signs[0].age_s is None:
        raise NotFound(f"no process {name!r} gives a sign of life", hint="tqctl health probe")
    session.output.rows(SIGNS, [asdict(sign) for sign in signs])
    if not signs:
        raise CheckFailed("no process of this context gives a sign of life", hint="tqctl status")
    bad = [sign.name for sign in signs if not (sign.is_ready if ready else sign.is_alive)]
    if bad:
        raise CheckFailed(f"not {'ready' if ready else 'alive'}: {', '.join(bad)}", hint="tqctl status --logs")


def _known(check: str | None, inspector: Inspector) -> str | None:
    """The check that the word means, also one of a package that only the coordinator has; ``-`` may stand for a blank.

    Raises:
        NotFound: there is none; near names are in the hint.
    """
    from difflib import get_close_matches

    from tqctl_runtime.checks import CHECKS
    from tqctl_runtime.core.errors import NotFound

    if check is None:
        return None
    names = {_plain(name): name for name in CHECKS}
    if _plain(check) not in names:
        names |= {_plain(state.check): state.check for state in inspector.checks(window_ms=_KEPT_MS)}
    if _plain(check) not in names:
        near = get_close_matches(_plain(check), names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "checks: " + ", ".join(names)
        raise NotFound(f"there is no check {check!r}", hint=hint)
    return names[_plain(check)]


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", " ")
