"""``tqctl queue``: sizes and heads, pausing, purging."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqctl.arguments import Interval, Names, Reason, Watch, parse_interval, who
from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.session import open_session
from tqctl.text import plural

if TYPE_CHECKING:
    from tqctl_runtime.inspector import Inspector


def _paused(row: Mapping[str, Any]) -> str:
    pause = row.get("pause")
    if not pause:
        return ""
    until = f" until {pause['until']}" if pause.get("until") else ""
    return f"paused{until}" + (f": {pause['reason']}" if pause.get("reason") else "")


VIEW = View(
    "queue",
    "name",
    ("name", "queued", "suspects", "head", "pause", "scheduled", "retrying", "running", "workers", "is_paused"),
    (
        Column("name", "name", key=True),
        Column("queued", "queued", right=True),
        Column("running", "running", right=True),
        Column("scheduled", "scheduled", right=True),
        Column("retrying", "retrying", right=True),
        Column("workers", lambda row: len(row.get("workers") or ()), right=True),
        Column("state", _paused),
        Column("head", "head", wide=True),
        Column("suspects", "suspects", right=True, wide=True),
    ),
)
app = noun(
    "Queues: sizes, pausing, purging.",
    "  tqctl queue list --watch\n  tqctl queue pause images --for 10m --reason 'disk full'\n"
    "  tqctl queue purge images --yes",
)


@verb(app, "list")
def list_(ctx: typer.Context, watch: Watch = False, interval: Interval = "2s") -> None:
    """List queues that have unfinished tasks, a pause or a live worker."""
    session = open_session(ctx)
    period = parse_interval(interval)
    with session.inspector() as inspector:

        def read() -> list[Mapping[str, Any]]:
            return [queue.to_json() for queue in inspector.queues()]

        if watch:
            from tqctl.watch import watch as run_watch

            run_watch(session.output, VIEW, read, period)
            return
        rows = read()
        session.remark(inspector)
    if not session.output.rows(VIEW, rows):
        session.note("no queue has tasks, a pause or a worker")


@verb(app, "show")
def show(ctx: typer.Context, names: Names) -> None:
    """Show queues whole, with the next task; also empty ones that are in no list any more."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        rows = [inspector.queue(name).to_json() for name in names]
    session.output.show(VIEW, rows)


@verb(app, "pause", examples="  tqctl queue pause images --for 10m --reason 'disk full'")
def pause(
    ctx: typer.Context,
    names: Names,
    duration: Annotated[str | None, typer.Option("--for", metavar="10m", help="default: until resumed")] = None,
    reason: Reason = "",
) -> None:
    """Stop claims from queues; running tasks go on, submits are accepted."""
    from tqctl_runtime.core.clock import iso, parse_duration_ms

    session = open_session(ctx)
    for_ms = parse_duration_ms(duration) if duration is not None else 0
    with session.inspector() as inspector:
        for name in check_names(names):
            doubt = _doubt(inspector, name)
            until = inspector.pause(name, for_ms=for_ms, reason=reason, who=who())
            session.note(f"queue {name} is paused " + (f"until {iso(until)}" if until else "until it is resumed"))
            if doubt is not None:
                session.note(doubt)


@verb(app, "resume")
def resume(ctx: typer.Context, names: Names) -> None:
    """Let claims go on."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        for name in check_names(names):
            was_paused = inspector.resume(name, who=who())
            session.note(f"queue {name} goes on" if was_paused else f"queue {name} was not paused")


@verb(app, "purge", examples="  tqctl queue purge images --yes")
def purge(ctx: typer.Context, names: Names) -> None:
    """Cancel everything that waits in queues; running and scheduled tasks stay."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        for queue in [inspector.queue(name) for name in names]:
            session.confirm(f"cancel {plural(queue.queued, 'task')} of queue {queue.name}")
            done = inspector.purge(queue.name, who=who())
            session.note(f"{plural(done, 'task')} of queue {queue.name} cancelled")


def check_names(names: list[str]) -> list[str]:
    """*names*, which must be able to name queues.

    Raises:
        UsageError: one cannot.
    """
    from tqctl_runtime.core.errors import UsageError
    from tqctl_runtime.core.ids import is_name

    for name in names:
        if not is_name(name):
            raise UsageError(f"{name!r} is not a queue name", hint="1 to 100 of A-Z a-z 0-9 . _ -")
    return names


def _doubt(inspector: Inspector, name: str) -> str | None:
    """What to say where neither a task, a worker nor a handler has named queue *name*: it may be mistyped."""
    from tqctl_runtime.core.errors import NotFound, RecordUnavailable

    named = {str(row["queue"]) for row in inspector.handlers() if row.get("queue")}
    try:
        if name not in named:
            inspector.queue(name)
    except NotFound:
        near = get_close_matches(name, {*named, *(queue.name for queue in inspector.queues())}, n=3, cutoff=0.5)
        meant = f"did you mean {' or '.join(near)}? " if near else ""
        return f"{meant}nothing has used queue {name} yet; to take it back: tqctl queue resume {name}"
    except RecordUnavailable:
        return None
    return None
