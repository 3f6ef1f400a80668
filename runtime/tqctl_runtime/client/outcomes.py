"""The end of a waited task as a value or an error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tqctl_runtime.core.errors import NotFound, TaskCancelled, TaskFailed, TaskTimedOut, TqctlError
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.task import ErrorInfo, Task

#: The class by which a worker names the end of an attempt at its time limit.
_TIME_LIMIT = "TimeLimitReached"


@dataclass(frozen=True, slots=True)
class Ended:
    """A task that reached a final state. *result* is its JSON value; *is_late* that its own time limit ended it."""

    id: str
    state: State
    result: Any = None
    error: ErrorInfo | None = None
    reason: str | None = None
    is_late: bool = False

    @classmethod
    def of_detail(cls, task_id: str, state: State, data: bytes) -> Ended:
        """From the finish detail that Redis keeps for waiters; empty where the end had none."""
        from tqctl_runtime.core.attempt import Detail

        detail = Detail.from_bytes(data)
        result = json.loads(detail.result) if detail.result is not None else None
        is_late = detail.error is not None and detail.error.type == _TIME_LIMIT
        return cls(task_id, state, result, detail.error, None, is_late)

    @classmethod
    def of_task(cls, task: Task) -> Ended:
        """From the record."""
        last = task.attempts[-1].outcome if task.attempts else None
        is_late = last == Outcome.TIMED_OUT or (task.error is not None and task.error.type == _TIME_LIMIT)
        return cls(task.id, task.state, task.result, task.error, task.reason, is_late)

    @property
    def is_vague(self) -> bool:
        """Whether only the record can say why it ended so."""
        return self.state == State.DEAD and self.error is None and self.reason is None

    def failure(self) -> TqctlError | None:
        """The error that this end is for somebody who waited; None where it succeeded."""
        hint = f"tqctl task show {self.id}"
        if self.state == State.SUCCEEDED:
            return None
        if self.state == State.CANCELLED:
            why = self.reason or (self.error.message if self.error else "")
            return TaskCancelled(f"task {self.id} was cancelled" + (f": {why}" if why else ""), hint=hint)
        if self.state == State.EXPIRED:
            return TaskFailed(f"task {self.id} expired before it could start", hint=hint)
        if self.is_late:
            return TaskTimedOut(f"task {self.id} is dead by its own time limit", hint=hint)
        return TaskFailed(f"task {self.id} is dead{self._why()}", hint=hint)

    def value(self) -> Any:
        """The result.

        Raises:
            TaskFailed: it ended dead or expired.
            TaskTimedOut: its own time limit ended it.
            TaskCancelled: it was cancelled.
        """
        failure = self.failure()
        if failure is not None:
            raise failure
        return self.result

    def _why(self) -> str:
        if self.error is not None:
            return f": {self.error.type}: {self.error.message}" if self.error.message else f": {self.error.type}"
        return f": {self.reason}" if self.reason else ""


def no_such_task(task_id: str) -> NotFound:
    """The error for an id that neither store knows."""
    return NotFound(f"there is no task {task_id}", hint="tqctl task list")
