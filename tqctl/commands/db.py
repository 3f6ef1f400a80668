"""``tqctl db``: the schema of the record."""

from __future__ import annotations

from typing import Annotated

import typer

from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.session import open_session

VIEW = View("migration", "revision", ("revision", "state"), (Column("revision", "revision"), Column("state", "state")))
app = noun(
    "The schema of the record.", "  tqctl db upgrade\n  tqctl db upgrade --dry-run\n  tqctl -c prod db upgrade -o json"
)


@verb(app, "upgrade")
def upgrade(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="only show what is pending")] = False,
) -> None:
    """Run the pending migrations; coordinators and workers may go on."""
    from tqctl_runtime.record import open_store

    session = open_session(ctx)
    with open_store(session.settings, read_only=dry_run) as store:
        done = store.check_schema() if dry_run else store.upgrade()
    session.output.rows(VIEW, [{"revision": name, "state": "pending" if dry_run else "done"} for name in done])
    if not done:
        session.note("the schema is up to date")
    elif dry_run:
        session.note(f"{len(done)} pending; run them: tqctl db upgrade")
    else:
        session.note(f"{len(done)} migrations done")
