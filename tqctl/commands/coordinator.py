"""``tqctl coordinator``: run one, see who leads and how far the record is."""

from __future__ import annotations

from typing import Annotated

import typer

from tqctl.arguments import ago
from tqctl.flags import StartCommand, noun, verb
from tqctl.output import Column, View
from tqctl.session import open_session

VIEW = View(
    "coordinator",
    "id",
    (
        *("id", "name", "host", "pid", "version", "started_at", "is_leader", "term", "roles", "state", "seen_at"),
        *("lag_rows", "lag_bytes", "lag_ms"),
    ),
    (
        Column("id", "id", key=True),
        Column("name", "name"),
        Column("state", "state", key=True),
        Column("leads", lambda row: "yes" if row.get("is_leader") else "no"),
        Column("lag", "lag_rows", right=True),
        Column("age", lambda row: ago(row.get("started_at")), right=True),
        Column("host", "host"),
        Column("seen", lambda row: ago(row.get("seen_at")), right=True, wide=True),
        Column("pid", "pid", right=True, wide=True),
        Column("version", "version", wide=True),
        Column("roles", "roles", wide=True),
    ),
)
app = noun(
    "Processes that record, promote, reap and prune; one leads.",
    "  tqctl coordinator start\n  tqctl coordinator status\n  tqctl coordinator status -o json",
)


@verb(app, "start", cls=StartCommand)
def start(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(metavar="TEXT", help="default: coordinator and process id")] = None,
) -> int:
    """Run a coordinator here until TERM or Ctrl-C."""
    from tqctl.starting import settings_for_start
    from tqctl_runtime.stack import serve

    return serve("coordinator", settings_for_start(open_session(ctx)), name=name)


@verb(app, "status")
def status(ctx: typer.Context) -> None:
    """Show the coordinators that live, who leads, and the lag of the record; 69 where nobody leads."""
    from tqctl_runtime.core.errors import Unavailable

    session = open_session(ctx)
    with session.inspector() as inspector:
        rows = [item.to_json() for item in inspector.coordinators()]
        lag = inspector.record_lag()
    session.output.rows(VIEW, [{**row, "lag_rows": lag.rows, "lag_bytes": lag.bytes, "lag_ms": lag.ms} for row in rows])
    if not any(row["is_leader"] for row in rows):
        raise Unavailable("no coordinator leads: nothing is recorded", hint="tqctl coordinator start")
