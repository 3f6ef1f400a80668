"""``tqctl config``: the settings that hold here and where each comes from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.session import Session, open_session

FIELDS = ("name", "value", "origin", "help")
VIEW = View(
    "setting",
    "name",
    FIELDS,
    (
        Column("name", "name", key=True),
        Column("value", "value"),
        Column("origin", "origin"),
        Column("help", "help", wide=True),
    ),
)
_PATHS = View("file", "path", ("path", "exists"), (Column("path", "path", key=True), Column("exists", "exists")))

app = noun(
    "Settings and where they come from.", "  tqctl config show\n  tqctl config show -o json\n  tqctl config path"
)


@verb(app, "show", examples="  tqctl config show lease concurrency\n  tqctl -c prod config show")
def show(ctx: typer.Context, names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...")] = None) -> None:
    """Show settings, masked where secret, with the file, variable or flag they come from."""
    session = open_session(ctx)
    rows = setting_rows(session)
    if names:
        from tqctl_runtime.core.errors import NotFound

        known = {row["name"]: row for row in rows}
        unknown = [name for name in names if name.replace("-", "_") not in known]
        if unknown:
            raise NotFound(f"no setting is called {unknown[0]!r}", hint="tqctl config show -o name")
        rows = [known[name.replace("-", "_")] for name in names]
    session.output.rows(VIEW, rows)


@verb(app, "path")
def path(ctx: typer.Context) -> None:
    """Show the files that may hold settings, the first before the second."""
    from tqctl_runtime.config import config_paths

    session = open_session(ctx)
    session.output.rows(_PATHS, [{"path": str(place), "exists": place.is_file()} for place in config_paths()])


def setting_rows(session: Session) -> list[dict[str, Any]]:
    """One row for each setting of the chosen context; values as people write them, passwords masked."""
    from tqctl_runtime.config import format_value
    from tqctl_runtime.core.settings import SETTING_FIELDS

    resolved = session.resolved
    return [
        {
            "name": name,
            "value": format_value(name, getattr(resolved.settings, name)),
            "origin": resolved.origins[name],
            "help": item.metadata["help"],
        }
        for name, item in SETTING_FIELDS.items()
    ]
