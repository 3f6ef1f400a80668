"""The task that is running here, and what a running handler can ask of its worker.

Nothing here knows how to submit: a running handler speaks through a :class:`Channel`, which the executor sets. Every
submit looks here first, so that this stays cheap to import.
"""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from tqctl_runtime.core.needs import Needs

if TYPE_CHECKING:
    import logging
    from pathlib import Path


class Channel(Protocol):
    """What a running handler may ask of the process that runs it. Every call is safe from the handler's thread."""

    def submit(self, call: Mapping[str, Any]) -> str:
        """Submit a child task described by *call* (fields of ``Submission``); returns its id."""

    async def submit_async(self, call: Mapping[str, Any]) -> str:
        """As :meth:`submit`, while the loop of an async handler goes on."""

    def progress(self, percent: float, message: str) -> None:
        """Tell how far the task is."""

    def is_cancelled(self) -> bool:
        """Whether the task was asked to stop."""

    def folder(self) -> Path:
        """A temporary folder of this attempt, removed when it ends."""


#: Of the handlers that ask for nothing.
NO_NEEDS = Needs()


@dataclass(slots=True)
class CurrentTask:
    """The task that is running here: who it is and what it can say."""

    id: str
    handler: str
    attempt: int
    queue: str
    tags: dict[str, str] = field(default_factory=dict)
    tenant: str | None = None
    correlation_id: str | None = None
    parent: str | None = None
    channel: Channel | None = None
    #: What the handler asked for by ``@handler(needs=…)``: ``current_task().needs["db"]`` is a URL. Secrets.
    needs: Mapping[str, str] = field(default_factory=lambda: NO_NEEDS)

    def progress(self, percent: float, message: str = "") -> None:
        """Tell how far the task is: 0 to 100, with a short message."""
        if self.channel is not None:
            self.channel.progress(min(max(float(percent), 0.0), 100.0), message)

    @property
    def is_cancelled(self) -> bool:
        """Whether the task was asked to stop; a handler that looks may end early by raising ``Cancel``."""
        return self.channel is not None and self.channel.is_cancelled()

    @property
    def folder(self) -> Path:
        """A temporary folder of this attempt, removed when it ends."""
        if self.channel is None:
            raise RuntimeError("a temporary folder exists only while a worker runs the task")
        return self.channel.folder()

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines belong to this attempt and carry its id."""
        import logging

        extra = {"task_id": self.id, "attempt": self.attempt, "correlation_id": self.correlation_id}
        return logging.LoggerAdapter(logging.getLogger(f"tqctl.task.{self.handler}"), extra)


_current: contextvars.ContextVar[CurrentTask | None] = contextvars.ContextVar("tqctl_current_task", default=None)


def find_current_task() -> CurrentTask | None:
    """The running task, or None outside of one."""
    return _current.get()


def current_task() -> CurrentTask:
    """The task that is running here.

    Raises:
        RuntimeError: called outside of a task.
    """
    task = _current.get()
    if task is None:
        raise RuntimeError("current_task() works only inside a running task")
    return task


def set_current_task(task: CurrentTask | None) -> contextvars.Token[CurrentTask | None]:
    """Make *task* the running one in this context; for executors."""
    return _current.set(task)
