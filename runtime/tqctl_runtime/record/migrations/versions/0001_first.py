"""The first shape of the record."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import TEXT

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.Text().with_variant(TEXT(collation="C"), "postgresql")
BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SMALL = sa.SmallInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table."""
    op.create_table("tasks", *_task_columns(), sa.PrimaryKeyConstraint("id", name="tasks_pkey"), sqlite_strict=True)
    _index_tasks()
    _create_attempts_and_tags()
    _create_events()
    _create_dead_letters()
    _create_settings()
    _create_recorder_tables()


def _partial_index(name: str, table: str, columns: list[str], condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, columns, postgresql_where=where, sqlite_where=where)


def _task_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", KEY, nullable=False),
        sa.Column("tail", KEY, nullable=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("state", KEY, nullable=False),
        sa.Column("handler", KEY, nullable=False),
        sa.Column("queue", KEY, nullable=False),
        sa.Column("priority", SMALL, nullable=False),
        sa.Column("tenant", KEY, nullable=True),
        sa.Column("created_at", BIG, nullable=False),
        sa.Column("scheduled_at", BIG, nullable=True),
        sa.Column("expires_at", BIG, nullable=True),
        sa.Column("started_at", BIG, nullable=True),
        sa.Column("finished_at", BIG, nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("deaths", sa.Integer(), nullable=False),
        sa.Column("max_retries", sa.Integer(), nullable=False),
        sa.Column("timeout_ms", BIG, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", BIG, nullable=True),
        sa.Column("progress", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_fingerprint", sa.Text(), nullable=True),
        sa.Column("tags", sa.Text(), nullable=True),
        sa.Column("correlation_id", KEY, nullable=True),
        sa.Column("parent", KEY, nullable=True),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("fingerprint", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("result", sa.LargeBinary(), nullable=True),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
    ]


def _index_tasks() -> None:
    _partial_index("tasks_due", "tasks", ["state", "scheduled_at"], "state = 'scheduled' OR state = 'retrying'")
    _partial_index("tasks_finished", "tasks", ["state", "finished_at"], "finished_at IS NOT NULL")
    _partial_index("tasks_correlation", "tasks", ["correlation_id"], "correlation_id IS NOT NULL")
    _partial_index("tasks_error", "tasks", ["created_at"], "error_type <> ''")
    _partial_index("tasks_key", "tasks", ["finished_at"], "idempotency_key IS NOT NULL")
    _partial_index("tasks_parent", "tasks", ["parent"], "parent IS NOT NULL")
    op.create_index("tasks_handler", "tasks", ["handler", "state", "created_at"])
    op.create_index("tasks_queue", "tasks", ["queue", "state", "created_at"])
    op.create_index("tasks_state", "tasks", ["state", "created_at"])
    op.create_index("tasks_tail", "tasks", ["tail"])
    _partial_index("tasks_tenant", "tasks", ["tenant", "state", "created_at"], "tenant IS NOT NULL")


def _create_attempts_and_tags() -> None:
    op.create_table(
        "attempts",
        sa.Column("task_id", KEY, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("version", BIG, nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("started_at", BIG, nullable=True),
        sa.Column("finished_at", BIG, nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("log_dropped", BIG, nullable=True),
        sa.Column("log", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "number", name="attempts_pkey"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_table(
        "task_tags",
        sa.Column("key", KEY, nullable=False),
        sa.Column("value", KEY, nullable=False),
        sa.Column("created_at", BIG, nullable=False, autoincrement=False),
        sa.Column("task_id", KEY, nullable=False),
        sa.PrimaryKeyConstraint("key", "value", "created_at", "task_id", name="task_tags_pkey"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )


def _create_events() -> None:
    op.create_table(
        "events",
        sa.Column("epoch", BIG, nullable=False, autoincrement=False),
        sa.Column("stream_id", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", KEY, nullable=False),
        sa.Column("version", BIG, nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("who", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("epoch", "stream_id", "position", name="events_pkey"),
        sqlite_with_rowid=False,
        sqlite_strict=True,
    )
    op.create_index("events_at", "events", ["at"])
    op.create_index("events_subject", "events", ["subject", "at"])


def _create_dead_letters() -> None:
    op.create_table(
        "dead_letters",
        sa.Column("task_id", KEY, nullable=False),
        sa.Column("died_at", BIG, nullable=False, autoincrement=False),
        sa.Column("handler", KEY, nullable=False),
        sa.Column("queue", KEY, nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("error_type", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("fingerprint", KEY, nullable=True),
        sa.Column("closed_at", BIG, nullable=True),
        sa.Column("closed_as", sa.Text(), nullable=True),
        sa.Column("closed_by", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("task_id", "died_at", name="dead_letters_pkey"),
        sqlite_strict=True,
    )
    op.create_index("dead_letters_died", "dead_letters", ["died_at"])
    _partial_index("dead_letters_open", "dead_letters", ["died_at"], "closed_at IS NULL")


def _create_settings() -> None:
    op.create_table(
        "settings",
        sa.Column("section", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("changed_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("section", "key", name="settings_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "handlers",
        sa.Column("name", KEY, nullable=False),
        sa.Column("queue", KEY, nullable=False),
        sa.Column("row", sa.Text(), nullable=False),
        sa.Column("changed_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name="handlers_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "workers",
        sa.Column("id", KEY, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("host", sa.Text(), nullable=True),
        sa.Column("started_at", BIG, nullable=True),
        sa.Column("changed_at", BIG, nullable=False),
        sa.Column("info", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="workers_pkey"),
        sqlite_strict=True,
    )
    op.create_index("workers_changed", "workers", ["changed_at"])


def _create_recorder_tables() -> None:
    op.create_table(
        "checkpoint",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("pairing", sa.Text(), nullable=False),
        sa.Column("epoch", BIG, nullable=False),
        sa.Column("stream_id", sa.Text(), nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("rows", BIG, nullable=False),
        sa.Column("bytes", BIG, nullable=False),
        sa.Column("term", BIG, nullable=False),
        sa.Column("broker", sa.Text(), nullable=False),
        sa.Column("committed_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("id", name="checkpoint_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "terms",
        sa.Column("role", KEY, nullable=False),
        sa.Column("term", BIG, nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("elected_at", BIG, nullable=False),
        sa.PrimaryKeyConstraint("role", name="terms_pkey"),
        sqlite_strict=True,
    )
    op.create_table(
        "quarantine",
        sa.Column("epoch", BIG, nullable=False, autoincrement=False),
        sa.Column("stream_id", KEY, nullable=False),
        sa.Column("sequence", BIG, nullable=False),
        sa.Column("at", BIG, nullable=False),
        sa.Column("error", sa.Text(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("epoch", "stream_id", name="quarantine_pkey"),
        sqlite_strict=True,
    )
