"""``tqctl up``, ``down`` and ``status``: the whole of a context on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tqctl.arguments import Interval, Watch, ago, parse_interval
from tqctl.flags import UpCommand, single, verb
from tqctl.output import Column, View
from tqctl.session import Session, open_session
from tqctl.text import plural

if TYPE_CHECKING:
    from tqctl_runtime.broker.lag import Lag
    from tqctl_runtime.stack import StackStatus

VIEW = View(
    "process",
    "name",
    ("role", "name", "pid", "since", "state", "version", "log", "host", "seen_at"),
    (
        Column("role", "role", key=True),
        Column("name", "name", key=True),
        Column("pid", "pid", right=True),
        Column("state", "state", key=True),
        Column("age", lambda row: ago(row.get("since")), right=True),
        Column("version", "version", narrow="drop"),
        Column("log", "log", narrow="drop"),
        Column("host", "host", wide=True),
        Column("seen", lambda row: ago(row.get("seen_at")), right=True, wide=True),
    ),
)
up_app, down_app, status_app = single(), single(), single()


@verb(
    up_app,
    "up",
    cls=UpCommand,
    examples="  tqctl up --detach\n  tqctl up --app tasks.py --workers 2 --concurrency 10",
)
def up(
    ctx: typer.Context,
    detach: Annotated[bool, typer.Option("--detach", help="go on in the background once all is ready")] = False,
) -> int:
    """Start broker, coordinator and workers; in the foreground Ctrl-C stops them again."""
    from dataclasses import asdict

    from tqctl.starting import settings_for_start
    from tqctl_runtime import stack
    from tqctl_runtime.stack.state import inhabitant

    session = open_session(ctx)
    settings = settings_for_start(session, logs_here=False)
    if not detach:
        return stack.up(settings, on_event=session.note)
    processes = stack.up_detached(settings)
    if session.flags.output is not None:
        session.output.rows(VIEW, [asdict(inhabitant(info)) for info in processes])
    session.note(f"{plural(len(processes), 'process')} of context {settings.context} ready; stop: tqctl down")
    return 0


@verb(down_app, "down", examples="  tqctl down\n  tqctl down --force\n  tqctl down --delete-data --yes")
def down(
    ctx: typer.Context,
    force: Annotated[bool, typer.Option("--force", help="running tasks are handed back at once")] = False,
    delete_data: Annotated[bool, typer.Option("--delete-data", help="also the queue and the record")] = False,
) -> int:
    """Stop what runs of this context on this machine; running tasks get time to end."""
    from tqctl_runtime import stack

    session = open_session(ctx)
    settings = session.settings
    if delete_data:
        session.confirm(f"delete everything in {settings.context_home}")
    done = stack.down(settings, force=force, delete_data=delete_data)
    stopped = [plural(len(done.processes), "process")] if done.processes else []
    stopped += ["the private server"] if done.broker else []
    session.note(f"{' and '.join(stopped)} stopped" if stopped else "nothing ran")
    if done.killed:
        session.note("killed: " + ", ".join(f"{info.name} (pid {info.pid})" for info in done.killed))
    if done.data_deleted:
        session.note(f"{settings.context_home} deleted")
    return _FORCED if done.killed else 0


_FORCED = 7


@verb(status_app, "status", examples="  tqctl status\n  tqctl status --watch\n  tqctl status --logs -f worker")
def status(
    ctx: typer.Context,
    role: Annotated[str | None, typer.Argument(metavar="[ROLE]", help="with --logs: whose")] = None,
    logs: Annotated[bool, typer.Option("--logs", help="print the logs of processes")] = False,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="with --logs: go on")] = False,
    lines: Annotated[int, typer.Option(metavar="N", help="with --logs: of each file", min=0)] = 20,
    watch: Watch = False,
    interval: Interval = "2s",
) -> None:
    """Show what runs; 0 where it is ready, 69 where a server or coordinator is away, 78 where the stores are no pair.

    While SQL is away it answers from Redis, and with 69: tasks run on, nothing is recorded.
    """
    from dataclasses import asdict

    from tqctl_runtime import stack
    from tqctl_runtime.core.errors import UsageError

    session = open_session(ctx)
    if not logs and (role is not None or follow):
        raise UsageError("ROLE and --follow belong to --logs", hint="tqctl status --logs -f worker")
    if logs:
        _logs(session, role, is_followed=follow, lines=lines)
        return
    period = parse_interval(interval)
    if watch:
        from tqctl.watch import watch as run_watch

        run_watch(session.output, VIEW, lambda: list(map(asdict, stack.status(session.settings).inhabitants)), period)
        return
    found = stack.status(session.settings)
    session.output.rows(VIEW, map(asdict, found.inhabitants))
    for line in _summary(found):
        session.note(line)
    if found.trouble is not None:
        raise found.trouble


def _logs(session: Session, role: str | None, *, is_followed: bool, lines: int) -> None:
    from tqctl.text import printable_log
    from tqctl_runtime.observe.files import tail
    from tqctl_runtime.stack import follow, log_files

    paths = log_files(session.settings, role)
    if not paths:
        session.note("no process of this context ever ran; tqctl up --detach")
        return
    width = max(len(path.stem) for path in paths) if len(paths) > 1 else 0

    def show(name: str, line: str) -> None:
        prefix = f"{name:<{width}} | " if width else ""
        session.output.line(prefix + printable_log(line))

    if not is_followed:
        for path in paths:
            for line in tail(path, lines).splitlines():
                show(path.stem, line)
        return
    import sys

    from tqctl.guard import end_with_reader

    end_with_reader()
    for name, line in follow(paths, lines=lines):
        show(name, line)
        sys.stdout.flush()


def _record_lines(lag: Lag) -> list[str]:
    """Where the record is, how far it is behind, and what comes of it."""
    told = [f"recorded into {lag.record}"] if lag.record else []
    return told + [f"the record is {lag.behind}"] * bool(lag.behind) + lag.pressure


def _summary(found: StackStatus) -> list[str]:
    from tqctl_runtime.core.clock import format_duration
    from tqctl_runtime.observe import registry

    broker, overview = found.broker, found.overview
    place = f", {broker.kind} {broker.version} at {broker.address}" if broker is not None else ""
    lines = [f"context {found.context}, namespace {found.namespace}{place}"]
    stopped = [info.name for info in found.processes if info.state == registry.STOPPED]
    if stopped:
        lines.append(f"stopped by hand, and stays so: {', '.join(stopped)}; back: {registry.COMES_BACK}")
    lines += [
        f"{one.name} is suspended by a signal; it goes on with: kill -CONT {one.pid}"
        for one in found.inhabitants
        if one.state == registry.SUSPENDED
    ]
    lines += [
        f"{one.name} is silent: no sign for {ago(one.seen_at)}"
        for one in found.inhabitants
        if one.state in ("silent", "late") and one.seen_at
    ]
    if overview is None:
        return lines
    queued = sum(queue.ready + queue.suspects for queue in overview.queues)
    lines.append(f"{queued:,} queued, {overview.scheduled:,} scheduled, {plural(len(overview.workers), 'worker')}")
    lines += _record_lines(found.lag) if found.lag is not None else []
    refused, last = overview.counters.get("stale", 0), overview.counters.get("stale_at", 0)
    if refused and last:
        age = format_duration(overview.now - last)
        lines.append(
            f"{plural(refused, 'late result')} refused, the last {age} ago: from workers that had lost their lease"
        )
    return lines
