# ruff: noqa: S608  statements are put together from our own column names; values are always parameters
"""PostgreSQL by psycopg: each table of a batch goes as one statement, with an array for each column."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqctl_runtime.config import URL_ESCAPES, has_unclear_user
from tqctl_runtime.core.errors import ConfigError, RecordUnavailable
from tqctl_runtime.record import statements as sql
from tqctl_runtime.record.batch import by_id, by_width
from tqctl_runtime.record.columns import (
    ATTEMPT_HOT,
    ATTEMPTS,
    DEAD_LETTERS,
    EVENTS,
    HANDLERS,
    SETTINGS,
    TAGS,
    TASK_CHANGES,
    TASK_HOT,
    TASK_ORDER,
    TASK_RESETS,
    TASK_SUCCESS,
    TASKS,
    WINDOWS,
    WORKERS,
)
from tqctl_runtime.record.database import (
    LOCK_TIMEOUT_MS,
    STATEMENT_TIMEOUT_MS,
    WITHOUT_RECORD,
    BadData,
    Database,
)
from tqctl_runtime.record.deadline import Deadline

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tqctl_runtime.record.batch import Batch

#: Seconds to connect, and until an unanswered packet breaks a connection: a half-open one must not outlast a lease.
_CONNECT_TIMEOUT = 5
_NETWORK_TIMEOUT = 10
#: Seconds that one transaction may take from its first statement to the last reply.
REPLY_TIMEOUT = 12.0
#: What the recorder sets for its session. Its joins are always a batch against an index; statistics of a table that
#: was empty when it was last looked at must not turn them into scans of the whole table.
_SESSION = (
    f"SET lock_timeout = {LOCK_TIMEOUT_MS}; SET statement_timeout = {STATEMENT_TIMEOUT_MS}; "
    f"SET idle_in_transaction_session_timeout = {STATEMENT_TIMEOUT_MS}; "
)
_PLANS = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"


class Arrays:
    """The columns of a list of rows as array literals, one parameter each.

    They are a third of the work, for both ends, of the same rows as JSON objects.
    """

    def __init__(self, columns: Mapping[str, str]) -> None:
        names = [f"c{number}" for number in range(len(columns))]
        self._literals = [_LITERALS[kind] for kind in columns.values()]
        places = ", ".join(f"?::{kind}[]" for kind in columns.values())
        self.source = f"unnest({places}) AS r({', '.join(names)})"
        #: ``SELECT`` of all columns in order.
        self.select = f"SELECT {', '.join(names)} FROM {self.source}"
        self.named = dict(zip(columns, names, strict=True))

    def dump(self, rows: Sequence[Sequence[Any]]) -> list[str]:
        """The parameters for *rows*, of which there is at least one.

        Raises:
            TypeError: a value is not of its column's type.
            ValueError: a row is shorter than others.
        """
        turned = zip(*rows, strict=True)
        return [literal(column) for literal, column in zip(self._literals, turned, strict=True)]


def _numbers(column: Sequence[int | None]) -> str:
    # int's own representation, which refuses everything else: a comma in a value would shift all rows behind it.
    show = int.__repr__
    if None in column:
        return "{" + ",".join(["NULL" if value is None else show(value) for value in column]) + "}"
    return "{" + ",".join(map(show, column)) + "}"


def _texts(column: Sequence[str | None]) -> str:
    if None not in column:
        joined = '","'.join(column)  # type: ignore[arg-type]  # no None among them
        if "\\" not in joined and joined.count('"') == 2 * (len(column) - 1):
            return '{"' + joined + '"}'
    return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in column]) + "}"


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _blobs(column: Sequence[bytes | None]) -> str:
    show = bytes.hex
    return "{" + ",".join(["NULL" if value is None else f'"\\\\x{show(value)}"' for value in column]) + "}"


_LITERALS: dict[str, Callable[[Sequence[Any]], str]] = {
    "text": _texts,
    "bytea": _blobs,
    "bigint": _numbers,
    "integer": _numbers,
    "smallint": _numbers,
}

_hot_tasks = Arrays({name: TASKS[name] for name in TASK_HOT})
_tasks = Arrays({name: TASKS[name] for name in TASK_ORDER})
_succeeded = Arrays({name: TASKS[name] for name in TASK_SUCCESS})
_hot_attempts = Arrays({name: ATTEMPTS[name] for name in ATTEMPT_HOT})
_attempts = Arrays(ATTEMPTS)
_tags = Arrays(TAGS)
_events = Arrays(EVENTS)
_settings = Arrays(SETTINGS)
_handlers = Arrays(HANDLERS)
_windows = Arrays(WINDOWS)
_workers = Arrays(WORKERS)
_resets = Arrays({"id": "text", "version": "bigint"})
_deaths = Arrays({name: DEAD_LETTERS[name] for name in ("task_id", "died_at", *list(DEAD_LETTERS)[4:8])})
_closed = Arrays({"closed_at": "bigint", "closed_as": "text", "closed_by": "text", "task_id": "text"})

_INSERT_HOT_TASKS = sql.insert(
    "tasks", (*TASK_HOT, "failures", "deaths"), _hot_tasks.select.replace(" FROM", ", 0, 0 FROM", 1)
) + sql.tasks_conflict(TASK_HOT)
_INSERT_TASKS = sql.insert("tasks", TASK_ORDER, _tasks.select) + sql.tasks_conflict(TASK_ORDER)
_SUCCEED_TASKS = (
    f"UPDATE tasks SET {', '.join(f'{c} = r.{_succeeded.named[c]}' for c in TASK_SUCCESS[:-1])}, {sql.SUCCESS_SETS} "
    f"FROM {_succeeded.source} "
    f"WHERE tasks.id = r.{_succeeded.named['id']} AND tasks.version < r.{_succeeded.named['version']}"
)
_CHANGE_TASKS = (
    "UPDATE tasks SET "
    + ", ".join(f"{c} = COALESCE(r.{_tasks.named[c]}, tasks.{c})" for c in TASK_CHANGES)
    + f" FROM {_tasks.source} WHERE tasks.id = r.{_tasks.named['id']} AND tasks.version < r.{_tasks.named['version']}"
)
_RESET_TASKS = (
    f"UPDATE tasks SET {', '.join(f'{c} = NULL' for c in TASK_RESETS)} "
    f"FROM {_resets.source} WHERE tasks.id = r.c0 AND tasks.version < r.c1"
)
_INSERT_HOT_ATTEMPTS = sql.insert("attempts", ATTEMPT_HOT, _hot_attempts.select) + sql.attempts_conflict(ATTEMPT_HOT)
_INSERT_ATTEMPTS = sql.insert("attempts", ATTEMPTS, _attempts.select) + sql.attempts_conflict(ATTEMPTS)
_INSERT_TAGS = sql.insert("task_tags", TAGS, _tags.select) + sql.DO_NOTHING
_INSERT_EVENTS = sql.insert("events", EVENTS, _events.select) + sql.DO_NOTHING
_INSERT_SETTING = sql.insert("settings", SETTINGS) + sql.replacing(["section", "key"], SETTINGS)
_INSERT_HANDLERS = sql.insert("handlers", HANDLERS, _handlers.select) + sql.replacing(["name"], HANDLERS)
_INSERT_WINDOWS = sql.insert("windows", WINDOWS, _windows.select) + sql.WINDOWS_CONFLICT
_INSERT_WORKERS = sql.insert("workers", WORKERS, _workers.select) + sql.WORKERS_CONFLICT
_ADD_LETTERS = (
    sql.insert(
        "dead_letters",
        list(DEAD_LETTERS)[:8],
        f"SELECT t.id, r.c1, t.handler, t.queue, r.c2, r.c3, r.c4, r.c5 FROM {_deaths.source} "
        "JOIN tasks t ON t.id = r.c0",
    )
    + sql.DO_NOTHING
)
_CLOSE_LETTERS = (
    f"UPDATE dead_letters SET closed_at = r.c0, closed_as = r.c1, closed_by = r.c2 FROM {_closed.source} "
    "WHERE dead_letters.task_id = r.c3 AND dead_letters.closed_at IS NULL AND dead_letters.died_at <= r.c0"
)


class PostgresDatabase(Database):
    """A server and database by URL. A reader's session is read-only."""

    kind = "postgresql"
    # The number is our own: two first coordinators must not create the tables at once.
    migration_begin = ("SET LOCAL statement_timeout = 0", "SELECT pg_advisory_xact_lock(7171367405)")

    def __init__(self, url: str, *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        if has_unclear_user(url):
            # The driver would take a part of the password for the host, and tell it.
            raise ConfigError("an unescaped mark stands before the last @ of the database URL", hint=URL_ESCAPES)
        self.url = url
        self._deadline = Deadline(REPLY_TIMEOUT, self._socket)

    def _socket(self) -> int | None:
        connection = self._connection
        return None if connection is None or connection.closed else int(connection.fileno())

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Errors in our words, and an end to waiting: a server that hangs, or a link that is half open, is away."""
        with super().guarded(), self._deadline.running():
            yield

    def close(self) -> None:
        """Close everything."""
        super().close()
        self._deadline.close()

    def exists(self) -> bool:
        """Whether there is a database; a server is taken to have one."""
        return True

    def sql(self, statement: str) -> str:
        """*statement* with psycopg's placeholders."""
        return statement.replace("?", "%s")

    def connect(self) -> Any:
        """A new connection in autocommit mode, prepared for what it is for."""
        import psycopg

        try:
            connection = psycopg.connect(
                self.url,
                autocommit=True,
                connect_timeout=_CONNECT_TIMEOUT,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=2,
                tcp_user_timeout=_NETWORK_TIMEOUT * 1000,
                application_name="tqctl",
            )
            try:
                connection.execute(_SESSION + ("SET default_transaction_read_only = on" if self.read_only else _PLANS))
            except BaseException:
                connection.close()
                raise
        except psycopg.ProgrammingError as error:
            raise ConfigError("the database URL cannot be read", hint=_URL_HINT) from error
        except psycopg.Error as error:
            raise RecordUnavailable(f"PostgreSQL: {_short(error)}", hint=WITHOUT_RECORD) from error
        return connection

    def translate(self, error: Exception) -> Exception:
        """*error* in our words."""
        import psycopg

        too_large = psycopg.errors.ProgramLimitExceeded
        if isinstance(error, psycopg.DataError | psycopg.IntegrityError | too_large):
            return BadData(_short(error))
        if isinstance(error, psycopg.errors.UndefinedTable | psycopg.errors.UndefinedColumn):
            return ConfigError(f"the record's schema is not up to date: {_short(error)}", hint="tqctl db upgrade")
        if isinstance(error, psycopg.Error):
            return RecordUnavailable(f"PostgreSQL: {_short(error)}", hint=WITHOUT_RECORD)
        return error

    def new_engine(self) -> Engine:
        """An engine that keeps one connection."""
        from sqlalchemy import create_engine

        return create_engine(
            "postgresql+psycopg://", creator=self._connect_for_engine, pool_size=1, max_overflow=0, pool_pre_ping=True
        )

    def _connect_for_engine(self) -> Any:
        connection = self.connect()
        # Composed queries are planned by statistics, and SQLAlchemy opens its transactions itself.
        connection.execute("RESET enable_seqscan; RESET enable_hashjoin; RESET enable_mergejoin")
        connection.autocommit = False
        return connection

    def write(self, batch: Batch) -> None:
        """Write *batch* inside the open transaction."""
        if batch.resets:
            self._send(_RESET_TASKS, _resets, batch.resets)
        if batch.new:
            hot, whole = by_width(batch.new, len(TASK_HOT))
            self._send(_INSERT_HOT_TASKS, _hot_tasks, hot)
            self._send(_INSERT_TASKS, _tasks, whole)
        if batch.succeeded:
            self._send(_SUCCEED_TASKS, _succeeded, by_id(batch.succeeded))
        if batch.changed:
            self._send(_CHANGE_TASKS, _tasks, by_id(batch.changed))
        if batch.attempts:
            hot, whole = by_width(batch.attempts, len(ATTEMPT_HOT))
            self._send(_INSERT_HOT_ATTEMPTS, _hot_attempts, hot)
            self._send(_INSERT_ATTEMPTS, _attempts, whole)
        if batch.tags:
            self._send(_INSERT_TAGS, _tags, batch.tags)
        if batch.deaths:
            self._send(_ADD_LETTERS, _deaths, batch.deaths)
        if batch.closed:
            self._close_letters(batch.closed)
        if batch.events:
            self._send(_INSERT_EVENTS, _events, batch.events)
        self._write_settings(batch)

    def _close_letters(self, closed: list[list[Any]]) -> None:
        if len({closing[3] for closing in closed}) == len(closed):
            self._send(_CLOSE_LETTERS, _closed, closed)
            return
        # A task died and was retried twice: each letter must be closed by the first retry after it.
        for closing in closed:
            self._send(_CLOSE_LETTERS, _closed, [closing])

    def _write_settings(self, batch: Batch) -> None:
        for setting in batch.settings.values():
            self.execute(*((_INSERT_SETTING, setting) if setting[2] else (sql.DELETE_SETTING, setting[:2])))
        if batch.windows:
            self._send(_INSERT_WINDOWS, _windows, by_id(batch.windows))
        if batch.handlers:
            self._send(_INSERT_HANDLERS, _handlers, by_id(batch.handlers))
        if batch.workers:
            self._send(_INSERT_WORKERS, _workers, by_id(batch.workers))

    def _send(self, statement: str, form: Arrays, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        self.connection.execute(self.sql(statement), form.dump(rows))


_URL_HINT = "write it like postgresql://user@host:5432/database"


def _short(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
