"""``tqctl worker``: run one, see those that live."""

from __future__ import annotations

from typing import Annotated

import typer

from tqctl.arguments import Names, ago
from tqctl.flags import WorkerCommand, noun, verb
from tqctl.output import Column, View
from tqctl.session import open_session

VIEW = View(
    "worker",
    "id",
    (
        *("id", "name", "host", "pid", "state", "version", "started_at", "queues", "concurrency", "processes"),
        *("handlers", "running", "lease_until", "figures", "lacks", "ended_at", "seen_at"),
    ),
    (
        Column("id", "id", key=True),
        Column("name", "name"),
        Column("state", "state", key=True),
        Column("running", lambda row: f"{row.get('running') or 0}/{row.get('concurrency') or 0}", right=True),
        Column("queues", lambda row: ",".join(row.get("queues") or ())),
        Column("age", lambda row: ago(row.get("started_at")), right=True),
        Column("host", "host"),
        Column("seen", lambda row: ago(row.get("seen_at")), right=True, wide=True),
        Column("pid", "pid", right=True, wide=True),
        Column("version", "version", wide=True),
        Column("handlers", lambda row: ",".join(row.get("handlers") or ()), wide=True),
    ),
)
app = noun(
    "Processes that run tasks.",
    "  tqctl worker start --app tasks.py --concurrency 10\n  tqctl worker list\n  tqctl worker show NAME",
)


@verb(
    app,
    "start",
    cls=WorkerCommand,
    examples="  tqctl worker start --app tasks.py\n  tqctl worker start --queues images,default --processes 4",
)
def start(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="default: worker and process id")] = None,
) -> int:
    """Run a worker here until TERM or Ctrl-C; a second one hands running tasks back at once."""
    from tqctl.starting import settings_for_start
    from tqctl_runtime.stack import serve

    return serve("worker", settings_for_start(open_session(ctx)), name=name)


@verb(app, "list")
def list_(ctx: typer.Context) -> None:
    """List the workers that live."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        rows = [worker.to_json() for worker in inspector.workers()]
        session.remark(inspector)
    if not session.output.rows(VIEW, rows):
        session.note("no worker runs; tqctl worker start")


@verb(app, "show")
def show(ctx: typer.Context, names: Names) -> None:
    """Show workers by id, name or the end of an id; from the record where they live no more."""
    from tqctl_runtime.core.errors import AmbiguousId, NotFound

    session = open_session(ctx)
    found = []
    with session.inspector() as inspector:
        rows = [worker.to_json() for worker in inspector.workers()]
        for name in names:
            fits = [row for row in rows if name in (row["id"], row["name"])]
            fits = fits or [row for row in rows if len(name) >= 4 and row["id"].endswith(name.upper())]
            if len(fits) > 1:
                raise AmbiguousId(name, [row["id"] for row in fits])
            past = None if fits else inspector.past_worker(name)
            if not fits and past is None:
                raise NotFound(f"no worker is or was called {name!r}", hint="tqctl worker list")
            found.append(past.to_json() if past else fits[0])
    session.output.show(VIEW, found)
