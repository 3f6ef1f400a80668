"""What lists can be narrowed by and sorted by. Loads nothing of SQL: faces build these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tqctl_runtime.core.errors import UsageError
from tqctl_runtime.core.states import State

#: What tasks are sorted by; each has an index behind it.
SORT_KEYS = ("created_at", "finished_at", "scheduled_at")
_NO_TAGS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class TaskFilter:
    """Conditions that all must hold; an empty one holds always.

    *since* (inclusive) and *until* (exclusive) are ms and mean the time of the submit. *error* is a part of the type or
    message of the task's error, in any case.
    """

    states: tuple[State, ...] = ()
    handler: str | None = None
    queue: str | None = None
    tags: Mapping[str, str] = field(default_factory=lambda: _NO_TAGS)
    tenant: str | None = None
    since: int | None = None
    until: int | None = None
    error: str | None = None
    correlation_id: str | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Conditions on dead letters, all of which must hold. *since* and *until* (ms) mean the time of the death."""

    handler: str | None = None
    queue: str | None = None
    error: str | None = None
    fingerprint: str | None = None
    since: int | None = None
    until: int | None = None
    task_ids: tuple[str, ...] = ()
    with_closed: bool = False


@dataclass(frozen=True, slots=True)
class Sort:
    """The order of a list of tasks. Tasks without the instant are left out."""

    key: str = "created_at"
    is_descending: bool = True

    @classmethod
    def parse(cls, text: str) -> Sort:
        """The order that ``created_at`` or ``-created_at`` (latest first) means.

        Raises:
            UsageError: nothing is sorted by that.
        """
        key = text.removeprefix("-")
        if key not in SORT_KEYS:
            raise UsageError(f"tasks are not sorted by {key!r}", hint="sort keys: " + ", ".join(SORT_KEYS))
        return cls(key, text.startswith("-"))


@dataclass(frozen=True, slots=True)
class After:
    """Where the page before ended: the sort key's value (ms) and the id of its last task."""

    value: int
    task_id: str
