"""A task as both stores know it: what is alive from Redis, what happened before from the record."""

from __future__ import annotations

import json
from typing import Any

from tqctl_runtime.broker.views import LiveTask
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.clock import iso
from tqctl_runtime.core.states import FINAL, State
from tqctl_runtime.core.submission import Envelope
from tqctl_runtime.core.task import Attempt, Task


def merge(live: LiveTask, recorded: Task | None) -> Task:
    """The task that *live* and *recorded* are two views of; *live* is the newer one where they differ."""
    envelope = Envelope.from_bytes(live.envelope)
    task = Task(
        id=live.id,
        handler=envelope.handler,
        queue=live.queue,
        state=live.state,
        priority=live.priority,
        payload=json_value(envelope.payload),
        failures=live.failures,
        deaths=live.deaths,
        max_retries=live.max_retries,
        timeout_s=envelope.timeout_ms / 1000 or None,
        created_at=recorded.created_at if recorded else iso(live.created_at),
        scheduled_at=iso(live.due_at) or (recorded.scheduled_at if recorded else None),
        expires_at=iso(live.expires_at),
        started_at=iso(live.started_at),
        worker=live.worker,
        tags=envelope.tags,
        tenant=envelope.tenant,
        correlation_id=envelope.correlation_id,
        idempotency_key=live.idempotency_key or None,
        parent=envelope.parent,
        reason=live.cancel_reason or None,
        progress=live.progress,
        attempts=list(recorded.attempts) if recorded else [],
    )
    if live.state in FINAL:
        _add_end(task, live, recorded)
    elif live.state == State.RUNNING:
        _add_running(task, live)
    if recorded is not None:
        _add_history(task, recorded)
    return task


def _add_end(task: Task, live: LiveTask, recorded: Task | None) -> None:
    detail = Detail.from_bytes(live.detail)
    task.result = json_value(detail.result)
    task.error = detail.error
    if recorded is not None and recorded.state == live.state:
        task.result = recorded.result if detail.result is None else task.result
        task.error = task.error or recorded.error
        task.finished_at = recorded.finished_at
        task.started_at = task.started_at or recorded.started_at
        task.worker = task.worker or recorded.worker
        task.reason = task.reason or recorded.reason
        task.progress = task.progress or recorded.progress


def _add_running(task: Task, live: LiveTask) -> None:
    """The attempt that runs now is in the record only where it outlasts a while."""
    known = next((item for item in task.attempts if item.number == live.attempts), None)
    if known is None:
        task.attempts.append(Attempt(live.attempts, None, live.worker, iso(live.started_at), None, None))


def _add_history(task: Task, recorded: Task) -> None:
    """What the last attempt left is shown until the next one ends."""
    if task.state not in FINAL:
        task.error = task.error or recorded.error
    task.started_at = task.started_at or recorded.started_at
    task.worker = task.worker or recorded.worker
    if task.state == recorded.state:
        task.reason = task.reason or recorded.reason


def json_value(data: bytes | str | None) -> Any:
    """The JSON value of *data*; None for none."""
    return None if not data else json.loads(data)
