"""Lists of tasks. Every page reads ranges of indexes, whatever the filter.

The indexes lead with handler, queue, tenant or state, and then the time. A page over several states is merged from one
range for each, of which no more than a page is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
    union_all,
)

from tqctl_runtime.core.states import FINAL, State
from tqctl_runtime.core.task import Task
from tqctl_runtime.record.filters import After, Sort, TaskFilter
from tqctl_runtime.record.queries.names import ATTEMPTS, TAGS, TASKS
from tqctl_runtime.record.read import ATTEMPT_COLUMNS, TASK_COLUMNS, attempts_by_task, task_of

t = TASKS.c
#: The states in which tasks have the instant that a list is sorted by.
_STATES_OF = {
    "created_at": tuple(State),
    "finished_at": tuple(state for state in State if state in FINAL),
    "scheduled_at": (State.SCHEDULED, State.RETRYING),
}


def conditions(where: TaskFilter) -> list[ColumnElement[bool]]:
    """What *where* asks of a task, but its states and its first tag."""
    found: list[ColumnElement[bool]] = []
    for name in ("handler", "queue", "tenant", "correlation_id", "parent"):
        value = getattr(where, name)
        if value is not None:
            found.append(t[name] == value)
    if where.since is not None:
        found.append(t.created_at >= where.since)
    if where.until is not None:
        found.append(t.created_at < where.until)
    if where.error is not None:
        found.append(error_contains(t.error_type, t.error_message, where.error))
    for name, value in list(where.tags.items())[1:]:
        other = TAGS.alias().c
        same = (other.key == name, other.value == value, other.created_at == t.created_at, other.task_id == t.id)
        found.append(exists().where(*same))
    return found


def error_contains(kind: ColumnElement[Any], message: ColumnElement[Any], text: str) -> ColumnElement[bool]:
    """Whether an error's type or message has *text* in it, in any case."""
    return or_(kind.icontains(text, autoescape=True), message.icontains(text, autoescape=True))


def _source(where: TaskFilter) -> tuple[FromClause, list[ColumnElement[bool]]]:
    if not where.tags:
        return TASKS, []
    key, value = next(iter(where.tags.items()))
    return TAGS.join(TASKS, t.id == TAGS.c.task_id), [TAGS.c.key == key, TAGS.c.value == value]


def _page(where: TaskFilter, limit: int, sort: Sort, after: After | None) -> Select[Any]:
    """Ids and sort values of one page."""
    source, wanted = _source(where)
    by_tag = bool(where.tags) and sort.key == "created_at"
    value = TAGS.c.created_at if by_tag else t[sort.key]
    key = TAGS.c.task_id if by_tag else t.id
    wanted += [*conditions(where), value.is_not(None), *_beyond(value, key, sort, after)]
    if by_tag:
        wanted += _same_time(where)
    order = (value.desc(), key.desc()) if sort.is_descending else (value, key)
    states = where.states or _STATES_OF[sort.key]
    base = select(key.label("id"), value.label("value")).select_from(source).order_by(*order).limit(limit)
    if where.tags:
        if where.states:
            wanted.append(t.state.in_([str(state) for state in states]))
        return base.where(*wanted)
    parts = [base.where(t.state == str(state), *wanted).subquery() for state in states]
    merged = union_all(*(select(part.c.id, part.c.value) for part in parts)).subquery("page")
    ends = (merged.c.value, merged.c.id)
    return select(*reversed(ends)).order_by(*(end.desc() if sort.is_descending else end for end in ends)).limit(limit)


def _same_time(where: TaskFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if where.since is not None:
        found.append(TAGS.c.created_at >= where.since)
    if where.until is not None:
        found.append(TAGS.c.created_at < where.until)
    return found


def _beyond(
    value: ColumnElement[Any], key: ColumnElement[Any], sort: Sort, after: After | None
) -> list[ColumnElement[bool]]:
    if after is None:
        return []
    if sort.is_descending:
        return [value <= after.value, or_(value < after.value, and_(value == after.value, key < after.task_id))]
    return [value >= after.value, or_(value > after.value, and_(value == after.value, key > after.task_id))]


def page_ids(connection: Connection, where: TaskFilter, limit: int, sort: Sort, after: After | None) -> list[str]:
    """Ids of one page, in its order."""
    return [row.id for row in connection.execute(_page(where, limit, sort, after))]


def page(
    connection: Connection, where: TaskFilter, limit: int, sort: Sort, after: After | None, *, with_attempts: bool
) -> list[Task]:
    """One page of tasks."""
    ids = page_ids(connection, where, limit, sort, after)
    rows = {row[0]: row for row in _rows_of(connection, [TASKS.c[name] for name in TASK_COLUMNS], t.id, ids)}
    attempts = {}
    if with_attempts:
        columns = [ATTEMPTS.c[name] for name in ATTEMPT_COLUMNS]
        found = _rows_of(connection, columns, ATTEMPTS.c.task_id, ids)
        attempts = attempts_by_task(sorted(found, key=lambda row: (row[0], row[1])))
    return [task_of(rows[task_id], attempts.get(task_id, ())) for task_id in ids if task_id in rows]


def _rows_of(
    connection: Connection, columns: Sequence[ColumnElement[Any]], key: ColumnElement[Any], ids: Sequence[str]
) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(ids), 500):
        statement = select(*columns).where(key.in_(ids[start : start + 500]))
        found += [tuple(row) for row in connection.execute(statement)]
    return found


def _filtered(where: TaskFilter, *columns: ColumnElement[Any]) -> Select[Any]:
    source, wanted = _source(where)
    if where.states:
        wanted.append(t.state.in_([str(state) for state in where.states]))
    return select(*columns).select_from(source).where(*wanted, *conditions(where))


def count(connection: Connection, where: TaskFilter) -> int:
    """How many tasks there are."""
    found: int = connection.execute(_filtered(where, func.count())).scalar_one()
    return found


def counts_by_state(connection: Connection, where: TaskFilter) -> dict[State, int]:
    """How many tasks there are in each state."""
    statement = _filtered(where, t.state, func.count().label("tasks")).group_by(t.state)
    found = {State(row.state): row.tasks for row in connection.execute(statement)}
    return {state: found.get(state, 0) for state in State}
