"""The read model of a task, as ``task show -o json`` prints it. Fields are only ever added."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tqctl_runtime.core.states import State


@dataclass(slots=True)
class ErrorInfo:
    """Why an attempt or a task failed; text only, cleaned of NUL and surrogates by the worker."""

    type: str
    message: str
    traceback: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The shape of the ``error`` field."""
        return {"type": self.type, "message": self.message, "traceback": self.traceback}


@dataclass(slots=True)
class Attempt:
    """One execution. Instants are RFC 3339 text; *duration_s* is None while it runs.

    *reason* is why it ended so where its outcome alone does not tell, such as ``worker lost``.
    """

    number: int
    outcome: str | None
    worker: str | None
    started_at: str | None
    finished_at: str | None
    duration_s: float | None
    error: ErrorInfo | None = None
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The shape of one element of ``attempts``."""
        return {
            "number": self.number,
            "outcome": self.outcome,
            "worker": self.worker,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "duration_s": self.duration_s,
            "reason": self.reason,
            "error": self.error.to_json() if self.error else None,
        }


@dataclass(slots=True)
class Task:
    """Everything known about one task. Instants are RFC 3339 text in UTC, payload and result JSON values."""

    id: str
    handler: str
    queue: str
    state: State
    priority: int
    payload: Any = None
    result: Any = None
    error: ErrorInfo | None = None
    failures: int = 0
    deaths: int = 0
    max_retries: int = 5
    timeout_s: float | None = None
    created_at: str | None = None
    scheduled_at: str | None = None
    expires_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    worker: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    tenant: str | None = None
    correlation_id: str | None = None
    idempotency_key: str | None = None
    parent: str | None = None
    reason: str | None = None
    progress: dict[str, Any] | None = None
    attempts: list[Attempt] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The contract with scripts: these names, in this order."""
        return {
            "id": self.id,
            "handler": self.handler,
            "queue": self.queue,
            "state": str(self.state),
            "priority": self.priority,
            "payload": self.payload,
            "result": self.result,
            "error": self.error.to_json() if self.error else None,
            "failures": self.failures,
            "deaths": self.deaths,
            "max_retries": self.max_retries,
            "timeout_s": self.timeout_s,
            "created_at": self.created_at,
            "scheduled_at": self.scheduled_at,
            "expires_at": self.expires_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "worker": self.worker,
            "tags": self.tags,
            "tenant": self.tenant,
            "correlation_id": self.correlation_id,
            "idempotency_key": self.idempotency_key,
            "parent": self.parent,
            "reason": self.reason,
            "progress": self.progress,
            "attempts": [attempt.to_json() for attempt in self.attempts],
        }
