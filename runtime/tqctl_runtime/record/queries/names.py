"""The tables as statements see them: names only, so that a list does not wait for SQLModel to load."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, LargeBinary, SmallInteger, TableClause, Text, column, table

from tqctl_runtime.record.columns import TABLES

_TYPES = {"text": Text, "bigint": BigInteger, "integer": Integer, "smallint": SmallInteger, "bytea": LargeBinary}


def _table(name: str) -> TableClause:
    return table(name, *(column(part, _TYPES[kind]) for part, kind in TABLES[name].items()))


TASKS = _table("tasks")
ATTEMPTS = _table("attempts")
TAGS = _table("task_tags")
EVENTS = _table("events")
LETTERS = _table("dead_letters")
SETTINGS = _table("settings")
HANDLERS = _table("handlers")
WORKERS = _table("workers")
QUARANTINE = _table("quarantine")
