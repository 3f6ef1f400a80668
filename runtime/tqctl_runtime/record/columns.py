"""Names and PostgreSQL types of the record's columns, in the order the recorder binds them.

The recorder and the readers of single tasks use these instead of :mod:`tables`, whose import costs a third of a
second; a test holds both to the same names. Large values come last: SQLite reads a row only up to the last column
that is asked for.
"""

from __future__ import annotations

TASKS: dict[str, str] = {
    "id": "text",
    "tail": "text",
    "version": "bigint",
    "state": "text",
    "handler": "text",
    "queue": "text",
    "priority": "smallint",
    "tenant": "text",
    "created_at": "bigint",
    "scheduled_at": "bigint",
    "expires_at": "bigint",
    "started_at": "bigint",
    "finished_at": "bigint",
    "worker": "text",
    "failures": "integer",
    "deaths": "integer",
    "max_retries": "integer",
    "timeout_ms": "bigint",
    "reason": "text",
    "cancel_requested_at": "bigint",
    "progress": "text",
    "error_type": "text",
    "error_message": "text",
    "error_fingerprint": "text",
    "tags": "text",
    "correlation_id": "text",
    "parent": "text",
    "idempotency_key": "text",
    "fingerprint": "text",
    "error_traceback": "text",
    "result": "bytea",
    "envelope": "bytea",
}

#: What a task that simply ran has: the recorder binds only these unless there is more to tell, since every parameter of
#: a statement costs the client more than its place in the row costs the database.
TASK_HOT: tuple[str, ...] = (
    "id",
    "tail",
    "version",
    "state",
    "handler",
    "queue",
    "priority",
    "created_at",
    "max_retries",
    "started_at",
    "finished_at",
    "worker",
    "result",
    "envelope",
)
#: The order in which the recorder binds a whole task.
TASK_ORDER: tuple[str, ...] = TASK_HOT + tuple(name for name in TASKS if name not in TASK_HOT)

#: What the end of a plain success tells of a task that is recorded already; then id and version.
TASK_SUCCESS: tuple[str, ...] = ("version", "started_at", "finished_at", "worker", "failures", "deaths", "result", "id")

#: What a row about a known task may change; the rest is written once, at the submit.
TASK_CHANGES: tuple[str, ...] = (
    "version",
    "state",
    "scheduled_at",
    "started_at",
    "finished_at",
    "worker",
    "failures",
    "deaths",
    "reason",
    "cancel_requested_at",
    "progress",
    "error_type",
    "error_message",
    "error_fingerprint",
    "error_traceback",
    "result",
)

#: What an operator's retry empties.
TASK_RESETS: tuple[str, ...] = (
    "expires_at",
    "started_at",
    "finished_at",
    "worker",
    "reason",
    "cancel_requested_at",
    "progress",
    "error_type",
    "error_message",
    "error_fingerprint",
    "error_traceback",
    "result",
)

ATTEMPTS: dict[str, str] = {
    "task_id": "text",
    "number": "integer",
    "version": "bigint",
    "outcome": "text",
    "worker": "text",
    "started_at": "bigint",
    "finished_at": "bigint",
    "reason": "text",
    "error_type": "text",
    "error_message": "text",
    "error_traceback": "text",
    "log_dropped": "bigint",
    "log": "bytea",
}

#: What an attempt has that left neither error nor log.
ATTEMPT_HOT: tuple[str, ...] = tuple(ATTEMPTS)[:7]

TAGS: dict[str, str] = {"key": "text", "value": "text", "created_at": "bigint", "task_id": "text"}

EVENTS: dict[str, str] = {
    "epoch": "bigint",
    "stream_id": "text",
    "position": "integer",
    "at": "bigint",
    "kind": "text",
    "subject": "text",
    "version": "bigint",
    "state": "text",
    "reason": "text",
    "who": "text",
}

DEAD_LETTERS: dict[str, str] = {
    "task_id": "text",
    "died_at": "bigint",
    "handler": "text",
    "queue": "text",
    "reason": "text",
    "error_type": "text",
    "error_message": "text",
    "fingerprint": "text",
    "closed_at": "bigint",
    "closed_as": "text",
    "closed_by": "text",
}

SETTINGS: dict[str, str] = {"section": "text", "key": "text", "value": "text", "changed_at": "bigint"}
HANDLERS: dict[str, str] = {"name": "text", "queue": "text", "row": "text", "changed_at": "bigint"}
WORKERS: dict[str, str] = {
    "id": "text",
    "state": "text",
    "name": "text",
    "host": "text",
    "started_at": "bigint",
    "changed_at": "bigint",
    "info": "text",
}
CHECKPOINT: dict[str, str] = {
    "id": "integer",
    "pairing": "text",
    "epoch": "bigint",
    "stream_id": "text",
    "sequence": "bigint",
    "rows": "bigint",
    "bytes": "bigint",
    "term": "bigint",
    "broker": "text",
    "committed_at": "bigint",
}
TERMS: dict[str, str] = {"role": "text", "term": "bigint", "holder": "text", "elected_at": "bigint"}
QUARANTINE: dict[str, str] = {
    "epoch": "bigint",
    "stream_id": "text",
    "sequence": "bigint",
    "at": "bigint",
    "error": "text",
    "entry": "bytea",
}
WINDOWS: dict[str, str] = {"fingerprint": "text", "task_id": "text", "ends_at": "bigint"}
HEALTH: dict[str, str] = {
    "name": "text",
    "at": "bigint",
    "since": "bigint",
    "level": "text",
    "seen_at": "bigint",
    "runs": "integer",
    "message": "text",
    "hint": "text",
}
RECOVERIES: dict[str, str] = {
    "id": "text",
    "at": "bigint",
    "kind": "text",
    "subject": "text",
    "message": "text",
    "length_ms": "bigint",
}

TABLES: dict[str, dict[str, str]] = {
    "tasks": TASKS,
    "attempts": ATTEMPTS,
    "task_tags": TAGS,
    "events": EVENTS,
    "dead_letters": DEAD_LETTERS,
    "settings": SETTINGS,
    "handlers": HANDLERS,
    "workers": WORKERS,
    "checkpoint": CHECKPOINT,
    "terms": TERMS,
    "quarantine": QUARANTINE,
    "windows": WINDOWS,
    "health": HEALTH,
    "recoveries": RECOVERIES,
}
