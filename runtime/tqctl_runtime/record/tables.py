"""The tables of the record: the one description that migrations are compared with.

Instants are milliseconds since 1970 in UTC. ``version`` is epoch · 2³² + v and grows with every change of a task. In a
changed column NULL means "never told" and the empty text "told, and there is none".
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, MetaData, SmallInteger, Text, text
from sqlalchemy.dialects.postgresql import TEXT
from sqlmodel import Field, SQLModel

#: Names, ids and everything indexed: compared byte by byte on both databases, whatever the locale.
KEY = Text().with_variant(TEXT(collation="C"), "postgresql")
BIG = BigInteger().with_variant(Integer, "sqlite")
SMALL = SmallInteger().with_variant(Integer, "sqlite")
#: SQLite refuses what PostgreSQL refuses: a number column holds numbers.
STRICT = {"sqlite_strict": True}
STRICT_BY_KEY = {"sqlite_strict": True, "sqlite_with_rowid": False}

NAMING = {"pk": "%(table_name)s_pkey"}


class Record(SQLModel):
    """Base of all tables of the record: metadata of its own, apart from that of a user's models."""

    metadata = MetaData(naming_convention=NAMING)


def _key(*, primary: bool = False, optional: bool = False) -> Any:
    return Field(sa_column=Column(KEY, primary_key=primary, nullable=optional))


def _text(*, optional: bool = True) -> Any:
    return Field(sa_column=Column(Text, nullable=optional))


def _big(*, primary: bool = False, optional: bool = False) -> Any:
    return Field(sa_column=Column(BIG, primary_key=primary, nullable=optional, autoincrement=False))


def _integer(*, primary: bool = False) -> Any:
    return Field(sa_column=Column(Integer, primary_key=primary, nullable=False, autoincrement=False))


def _blob(*, optional: bool = True) -> Any:
    return Field(sa_column=Column(LargeBinary, nullable=optional))


def _where(condition: str) -> dict[str, Any]:
    return {"postgresql_where": text(condition), "sqlite_where": text(condition)}


class TaskRow(Record, table=True):
    """A task as of *version*. *tail* is the end of its id backwards, so that a shorter tail is a prefix."""

    __tablename__ = "tasks"
    __table_args__ = (
        Index("tasks_tail", "tail"),
        Index("tasks_state", "state", "created_at"),
        Index("tasks_handler", "handler", "state", "created_at"),
        Index("tasks_queue", "queue", "state", "created_at"),
        Index("tasks_tenant", "tenant", "state", "created_at", **_where("tenant IS NOT NULL")),
        Index("tasks_finished", "state", "finished_at", **_where("finished_at IS NOT NULL")),
        Index("tasks_key", "finished_at", **_where("idempotency_key IS NOT NULL")),
        Index("tasks_due", "state", "scheduled_at", **_where("state = 'scheduled' OR state = 'retrying'")),
        Index("tasks_correlation", "correlation_id", **_where("correlation_id IS NOT NULL")),
        Index("tasks_parent", "parent", **_where("parent IS NOT NULL")),
        Index("tasks_error", "created_at", **_where("error_type <> ''")),
        STRICT,
    )

    id: str = _key(primary=True)
    tail: str = _key()
    version: int = _big()
    state: str = _key()
    handler: str = _key()
    queue: str = _key()
    priority: int = Field(sa_column=Column(SMALL, nullable=False))
    tenant: str | None = _key(optional=True)
    created_at: int = _big()
    scheduled_at: int | None = _big(optional=True)
    expires_at: int | None = _big(optional=True)
    started_at: int | None = _big(optional=True)
    finished_at: int | None = _big(optional=True)
    worker: str | None = _text()
    failures: int = _integer()
    deaths: int = _integer()
    max_retries: int = _integer()
    timeout_ms: int | None = _big(optional=True)
    reason: str | None = _text()
    cancel_requested_at: int | None = _big(optional=True)
    progress: str | None = _text()
    error_type: str | None = _text()
    error_message: str | None = _text()
    error_fingerprint: str | None = _text()
    tags: str | None = _text()
    correlation_id: str | None = _key(optional=True)
    parent: str | None = _key(optional=True)
    idempotency_key: str | None = _text()
    fingerprint: str | None = _text()
    error_traceback: str | None = _text()
    result: bytes | None = _blob()
    envelope: bytes = _blob(optional=False)


class AttemptRow(Record, table=True):
    """One execution. *log* is what was kept of it, *log_dropped* the bytes cut out of its middle."""

    __tablename__ = "attempts"
    __table_args__ = (STRICT_BY_KEY,)

    task_id: str = _key(primary=True)
    number: int = _integer(primary=True)
    version: int = _big()
    outcome: str | None = _text()
    worker: str | None = _text()
    started_at: int | None = _big(optional=True)
    finished_at: int | None = _big(optional=True)
    reason: str | None = _text()
    error_type: str | None = _text()
    error_message: str | None = _text()
    error_traceback: str | None = _text()
    log_dropped: int | None = _big(optional=True)
    log: bytes | None = _blob()


class TagRow(Record, table=True):
    """A tag of a task, keyed so that one page of the tasks with a tag is one range of the key."""

    __tablename__ = "task_tags"
    __table_args__ = (STRICT_BY_KEY,)

    key: str = _key(primary=True)
    value: str = _key(primary=True)
    created_at: int = _big(primary=True)
    task_id: str = _key(primary=True)


