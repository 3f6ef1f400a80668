"""``tqctl context``: named sets of settings, tables ``[contexts.NAME]`` of the configuration files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.session import open_session

VIEW = View(
    "context",
    "name",
    ("name", "is_current", "namespace", "broker", "record", "home", "error"),
    (
        Column("", lambda row: "*" if row["is_current"] else ""),
        Column("name", "name", key=True),
        Column("namespace", "namespace"),
        Column("broker", lambda row: f"error: {row['error']}" if row.get("error") else row.get("broker")),
        Column("record", "record"),
        Column("home", "home", wide=True),
    ),
)

app = noun("Named sets of settings.", "  tqctl context list\n  tqctl context show prod\n  tqctl -c prod task list")


@verb(app, "list")
def list_(ctx: typer.Context) -> None:
    """List the contexts of the configuration files; one that is wrong is shown with its error."""
    from tqctl_runtime.config import current_context, known_contexts

    session = open_session(ctx)
    flags = session.flags.settings
    current = current_context(flags)
    session.output.rows(VIEW, [_row_or_error(flags, name, current) for name in known_contexts()])


@verb(app, "show")
def show(ctx: typer.Context, name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None) -> None:
    """Show where one context's broker and record are; by default the chosen one."""
    session = open_session(ctx)
    current = session.settings.context
    session.output.show(VIEW, [_row(session.flags.settings, name or current, current)])


def _row_or_error(flags: dict[str, Any], name: str, current: str) -> dict[str, Any]:
    from tqctl_runtime.core.errors import ConfigError

    try:
        return _row(flags, name, current)
    except ConfigError as error:
        nothing = dict.fromkeys(VIEW.fields)
        return {**nothing, "name": name, "is_current": name == current, "error": error.message}


def _row(flags: dict[str, Any], name: str, current: str) -> dict[str, Any]:
    from tqctl_runtime.config import mask_url, resolve

    settings = resolve({**flags, "context": name}).settings
    return {
        "name": name,
        "is_current": name == current,
        "namespace": settings.namespace,
        "broker": mask_url(settings.redis_url) if settings.redis_url else "private Valkey",
        "record": mask_url(settings.database_url) if settings.database_url else "private SQLite",
        "home": str(settings.context_home),
        "error": None,
    }
