"""Alembic, one history for both databases. Imported only where the schema is asked for or changed.

A package above adds a version location by an entry point of the group ``tqctl.migrations`` that names a package.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from sqlalchemy import Connection, inspect

from tqctl_runtime.core.errors import ConfigError
from tqctl_runtime.record.schema import GROUP, VERSION_TABLE, VERSIONS


def configuration(connection: Connection | None = None) -> Config:
    """Alembic's configuration, which needs no file; migrations run on *connection*."""
    config = Config()
    config.set_main_option("script_location", _escaped(VERSIONS.parent))
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", "\n".join(_escaped(place) for place in _locations()))
    config.attributes["connection"] = connection
    return config


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _locations() -> list[Path]:
    places = [VERSIONS]
    for entry in entry_points(group=GROUP):
        spec = find_spec(entry.value)
        if spec is not None and spec.submodule_search_locations:
            places.append(Path(spec.submodule_search_locations[0]))
    return places


def pending(connection: Connection) -> list[str]:
    """Revisions that the database has not, oldest first.

    Raises:
        ConfigError: it has some that this version does not know.
    """
    script = ScriptDirectory.from_config(configuration())
    current = _context(connection).get_current_heads()
    try:
        done = {step.revision for head in current for step in script.iterate_revisions(head, "base")}
    except RevisionError:
        raise ConfigError(
            f"the record was migrated by a newer version of tqctl (to {', '.join(current)})", hint="tqctl version"
        ) from None
    return [step.revision for step in reversed(list(script.walk_revisions())) if step.revision not in done]


def is_empty(connection: Connection) -> bool:
    """Whether no migration ever ran here."""
    return not inspect(connection).has_table(VERSION_TABLE)


def upgrade(connection: Connection) -> None:
    """Run what is pending; on PostgreSQL all of it or nothing."""
    command.upgrade(configuration(connection), "heads")


def _context(connection: Connection) -> Any:
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