class EventRow(Record, table=True):
    """A decision that neither a task's row nor an attempt's keeps: promotions, cancels, retries, pauses, workers."""

    __tablename__ = "events"
    __table_args__ = (
        Index("events_subject", "subject", "at"),
        Index("events_at", "at"),
        STRICT_BY_KEY,
    )

    epoch: int = _big(primary=True)
    stream_id: str = _key(primary=True)
    position: int = _integer(primary=True)
    at: int = _big()
    kind: str = _text(optional=False)
    subject: str = _key()
    version: int | None = _big(optional=True)
    state: str | None = _text()
    reason: str | None = _text()
    who: str | None = _text()


class DeadLetterRow(Record, table=True):
    """A death of a task; open until it is requeued or discarded (*closed_as*)."""

    __tablename__ = "dead_letters"
    __table_args__ = (
        Index("dead_letters_open", "died_at", **_where("closed_at IS NULL")),
        Index("dead_letters_died", "died_at"),
        STRICT,
    )

    task_id: str = _key(primary=True)
    died_at: int = _big(primary=True)
    handler: str = _key()
    queue: str = _key()
    reason: str | None = _text()
    error_type: str | None = _text()
    error_message: str | None = _text()
    fingerprint: str | None = _key(optional=True)
    closed_at: int | None = _big(optional=True)
    closed_as: str | None = _text()
    closed_by: str | None = _text()


class SettingRow(Record, table=True):
    """A durable setting of the broker, as JSON: a paused queue and the like."""

    __tablename__ = "settings"
    __table_args__ = (STRICT,)

    section: str = _key(primary=True)
    key: str = _key(primary=True)
    value: str = _text(optional=False)
    changed_at: int = _big()


class HandlerRow(Record, table=True):
    """A row of the catalogue, as JSON."""

    __tablename__ = "handlers"
    __table_args__ = (STRICT,)

    name: str = _key(primary=True)
    queue: str = _key()
    row: str = _text(optional=False)
    changed_at: int = _big()


class WorkerRow(Record, table=True):
    """A worker that ever registered; *info* is its registration as JSON."""

    __tablename__ = "workers"
    __table_args__ = (Index("workers_changed", "changed_at"), STRICT)

    id: str = _key(primary=True)
    state: str = _text(optional=False)
    name: str | None = _text()
    host: str | None = _text()
    started_at: int | None = _big(optional=True)
    changed_at: int = _big()
    info: str | None = _text()


class CheckpointRow(Record, table=True):
    """How far the journal is recorded: one row, written first in every transaction of the recorder.

    *broker* is where Redis was when it was opened last, without user and password.
    """

    __tablename__ = "checkpoint"
    __table_args__ = (STRICT,)

    id: int = _integer(primary=True)
    pairing: str = _text(optional=False)
    epoch: int = _big()
    stream_id: str = _text(optional=False)
    sequence: int = _big()
    rows: int = _big()
    bytes: int = _big()
    term: int = _big()
    broker: str = _text(optional=False)
    committed_at: int = _big()


class TermRow(Record, table=True):
    """The last term given out for a role; it only grows."""

    __tablename__ = "terms"
    __table_args__ = (STRICT,)

    role: str = _key(primary=True)
    term: int = _big()
    holder: str = _text(optional=False)
    elected_at: int = _big()


class QuarantineRow(Record, table=True):
    """A journal entry that could not be recorded, whole, and why."""

    __tablename__ = "quarantine"
    __table_args__ = (STRICT,)

    epoch: int = _big(primary=True)
    stream_id: str = _key(primary=True)
    sequence: int = _big()
    at: int = _big()
    error: str = _text(optional=False)
    entry: bytes = _blob(optional=False)


class WindowRow(Record, table=True):
    """A unique window: until *ends_at*, submits with this *fingerprint* are answered with the task."""

    __tablename__ = "windows"
    __table_args__ = (Index("windows_ends", "ends_at"), STRICT_BY_KEY)

    fingerprint: str = _key(primary=True)
    task_id: str = _key()
    ends_at: int = _big()


class HealthRow(Record, table=True):
    """A stretch in which a check stayed at one level: *runs* of it from *at* to *seen_at*.

    A row ends with the hour; *since* is when the level began, which may be rows earlier.
    """

    __tablename__ = "health"
    __table_args__ = (Index("health_seen", "seen_at"), STRICT_BY_KEY)

    name: str = _key(primary=True)
    at: int = _big(primary=True)
    since: int = _big()
    level: str = _text(optional=False)
    seen_at: int = _big()
    runs: int = _integer()
    message: str = _text(optional=False)
    hint: str = _text(optional=False)


class RecoveryRow(Record, table=True):
    """Something that the system recovered from by itself."""

    __tablename__ = "recoveries"
    __table_args__ = (Index("recoveries_at", "at"), STRICT_BY_KEY)

    id: str = _key(primary=True)
    at: int = _big()
    kind: str = _text(optional=False)
    subject: str = _text(optional=False)
    message: str = _text(optional=False)
    length_ms: int | None = _big(optional=True)
