"""Child tasks: what running handlers submit, gathered into few calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqctl_runtime.broker.calls import CHUNK, catalogue_row, submit
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link
from tqctl_runtime.core.errors import Conflict, TqctlError
from tqctl_runtime.core.handler import unknown_handler
from tqctl_runtime.core.ids import derived_id
from tqctl_runtime.core.submission import Submission, build_submission
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.executor_link import Held

#: Takes ([code, message] or None, id of the child).
Answer = Callable[[Any, Any], None]
#: How long a submit is repeated while the broker is away, in seconds; then the handler gets the error.
_PATIENCE = 30.0
_FIELDS = frozenset(Submission.__dataclass_fields__) - {"id", "parent", "handler", "payload", "watched"}


class Children:
    """Submits the children of running tasks. A child's id follows from its parent and the ordinal of the submit."""

    def __init__(self, keys: Keys, link: Link, payload_limit: int) -> None:
        self._keys = keys
        self._link = link
        self._limit = payload_limit
        self._rows: dict[str, Mapping[str, Any]] = {}
        self._waiting: list[tuple[Submission, Answer]] = []
        self._sender: asyncio.Task[None] | None = None
        self._builders: set[asyncio.Task[None]] = set()

    def know(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Take the catalogue *rows* of this worker as known."""
        self._rows = {row["name"]: row for row in rows}

    def add(self, parent: Held, call: Mapping[str, Any], answer: Answer) -> None:
        """Submit the child of *parent* that *call* describes (fields of ``Submission`` and its ordinal)."""
        row = self._rows.get(call["handler"])
        if row is not None:
            self._build(parent, call, row, answer)
            return
        task = asyncio.get_running_loop().create_task(self._look_up(parent, call, answer))
        self._builders.add(task)
        task.add_done_callback(self._builders.discard)

    async def _look_up(self, parent: Held, call: Mapping[str, Any], answer: Answer) -> None:
        name = call["handler"]
        try:
            row = await self._link.call_idempotent(catalogue_row(self._keys, name), patience=_PATIENCE)
            if row is None:
                raise unknown_handler(name, self._rows)
        except TqctlError as error:
            answer(_shape(error), None)
            return
        self._build(parent, call, row, answer)

    def _build(self, parent: Held, call: Mapping[str, Any], row: Mapping[str, Any], answer: Answer) -> None:
        chosen = {name: value for name, value in call.items() if name in _FIELDS and value is not None}
        chosen.setdefault("correlation_id", parent.row[frames.CORRELATION] or parent.id)
        if parent.row[frames.TENANT] is not None:
            chosen.setdefault("tenant", parent.row[frames.TENANT])
        try:
            submission = build_submission(
                call["handler"],
                call["payload"],
                defaults=row,
                task_id=call.get("id") or derived_id("tsk", parent.id, call["ordinal"]),
                parent=parent.id,
                payload_limit=self._limit,
                **chosen,
            )
        except TqctlError as error:
            answer(_shape(error), None)
            return
        self._waiting.append((submission, answer))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send())

    async def _send(self) -> None:
        while self._waiting:
            batch = self._waiting[:CHUNK]
            del self._waiting[:CHUNK]
            call = submit(self._keys, [submission for submission, _ in batch])
            try:
                reply = await self._link.call_idempotent(call, patience=_PATIENCE)
            except TqctlError as error:
                for _, answer in batch:
                    answer(_shape(error), None)
                continue
            for (submission, answer), accepted in zip(batch, reply.accepted, strict=True):
                if accepted.is_conflict:
                    answer([Conflict.code, f"the idempotency key belongs to {accepted.id}, which is other work"], None)
                else:
                    answer(None, accepted.id or submission.id)


def _shape(error: TqctlError) -> list[str]:
    return [error.code, f"{error.message} ({error.hint})" if error.hint else error.message]
