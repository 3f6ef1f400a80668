"""By which index a filtered list of tasks is read.

Neither database knows how rare a handler is among the tasks of a queue. So each condition that has an index is first
counted, up to a bound; a rare one is read whole and sorted. Where all are frequent, the list is read in its order and
the conditions are checked on the way. A condition that must not choose the index compares an expression.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, Select, exists, func, literal, literal_column, or_, select

from tqctl_runtime.core.states import State
from tqctl_runtime.record.filters import TaskFilter
from tqctl_runtime.record.queries.names import TAGS, TASKS

Condition = ColumnElement[bool]
t = TASKS.c
#: Rows up to which a condition counts as rare: that many are read and sorted within a few milliseconds.
RARE = 500
#: Columns compared for equality; those whose index goes on with state and time come first.
BY_STATE = ("handler", "tenant", "queue")
EQUAL = (*BY_STATE, "correlation_id", "parent")


@dataclass(frozen=True)
class Road:
    """One way to the tasks of a filter: *conditions* that an index answers, on *source*."""

    name: str
    source: FromClause
    conditions: list[Condition]

    def count(self) -> ColumnElement[int]:
        """Its rows, counted up to RARE."""
        some = select(literal(1).label("one")).select_from(self.source).where(*self.conditions).limit(RARE).subquery()
        return select(func.count()).select_from(some).scalar_subquery()


def roads(where: TaskFilter) -> Iterator[Road]:
    """The roads that *where* opens."""
    states = t.state.in_([str(state) for state in where.states or State])
    for name in EQUAL:
        value = getattr(where, name)
        if value is not None:
            more = [states, *times(where)] if name in BY_STATE else []
            yield Road(name, TASKS, [t[name] == value, *more])
    for key, value in list(where.tags.items())[:1]:
        found = [TAGS.c.key == key, TAGS.c.value == value, *times(where, TAGS.c.created_at)]
        yield Road("tag", TAGS, found)
    if where.error is not None:
        yield Road("error", TASKS, [t.error_type != literal_column("''"), *times(where)])
    if where.states or times(where):
        yield Road("state", TASKS, [states, *times(where)])


def rarest(connection: Connection, found: list[Road]) -> Road | None:
    """The road with the fewest tasks; None where all have many."""
    if not found:
        return None
    counts = connection.execute(select(*(road.count() for road in found))).one()
    count, road = min(zip(counts, found, strict=True), key=lambda pair: pair[0])
    return road if count < RARE else None


def times(where: TaskFilter, column: ColumnElement[int] | None = None) -> list[Condition]:
    """The time of the submit."""
    when = t.created_at if column is None else column
    found: list[Condition] = []
    if where.since is not None:
        found.append(when >= where.since)
    if where.until is not None:
        found.append(when < where.until)
    return found


def checks(where: TaskFilter, *, but: str = "") -> list[Condition]:
    """All conditions of *where* on a task but that on column *but*, none of which may choose an index."""
    found: list[Condition] = []
    for name in EQUAL:
        value = getattr(where, name)
        if value is not None and name != but:
            found.append(aside(t[name]) == value)
    if where.states and but != "state":
        found.append(aside(t.state).in_([str(state) for state in where.states]))
    if where.error is not None:
        found.append(t.error_type != literal_column("''"))
        found.append(error_contains(t.error_type, t.error_message, where.error))
    for key, value in list(where.tags.items())[1 if but == "tag" else 0 :]:
        other = TAGS.alias().c
        same = (other.key == key, other.value == value, other.created_at == t.created_at, other.task_id == t.id)
        found.append(exists().where(*same))
    return found


def aside(column: ColumnElement[str]) -> ColumnElement[str]:
    """The text in *column* as an expression, for which there is no index."""
    return column.op("||")(literal_column("''"))


def error_contains(kind: ColumnElement[str], message: ColumnElement[str], text: str) -> Condition:
    """Whether an error's type or message has *text* in it, in any case."""
    return or_(kind.icontains(text, autoescape=True), message.icontains(text, autoescape=True))


def filtered(where: TaskFilter, *columns: ColumnElement[Any]) -> Select[Any]:
    """All tasks of *where*, in no order: the database chooses how."""
    found: list[Condition] = [t[name] == getattr(where, name) for name in EQUAL if getattr(where, name) is not None]
    if where.states:
        found.append(t.state.in_([str(state) for state in where.states]))
    only_rest = TaskFilter(tags=where.tags, error=where.error)
    return select(*columns).select_from(TASKS).where(*found, *times(where), *checks(only_rest))
