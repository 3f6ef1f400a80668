"""SQLite: one file in the context's folder, written by one recorder at a time, read by anyone beside it."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tqctl_runtime.core.errors import RecordUnavailable
from tqctl_runtime.record import statements as sql
from tqctl_runtime.record.batch import by_id, by_width
from tqctl_runtime.record.columns import (
    ATTEMPT_HOT,
    ATTEMPTS,
    EVENTS,
    HANDLERS,
    SETTINGS,
    TAGS,
    TASK_CHANGES,
    TASK_HOT,
    TASK_ORDER,
    WINDOWS,
    WORKERS,
)
from tqctl_runtime.record.database import LOCK_TIMEOUT_MS, WITHOUT_RECORD, BadData, Database

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

    from tqctl_runtime.record.batch import Batch

#: Page cache of a writer, KiB: indexes of about a million tasks.
_WRITER_CACHE = 65_536
#: Pages written before the log is folded back into the file: 16 MiB, about eight full batches.
_FOLD_PAGES = 4_096
_LOG_LIMIT = 64 * 1_048_576

_PLACE = {name: number for number, name in enumerate(TASK_ORDER)}
_change = itemgetter(*(_PLACE[name] for name in TASK_CHANGES), _PLACE["id"], _PLACE["version"])
_INSERT_TASK = sql.insert("tasks", TASK_ORDER) + sql.tasks_conflict(TASK_ORDER)
_INSERT_HOT_TASK = sql.HOT_TASK + sql.tasks_conflict(TASK_HOT)
_INSERT_ATTEMPT = sql.insert("attempts", ATTEMPTS) + sql.attempts_conflict(ATTEMPTS)
_INSERT_HOT_ATTEMPT = sql.insert("attempts", ATTEMPT_HOT) + sql.attempts_conflict(ATTEMPT_HOT)
_INSERT_TAG = sql.insert("task_tags", TAGS) + sql.DO_NOTHING
_INSERT_EVENT = sql.insert("events", EVENTS) + sql.DO_NOTHING
_INSERT_SETTING = sql.insert("settings", SETTINGS) + sql.replacing(["section", "key"], SETTINGS)
_INSERT_HANDLER = sql.insert("handlers", HANDLERS) + sql.replacing(["name"], HANDLERS)
_INSERT_WINDOW = sql.insert("windows", WINDOWS) + sql.WINDOWS_CONFLICT
_INSERT_WORKER = sql.insert("workers", WORKERS) + sql.WORKERS_CONFLICT


class _Connection(sqlite3.Connection):
    """A connection that knows the *file* it is on: device and inode."""

    file: tuple[int, int]


class SqliteDatabase(Database):
    """The file at *path*. A reader creates nothing and can change nothing.

    Somebody may put another file there, a copy from before, while we are connected: SQLite would go on in the file
    that nobody else sees. So each piece of work looks before and after it whether the path still leads to its file.
    """

    kind = "sqlite"
    # A deferred transaction that turns into a writer fails at once when another writes; this one waits its turn.
    begin = "BEGIN IMMEDIATE"
    migration_begin = ("BEGIN IMMEDIATE",)

    def __init__(self, path: Path, *, read_only: bool) -> None:
        super().__init__(read_only=read_only)
        self.path = path
        self._was_open = False

    def exists(self) -> bool:
        """Whether the file is there."""
        return self.path.exists()

    def connect(self) -> Any:
        """A new connection in autocommit mode, prepared for what it is for."""
        if self.read_only and not self.path.exists():
            raise RecordUnavailable(f"there is no record yet at {self.path}", hint="tqctl up --detach")
        try:
            # A file that is gone under us is not replaced by an empty one: a copy may be on its way there.
            if not self.read_only and not self._was_open:
                self._create_file()
            connection = self._open()
            self._was_open = True
            return connection
        except (sqlite3.Error, OSError) as error:
            raise RecordUnavailable(
                f"the record at {self.path} cannot be opened: {error}", hint=WITHOUT_RECORD
            ) from error

    def _create_file(self) -> None:
        # Created by us so that file, log and shared memory are never readable by others, whatever the umask.
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.path.exists():
            return
        # Made under another name and linked once it is closed: closing any descriptor of the record itself would drop
        # this process's locks on it (POSIX), and the next reader to leave would delete the log under a connection.
        made = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
        try:
            with suppress(FileExistsError):
                self.path.hardlink_to(made)
        finally:
            made.unlink()

    def _file(self) -> tuple[int, int]:
        found = self.path.stat()
        return found.st_dev, found.st_ino

    def _require_same_file(self) -> None:
        """Drop a connection to a file that is not at the path any more.

        Raises:
            RecordUnavailable: it was such a one.
        """
        if self._connection is None:
            return
        try:
            if self._file() == self._connection.file:
                return
            why = "another file was put in its place"
        except OSError as error:
            why = f"its file is gone: {error.strerror}"
        # SQLite leaves the log at the path alone when its own file has moved: it is the other file's.
        self.disconnect()
        raise RecordUnavailable(f"the record at {self.path}: {why}", hint=WITHOUT_RECORD)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """As everywhere; what was done in a file that is not the record's any more is RecordUnavailable too."""
        self._require_same_file()
        with super().guarded():
            yield
        self._require_same_file()

    def _open(self) -> _Connection:
        file = self._file()
        connection = sqlite3.connect(
            f"file:{quote(str(self.path.absolute()))}?mode=rw",
            uri=True,
            timeout=LOCK_TIMEOUT_MS / 1000,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            connection.file = file
            if self._file() != file:
                raise OSError("another file is being put in its place")
            if self.read_only:
                # Not mode=ro: a reader must be able to take over a log that a killed writer left.
                connection.execute("PRAGMA query_only = ON")
                return connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute(f"PRAGMA cache_size = -{_WRITER_CACHE}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {_FOLD_PAGES}")
            connection.execute(f"PRAGMA journal_size_limit = {_LOG_LIMIT}")
        except BaseException:
            connection.close()
            raise
        return connection

    def translate(self, error: Exception) -> Exception:
        """*error* in our words."""
        if isinstance(error, sqlite3.OperationalError | sqlite3.InternalError):
            return RecordUnavailable(f"the record at {self.path}: {error}", hint=WITHOUT_RECORD)
        if isinstance(error, sqlite3.DatabaseError) and type(error) is sqlite3.DatabaseError:
            return RecordUnavailable(f"the record at {self.path} is damaged: {error}", hint=WITHOUT_RECORD)
        if isinstance(error, sqlite3.Error | OverflowError):
            return BadData(str(error))
        return error

    def new_engine(self) -> Engine:
        """An engine that keeps no connections."""
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        return create_engine("sqlite://", creator=self.connect, poolclass=NullPool)

    def write(self, batch: Batch) -> None:
        """Write *batch* inside the open transaction."""
        many = self.connection.executemany
        if batch.resets:
            many(sql.RESET_TASK, batch.resets)
        if batch.new:
            hot, whole = by_width(batch.new, len(TASK_HOT))
            many(_INSERT_HOT_TASK, hot)
            many(_INSERT_TASK, whole)
        if batch.succeeded:
            many(sql.SUCCEED_TASK, [(*row, row[0]) for row in by_id(batch.succeeded)])
        if batch.changed:
            many(sql.CHANGE_TASK, map(_change, by_id(batch.changed)))
        if batch.attempts:
            hot, whole = by_width(batch.attempts, len(ATTEMPT_HOT))
            many(_INSERT_HOT_ATTEMPT, hot)
            many(_INSERT_ATTEMPT, whole)
        if batch.tags:
            many(_INSERT_TAG, batch.tags)
        if batch.deaths:
            many(sql.ADD_LETTER, [(*death[1:], death[0]) for death in batch.deaths])
        if batch.closed:
            many(sql.CLOSE_LETTER, [(*closing, closing[0]) for closing in batch.closed])
        if batch.events:
            many(_INSERT_EVENT, batch.events)
        self._write_settings(batch)

    def _write_settings(self, batch: Batch) -> None:
        many = self.connection.executemany
        for setting in batch.settings.values():
            self.connection.execute(*((_INSERT_SETTING, setting) if setting[2] else (sql.DELETE_SETTING, setting[:2])))
        if batch.windows:
            many(_INSERT_WINDOW, by_id(batch.windows))
        if batch.handlers:
            many(_INSERT_HANDLER, batch.handlers.values())
        if batch.workers:
            many(_INSERT_WORKER, batch.workers.values())
