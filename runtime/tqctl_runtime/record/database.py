"""What the two databases have in common: one raw connection, transactions, and errors in our words.

Statements are written with ``?``; none of them contains a literal ``?`` or ``%``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Engine

    from tqctl_runtime.record.batch import Batch

#: How long a statement may wait for a lock, ms: well below a leader's lease of 15 s.
LOCK_TIMEOUT_MS = 5_000
#: How long a statement of the recorder, or a pause inside a transaction, may take on a server, ms.
STATEMENT_TIMEOUT_MS = 10_000
#: What is left to an operator while the database is away.
WITHOUT_RECORD = "tqctl doctor; these answer without SQL: tqctl status, tqctl health probe, tqctl worker list"


class BadData(Exception):
    """The database refused values, not the work as such: a smaller batch may pass."""


class Database(ABC):
    """One database and one connection to it, made at first use. One thread at a time uses it."""

    kind: str

    def __init__(self, *, read_only: bool) -> None:
        self.read_only = read_only
        self._engine: Engine | None = None
        self._connection: Any = None

    @abstractmethod
    def connect(self) -> Any:
        """A new driver connection in autocommit mode.

        Raises:
            RecordUnavailable: the database cannot be reached, or is not there and may not be created.
        """

    @abstractmethod
    def translate(self, error: Exception) -> Exception:
        """*error* of the driver as RecordUnavailable, ConfigError or BadData; any other error as it is."""

    @abstractmethod
    def write(self, batch: Batch) -> None:
        """Write *batch* inside the open transaction."""

    @abstractmethod
    def new_engine(self) -> Engine:
        """A SQLAlchemy engine on connections of :meth:`connect`."""

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is a database at all, without creating one."""

    #: Opens a transaction; on a migration's connection :attr:`migration_begin` does.
    begin = "BEGIN"
    migration_begin: tuple[str, ...] = ()

    @property
    def connection(self) -> Any:
        """The connection, made at first use and made again after it broke."""
        if self._connection is None:
            self._connection = self.connect()
        return self._connection

    def engine(self) -> Engine:
        """The SQLAlchemy engine of composed queries and migrations."""
        if self._engine is None:
            self._engine = self.new_engine()
        return self._engine

    def sql(self, statement: str) -> str:
        """*statement* with the driver's placeholders."""
        return statement

    def execute(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Run one statement; the number of rows it touched."""
        with self.guarded():
            count: int = self.connection.execute(self.sql(statement), values).rowcount
            return count

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        with self.guarded():
            found: list[tuple[Any, ...]] = self.connection.execute(self.sql(statement), values).fetchall()
            return found

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Errors of the driver in our words; a connection that broke is dropped."""
        try:
            yield
        except Exception as error:
            # SQLAlchemy wraps what the driver raised.
            theirs = getattr(error, "orig", None) or error
            ours = self.translate(theirs)
            if ours is theirs:
                raise
            if not isinstance(ours, BadData):
                self.disconnect()
            raise ours from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything inside, or nothing. What became of it is unknown where COMMIT itself fails."""
        self.execute(self.begin)
        try:
            with self.guarded():
                yield
        except BaseException:
            self._roll_back()
            raise
        self.execute("COMMIT")

    @contextmanager
    def migration(self) -> Iterator[Connection]:
        """A connection in the one transaction that all pending migrations share; others wait for it."""
        with self.guarded(), self.engine().connect() as connection:
            for statement in self.migration_begin:
                connection.exec_driver_sql(statement)
            yield connection
            connection.commit()

    def _roll_back(self) -> None:
        if self._connection is None:
            return
        try:
            self._connection.execute("ROLLBACK")
        except Exception:  # noqa: BLE001  the error that led here is the one to tell
            self.disconnect()

    def disconnect(self) -> None:
        """Close the connection; the next use makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                connection.close()
            except Exception as error:
                if self.translate(error) is error:
                    raise

    def close(self) -> None:
        """Close everything."""
        self.disconnect()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None
