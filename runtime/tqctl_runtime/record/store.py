"""The store: one database, its schema, its writer and its readers."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqctl_runtime.core.errors import ConfigError
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record.database import Database

if TYPE_CHECKING:
    from tqctl_runtime.record import mend, write
    from tqctl_runtime.record.health import Health
    from tqctl_runtime.record.lookup import Lookup
    from tqctl_runtime.record.prune import Pruning
    from tqctl_runtime.record.queries import Queries

_POSTGRES = ("postgresql://", "postgres://", "postgresql+psycopg://")
_SQLITE = "sqlite:///"


class Store:
    """The record on one database. One thread at a time uses it; a thread of its own opens its own."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @property
    def kind(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self.database.kind

    @property
    def queries(self) -> Queries:
        """Lists and counts with filters (loads SQLAlchemy)."""
        from tqctl_runtime.record.queries import Queries

        return Queries(self.database)

    @property
    def lookup(self) -> Lookup:
        """Single tasks by id (loads the driver only)."""
        from tqctl_runtime.record.lookup import Lookup

        return Lookup(self.database)

    @property
    def pruning(self) -> Pruning:
        """Deleting what is old."""
        from tqctl_runtime.record.prune import Pruning

        return Pruning(self.database)

    @property
    def health(self) -> Health:
        """Results of checks over time, and recovery events: ``store.health.note(kind, subject, message)``."""
        from tqctl_runtime.record.health import Health

        return Health(self.database)

    def is_there(self) -> bool:
        """Whether the database answers and has a schema; loads Alembic only where that is not this version's.

        Raises:
            RecordUnavailable: it does not answer.
        """
        from tqctl_runtime.record import schema

        if not self.database.exists():
            return False
        self.database.rows("SELECT 1")
        return schema.is_current(self.database) or not self.is_empty()

    def check_schema(self) -> list[str]:
        """The migrations that are pending, oldest first; empty where the schema is this version's."""
        from tqctl_runtime.record import schema

        if schema.is_current(self.database):
            return []
        from tqctl_runtime.record import migrate

        with self.database.guarded(), self.database.engine().connect() as connection:
            return migrate.pending(connection)

    def is_empty(self) -> bool:
        """Whether there is no schema at all: then the first coordinator may create it."""
        from tqctl_runtime.record import migrate

        if not self.database.exists():
            return True
        with self.database.guarded(), self.database.engine().connect() as connection:
            return migrate.is_empty(connection)

    def upgrade(self) -> list[str]:
        """Run the pending migrations; returns them."""
        from tqctl_runtime.record import migrate

        before = self.check_schema()
        if before:
            with self.database.migration() as connection:
                migrate.upgrade(connection)
        return before

    def prepare(self) -> list[str]:
        """Bring the schema up to date as a coordinator may: SQLite always, PostgreSQL only where it is empty.

        Raises:
            ConfigError: an older PostgreSQL, which only ``tqctl db upgrade`` changes.
        """
        from tqctl_runtime.record import schema

        if schema.is_current(self.database):
            return []
        if self.kind == "sqlite" or self.is_empty():
            return self.upgrade()
        self.require_schema()
        return []

    def require_schema(self) -> None:
        """Refuse to work with an older schema.

        Raises:
            ConfigError: migrations are pending.
        """
        missing = self.check_schema()
        if missing:
            raise ConfigError(f"the record needs {len(missing)} migration(s): {missing[0]} …", hint="tqctl db upgrade")

    def checkpoint(self) -> write.Checkpoint | None:
        """How far the journal is recorded; None where the record was never paired."""
        from tqctl_runtime.record import write

        return write.read_checkpoint(self.database)

    def paired(self) -> tuple[str, str] | None:
        """The pairing id and where its broker was last; None where the record was never paired."""
        found = self.database.rows("SELECT pairing, broker FROM checkpoint WHERE id = 1")
        return found[0] if found else None

    def pair(self, pairing: str, epoch: int, broker: str = "") -> write.Checkpoint:
        """Pair the record with a broker at address *broker*, unless it is paired already; returns what holds."""
        from tqctl_runtime.record import write

        return write.create_checkpoint(self.database, pairing, epoch, broker)

    def move(self, pairing: str, broker: str) -> None:
        """Remember that the broker of *pairing* is at address *broker* now."""
        from tqctl_runtime.record import write

        write.move_broker(self.database, pairing, broker)

    def next_term(self, role: str, holder: str, above: int = 0) -> int:
        """A term for *role* greater than *above*, what the broker knows, and every one the record gave out before."""
        from tqctl_runtime.record import write

        return write.next_term(self.database, role, holder, above)

    def writer(self, term: int) -> write.Writer:
        """The recorder's writer under *term*."""
        from tqctl_runtime.record import write

        return write.Writer(self.database, term)

    def mender(self, term: int) -> mend.Mender:
        """The writer and reader of a repair under *term*."""
        from tqctl_runtime.record import mend

        return mend.Mender(self.database, term)

    def close(self) -> None:
        """Close every connection."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(settings: Settings, *, read_only: bool = False) -> Store:
    """The store that *settings* name; it connects at first use.

    A reader (*read_only*) creates nothing: without a database its first query raises RecordUnavailable.

    Raises:
        ConfigError: the URL is of no database we know, or of a file in a folder that does not exist.
    """
    url = settings.record_url
    if url.startswith(_SQLITE):
        path = Path(url.removeprefix(_SQLITE)).expanduser()
        # Only the context's own folder is made: a name somebody gave may be a mistake.
        if settings.database_url is not None and not read_only and not path.parent.is_dir():
            raise ConfigError(
                f"there is no folder {path.parent} for the record of the database URL",
                hint=f"{shlex.join(['mkdir', '-p', str(path.parent)])}, or check TQCTL_DATABASE_URL",
            )
        return _sqlite(path, read_only)
    for scheme in _POSTGRES:
        if url.startswith(scheme):
            from tqctl_runtime.record.postgres import PostgresDatabase

            return Store(PostgresDatabase("postgresql://" + url.removeprefix(scheme), read_only=read_only))
    raise ConfigError(
        "the database URL is neither PostgreSQL nor SQLite",
        hint="write it like postgresql://user@host:5432/database or sqlite:////absolute/path.db",
    )


def _sqlite(path: Path, read_only: bool) -> Store:
    from tqctl_runtime.record.sqlite import SqliteDatabase

    return Store(SqliteDatabase(path, read_only=read_only))
