"""``tqctl handler``: what workers can run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer

from tqctl.arguments import Names
from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.session import open_session

FIELDS = (
    *("name", "queue", "priority", "timeout_s", "max_retries", "backoff", "is_async", "argv", "parameters"),
    *("takes_any", "needs", "overlap_ok", "doc", "workers", "lacking", "example"),
)


def _signature(row: Mapping[str, Any]) -> str:
    parts = [
        f"{item['name']}:{item['type']}" + ("" if item["default"] is None else f"={item['default']}")
        for item in row["parameters"]
    ]
    return ", ".join([*parts, *(["…"] if row.get("takes_any") else [])])


VIEW = View(
    "handler",
    "name",
    FIELDS,
    (
        Column("name", "name", key=True),
        Column("parameters", _signature),
        Column("queue", "queue"),
        Column("workers", lambda row: len(row["workers"]), right=True),
        Column("doc", "doc"),
        Column("pri", "priority", right=True, wide=True),
        Column("timeout_s", "timeout_s", right=True, wide=True),
        Column("retries", "max_retries", right=True, wide=True),
    ),
)
app = noun(
    "What workers can run.",
    "  tqctl handler list\n  tqctl handler show echo\n  tqctl handler list -o json --fields name,parameters",
)


@verb(app, "list")
def list_(ctx: typer.Context) -> None:
    """List handlers with their parameters, types and defaults."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        rows = [shown(row) for row in inspector.handlers()]
        session.remark(inspector)
    if not session.output.rows(VIEW, rows):
        session.note("no worker has started yet; tqctl up --detach")


@verb(app, "show")
def show(ctx: typer.Context, names: Names) -> None:
    """Show handlers with an example line and the live workers that have them."""
    from tqctl_runtime.core.errors import NotFound, UnknownHandler

    session = open_session(ctx)
    with session.inspector() as inspector:
        try:
            rows = [shown(inspector.handler(name)) for name in names]
        except UnknownHandler as error:
            raise NotFound(error.message, hint=error.hint) from None
    session.output.show(VIEW, rows)


def shown(row: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON shape of catalogue *row*."""
    from tqctl_runtime.core.handler import example_line

    parameters = [{"name": name, "type": kind, "default": default} for name, kind, default in row["parameters"]]
    item = {name: row.get(name) for name in FIELDS}
    return {**item, "parameters": parameters, "example": example_line(row)}
