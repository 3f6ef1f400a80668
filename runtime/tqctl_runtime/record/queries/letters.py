"""Dead letters: lists and groups."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from tqctl_runtime.core.clock import iso
from tqctl_runtime.record.filters import LetterFilter
from tqctl_runtime.record.queries.names import LETTERS
from tqctl_runtime.record.queries.roads import error_contains
from tqctl_runtime.record.read import DeadLetter, ErrorGroup, letter_of

c = LETTERS.c


def conditions(where: LetterFilter) -> list[ColumnElement[bool]]:
    """What *where* asks of a dead letter."""
    found: list[ColumnElement[bool]] = []
    if not where.with_closed:
        found.append(c.closed_at.is_(None))
    for name in ("handler", "queue", "fingerprint"):
        value = getattr(where, name)
        if value is not None:
            found.append(c[name] == value)
    if where.error is not None:
        found.append(error_contains(c.error_type, c.error_message, where.error) | c.reason.icontains(where.error))
    if where.since is not None:
        found.append(c.died_at >= where.since)
    if where.until is not None:
        found.append(c.died_at < where.until)
    if where.task_ids:
        found.append(c.task_id.in_(where.task_ids))
    return found


def page(connection: Connection, where: LetterFilter, limit: int) -> list[DeadLetter]:
    """Dead letters, latest first."""
    statement = select(LETTERS).where(*conditions(where)).order_by(c.died_at.desc(), c.task_id.desc()).limit(limit)
    return [letter_of(dict(row)) for row in connection.execute(statement).mappings()]


def task_ids(connection: Connection, where: LetterFilter, limit: int) -> list[str]:
    """Tasks of dead letters, latest first, each once."""
    latest = func.max(c.died_at)
    statement = (
        select(c.task_id).where(*conditions(where)).group_by(c.task_id).order_by(latest.desc(), c.task_id.desc())
    )
    return list(connection.execute(statement.limit(limit)).scalars())


def count(connection: Connection, where: LetterFilter) -> int:
    """How many dead letters there are."""
    return connection.execute(select(func.count()).select_from(LETTERS).where(*conditions(where))).scalar_one()


def groups(connection: Connection, where: LetterFilter, limit: int) -> list[ErrorGroup]:
    """Groups by handler and fingerprint, largest first."""
    wanted = conditions(where)
    statement = (
        select(
            c.handler,
            c.fingerprint,
            func.count().label("letters"),
            func.min(c.died_at).label("first"),
            func.max(c.died_at).label("last"),
        )
        .where(*wanted)
        .group_by(c.handler, c.fingerprint)
        .order_by(func.count().desc(), c.handler, c.fingerprint)
        .limit(limit)
    )
    found = []
    for row in connection.execute(statement).all():
        example = _example(connection, wanted, row)
        kind, message = (example.error_type, example.error_message) if example else (None, None)
        found.append(
            ErrorGroup(row.handler, row.fingerprint, kind, message, row.letters, iso(row.first), iso(row.last))
        )
    return found


def _example(connection: Connection, wanted: list[ColumnElement[bool]], group: Any) -> Any:
    statement = select(c.error_type, c.error_message).where(
        *wanted,
        c.handler == group.handler,
        c.fingerprint.is_not_distinct_from(group.fingerprint),
        c.died_at == group.last,
    )
    return connection.execute(statement.limit(1)).first()
