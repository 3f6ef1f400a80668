"""From rows of the record to the read models of core."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqctl_runtime.core.clock import iso
from tqctl_runtime.core.states import State
from tqctl_runtime.core.submission import Envelope
from tqctl_runtime.core.task import Attempt, ErrorInfo, Task

#: The columns that :func:`task_of` takes, in its order.
TASK_COLUMNS = (
    "id",
    "state",
    "handler",
    "queue",
    "priority",
    "failures",
    "deaths",
    "max_retries",
    "timeout_ms",
    "created_at",
    "scheduled_at",
    "expires_at",
    "started_at",
    "finished_at",
    "worker",
    "tenant",
    "correlation_id",
    "idempotency_key",
    "parent",
    "reason",
    "progress",
    "tags",
    "error_type",
    "error_message",
    "error_traceback",
    "result",
    "envelope",
)
#: The columns that :func:`attempt_of` takes, in its order.
ATTEMPT_COLUMNS = (
    "task_id",
    "number",
    "outcome",
    "worker",
    "started_at",
    "finished_at",
    "reason",
    "error_type",
    "error_message",
    "error_traceback",
)


@dataclass(slots=True)
class DeadLetter:
    """A death of a task. Instants are RFC 3339 text; *closed_as* is ``requeued`` or ``discarded``, None while open."""

    task_id: str
    died_at: str | None
    handler: str
    queue: str
    reason: str | None
    error: ErrorInfo | None
    fingerprint: str | None
    closed_at: str | None
    closed_as: str | None
    closed_by: str | None

    def to_json(self) -> dict[str, Any]:
        """These names, in this order."""
        return {
            "task_id": self.task_id,
            "died_at": self.died_at,
            "handler": self.handler,
            "queue": self.queue,
            "reason": self.reason,
            "error": self.error.to_json() if self.error else None,
            "fingerprint": self.fingerprint,
            "closed_at": self.closed_at,
            "closed_as": self.closed_as,
            "closed_by": self.closed_by,
        }


@dataclass(slots=True)
class ErrorGroup:
    """Open dead letters of one handler with one fingerprint. *example* is the latest message."""

    handler: str
    fingerprint: str | None
    error_type: str | None
    example: str | None
    count: int
    first_at: str | None
    last_at: str | None


@dataclass(slots=True)
class Event:
    """A decision about a task, queue or worker. *at* is RFC 3339 text."""

    at: str | None
    kind: str
    subject: str
    state: str | None
    reason: str | None
    who: str | None


@dataclass(slots=True)
class WorkerRecord:
    """What is known of a worker that ever registered; *state* is ``live``, ``gone`` or ``lost``."""

    id: str
    state: str
    name: str | None
    host: str | None
    started_at: str | None
    changed_at: str | None
    info: dict[str, Any]


@dataclass(slots=True)
class Revival:
    """What the broker needs to run a task again that it has forgotten.

    *epoch* and *v* are its last version, *created_at* is its first submit in ms.
    """

    id: str
    state: State
    envelope: bytes
    epoch: int
    v: int
    attempts: int
    queue: str
    priority: int
    max_retries: int
    idempotency_key: str
    fingerprint: str
    created_at: int


def task_of(row: Sequence[Any], attempts: Iterable[Attempt] = ()) -> Task:
    """The task in *row* (TASK_COLUMNS)."""
    values: dict[str, Any] = dict(zip(TASK_COLUMNS, row, strict=True))
    result, envelope = values.pop("result"), values.pop("envelope")
    progress, tags, timeout = values.pop("progress"), values.pop("tags"), values.pop("timeout_ms")
    error = error_of(values.pop("error_type"), values.pop("error_message"), values.pop("error_traceback"))
    for name in ("created_at", "scheduled_at", "expires_at", "started_at", "finished_at"):
        values[name] = iso(values[name])
    return Task(
        **{**values, "state": State(values["state"]), "reason": values["reason"] or None},
        payload=json.loads(Envelope.from_bytes(bytes(envelope)).payload),
        result=None if result is None else json.loads(bytes(result)),
        error=error,
        timeout_s=timeout / 1000 if timeout else None,
        tags=json.loads(tags) if tags else {},
        progress=progress_of(progress),
        attempts=list(attempts),
    )


def attempt_of(row: Sequence[Any]) -> Attempt:
    """The attempt in *row* (ATTEMPT_COLUMNS)."""
    _, number, outcome, worker, started, finished, reason, *error = row
    duration = (finished - started) / 1000 if started and finished else None
    return Attempt(
        number, outcome, worker, iso(started), iso(finished), duration, error_of(*error), reason=reason or None
    )


def attempts_by_task(rows: Iterable[Sequence[Any]]) -> dict[str, list[Attempt]]:
    """The attempts in *rows* (ATTEMPT_COLUMNS, by number) by task."""
    found: dict[str, list[Attempt]] = {}
    for row in rows:
        found.setdefault(row[0], []).append(attempt_of(row))
    return found


def error_of(kind: str | None, message: str | None, traceback: str | None = None) -> ErrorInfo | None:
    """An error; None where there is none or never was one."""
    return ErrorInfo(kind, message or "", traceback or None) if kind else None


def progress_of(text: str | None) -> dict[str, Any] | None:
    """Percent and message of the last progress."""
    if not text:
        return None
    percent, message = json.loads(text)
    return {"percent": percent, "message": message}


def letter_of(row: Mapping[Any, Any]) -> DeadLetter:
    """The dead letter in *row*."""
    return DeadLetter(
        task_id=row["task_id"],
        died_at=iso(row["died_at"]),
        handler=row["handler"],
        queue=row["queue"],
        reason=row["reason"] or None,
        error=error_of(row["error_type"], row["error_message"]),
        fingerprint=row["fingerprint"] or None,
        closed_at=iso(row["closed_at"]),
        closed_as=row["closed_as"],
        closed_by=row["closed_by"] or None,
    )
