"""Lists of tasks, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, exists, func, or_, select, union_all

from tqctl_runtime.core.states import FINAL, State
from tqctl_runtime.core.task import Task
from tqctl_runtime.record.filters import After, Sort, TaskFilter
from tqctl_runtime.record.queries.names import ATTEMPTS, TAGS, TASKS
from tqctl_runtime.record.queries.roads import BY_STATE, Condition, Road, checks, filtered, rarest, roads, times
from tqctl_runtime.record.read import ATTEMPT_COLUMNS, TASK_COLUMNS, attempts_by_task, task_of

t = TASKS.c
#: The states in which tasks have the instant that a list is sorted by.
_STATES_OF = {
    "created_at": tuple(State),
    "finished_at": tuple(state for state in State if state in FINAL),
    "scheduled_at": (State.SCHEDULED, State.RETRYING),
}
#: Ids in one statement.
_CHUNK = 500


def page_ids(connection: Connection, where: TaskFilter, limit: int, sort: Sort, after: After | None) -> list[str]:
    """Ids of one page, in its order."""
    if where.states and not set(where.states) & set(_STATES_OF[sort.key]):
        return []
    found = list(roads(where))
    road = rarest(connection, found)
    if road is not None:
        statement = _by_road(road, where, sort, after)
    elif sort.key == "created_at" and where.tags:
        statement = _by_tag(next(road for road in found if road.name == "tag"), where, sort, after)
    else:
        statement = _by_order(where, limit, sort, after)
    return [row.id for row in connection.execute(statement.limit(limit))]


def _by_road(road: Road, where: TaskFilter, sort: Sort, after: After | None) -> Select[Any]:
    """Everything on a rare road, sorted."""
    # Sorted by an expression: the index of the sort key would be walked from its end to find a handful.
    value = t[sort.key] + 0
    source = TASKS if road.source is TASKS else TAGS.join(TASKS, t.id == TAGS.c.task_id)
    wanted = [*road.conditions, *checks(where, but=road.name), *times(where), *_sortable(sort), value.is_not(None)]
    rows = select(t.id.label("id"), value.label("value")).select_from(source)
    return _ordered(rows.where(*wanted), value, t.id, sort, after)


def _by_tag(road: Road, where: TaskFilter, sort: Sort, after: After | None) -> Select[Any]:
    """The tasks of a frequent tag in the order of its key."""
    value, key = TAGS.c.created_at, TAGS.c.task_id
    rows = select(key.label("id"), value.label("value")).select_from(TAGS.join(TASKS, t.id == key))
    return _ordered(rows.where(*road.conditions, *checks(where, but="tag")), value, key, sort, after)


def _by_order(where: TaskFilter, limit: int, sort: Sort, after: After | None) -> Select[Any]:
    """A page in the list's own order, merged from one range of an index for each state."""
    value = t[sort.key]
    lead = next((name for name in BY_STATE if getattr(where, name) is not None), "") if sort.key == "created_at" else ""
    wanted: list[Condition] = [t[lead] == getattr(where, lead)] if lead else []
    when = t.created_at if sort.key == "created_at" else t.created_at + 0
    wanted += [*checks(replace(where, states=()), but=lead), *times(where, when)]
    states = [state for state in where.states or _STATES_OF[sort.key] if state in _STATES_OF[sort.key]]
    parts = []
    for state in states:
        rows = select(t.id.label("id"), value.label("value")).where(t.state == str(state), value.is_not(None), *wanted)
        if sort.key == "scheduled_at":
            rows = rows.where(*_sortable(sort))
        parts.append(_ordered(rows, value, t.id, sort, after).limit(limit).subquery())
    merged = union_all(*(select(part.c.id, part.c.value) for part in parts)).subquery("page")
    return _ordered(select(merged.c.id, merged.c.value), merged.c.value, merged.c.id, sort, None)


def _sortable(sort: Sort) -> list[Condition]:
    # Tasks keep the time they were once due at; what is listed is what is still to come.
    if sort.key != "scheduled_at":
        return []
    return [or_(t.state == str(State.SCHEDULED), t.state == str(State.RETRYING))]


def _ordered(
    rows: Select[Any], value: ColumnElement[Any], key: ColumnElement[Any], sort: Sort, after: After | None
) -> Select[Any]:
    if after is not None:
        is_beyond = (value.__lt__, key.__lt__) if sort.is_descending else (value.__gt__, key.__gt__)
        reached = value <= after.value if sort.is_descending else value >= after.value
        same = and_(value == after.value, is_beyond[1](after.task_id))
        rows = rows.where(reached, or_(is_beyond[0](after.value), same))
    return rows.order_by(value.desc(), key.desc()) if sort.is_descending else rows.order_by(value, key)


def page(
    connection: Connection, where: TaskFilter, limit: int, sort: Sort, after: After | None, *, with_attempts: bool
) -> list[Task]:
    """One page of tasks."""
    ids = page_ids(connection, where, limit, sort, after)
    rows = {row[0]: row for row in _rows_of(connection, [t[name] for name in TASK_COLUMNS], t.id, ids)}
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
    for start in range(0, len(ids), _CHUNK):
        statement = select(*columns).where(key.in_(ids[start : start + _CHUNK]))
        found += [tuple(row) for row in connection.execute(statement)]
    return found


def count(connection: Connection, where: TaskFilter) -> int:
    """How many tasks there are."""
    found: int = connection.execute(filtered(where, func.count())).scalar_one()
    return found


def counts_by_state(connection: Connection, where: TaskFilter) -> dict[State, int]:
    """How many tasks there are in each state."""
    rows = connection.execute(filtered(where, t.state, func.count().label("tasks")).group_by(t.state))
    found = {State(row[0]): int(row[1]) for row in rows}
    return {state: found.get(state, 0) for state in State}


def queues(connection: Connection, states: Sequence[State]) -> list[str]:
    """The names of queues that have tasks in one of *states*."""
    # From name to name by the index: DISTINCT would read every row of it.
    names = select(func.min(t.queue).label("name")).cte("names", recursive=True)
    following = select(func.min(t.queue)).where(t.queue > names.c.name).scalar_subquery()
    names = names.union_all(select(following).where(names.c.name.is_not(None)))
    is_used = [exists().where(t.queue == names.c.name, t.state == state) for state in states]
    wanted = select(names.c.name).where(names.c.name.is_not(None), or_(*is_used)).order_by(names.c.name)
    return [row.name for row in connection.execute(wanted)]


def has_queue(connection: Connection, name: str) -> bool:
    """Whether there is a task of queue *name*, in any state."""
    return connection.execute(select(t.id).where(t.queue == name).limit(1)).first() is not None
