"""Submits from inside a running handler: they travel to its supervisor, since executors do not reach the broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tqctl_runtime.client.options import to_fields
from tqctl_runtime.core.current import find_current_task
from tqctl_runtime.core.errors import NotAllowed
from tqctl_runtime.core.submission import Submission

if TYPE_CHECKING:
    from tqctl_runtime.client.shapes import Shape
    from tqctl_runtime.core.current import Channel

_NAMES = tuple(field.name for field in fields(Submission))
_ALWAYS = ("handler", "payload")
#: What a handler's own declaration says about its tasks; elsewhere the supervisor asks the catalogue.
_DEFAULTS = ("queue", "priority", "max_retries", "timeout_ms")


def find_channel() -> Channel | None:
    """The channel of the task that is running here, or None outside of one."""
    task = find_current_task()
    return None if task is None else task.channel


def submit_child(channel: Channel, shape: Shape, payload: Mapping[str, Any] | bytes, options: Mapping[str, Any]) -> str:
    """Submit a child of the running task; returns its id.

    Raises:
        UsageError: an option is not valid.
        PayloadError: the payload is not a JSON object or too large.
    """
    return channel.submit(child_fields(shape.build(payload, options), options, is_known=shape.row is not None))


async def submit_child_async(
    channel: Channel, shape: Shape, payload: Mapping[str, Any] | bytes, options: Mapping[str, Any]
) -> str:
    """As :func:`submit_child`, while the loop of an async handler goes on."""
    fields = child_fields(shape.build(payload, options), options, is_known=shape.row is not None)
    return await channel.submit_async(fields)


def child_fields(submission: Submission, options: Mapping[str, Any], *, is_known: bool) -> dict[str, Any]:
    """The fields of *submission* that were chosen, by *options* or (*is_known*) by the handler's declaration."""
    chosen = {("id" if name == "task_id" else name) for name in to_fields(options)}
    chosen.update(_ALWAYS, _DEFAULTS if is_known else ())
    return {name: getattr(submission, name) for name in _NAMES if name in chosen}


def refuse_inside(what: str) -> None:
    """Refuse *what* inside of a running handler.

    Raises:
        NotAllowed: this code runs inside of a task.
    """
    if find_channel() is not None:
        raise NotAllowed(
            f"a running handler cannot {what}: it has no way to the broker, and it would hold its place meanwhile",
            hint="submit the follow-up work as a task of its own",
        )
