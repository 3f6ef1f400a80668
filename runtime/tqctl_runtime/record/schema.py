"""Whether the schema is this version's, told without Alembic: most starts need no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tqctl_runtime.core.errors import ConfigError, RecordUnavailable

if TYPE_CHECKING:
    from tqctl_runtime.record.database import Database

#: A name of our own: a user's application may keep its own history in the same database.
VERSION_TABLE = "tqctl_schema"
VERSIONS = Path(__file__).parent / "migrations" / "versions"
#: Entry points that name packages with further migrations.
GROUP = "tqctl.migrations"


def newest() -> str:
    """The last of our own revisions; files are named by their number."""
    return max(path.name for path in VERSIONS.glob("[0-9]*.py")).partition("_")[0]


def is_current(database: Database) -> bool:
    """Whether the database has exactly our newest revision; False also where only Alembic can tell."""
    from importlib.metadata import entry_points

    if entry_points(group=GROUP):
        return False
    try:
        return database.rows(f"SELECT version_num FROM {VERSION_TABLE}") == [(newest(),)]  # noqa: S608  our own name
    except (RecordUnavailable, ConfigError):
        return False
