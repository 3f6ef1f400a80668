"""``submit --batch``: many tasks from lines of JSON, each with an id that (batch, line) always gives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from tqctl.sending import unknown
from tqctl.wish import Wish, wish_of_line
from tqctl_runtime.broker.calls import CHUNK
from tqctl_runtime.core.errors import Busy, TqctlError
from tqctl_runtime.core.ids import derived_id
from tqctl_runtime.core.serializer import load_json
from tqctl_runtime.core.submission import Submission

if TYPE_CHECKING:
    from tqctl_runtime.client.receipts import Durability, Receipt

#: Bytes of payloads in one call at most, so that one call stays short for everybody else on the broker.
_CHUNK_BYTES = 4 * 2**20
#: Seconds a batch waits for a busy broker before it gives up; what is left can be resumed.
_BUSY_PATIENCE = 60.0
#: Handler and payload by id, of those of some ids that are submitted already.
Standing = Callable[[list[str]], Mapping[str, tuple[str, Any]]]
_OTHER_WORK = "another task of this batch stands there: not the file it was started with"


def mark_of(defaults: Wish) -> str:
    """Eight hex digits that stand for *defaults*: a batch id carries them, so that no rest is sent differently."""
    import hashlib
    import json

    text = json.dumps(asdict(defaults), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest()


@dataclass(slots=True)
class Report:
    """What became of a batch. *refused* is (line, why) pairs."""

    batch: str
    lines: int = 0
    #: The last line whose task, and those of all lines before it, were acknowledged.
    reached: int = 0
    submitted: int = 0
    repeated: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    is_recorded: bool = True
    is_recorder_alive: bool = True


class Sender(Protocol):
    """What a batch needs of a client."""

    def send(self, wishes: Sequence[Submission], *, durability: Durability) -> list[Receipt]:
        """Send one chunk."""


@dataclass(slots=True)
class Events:
    """What a caller hears while a batch runs; *moved* gets the bytes of each line."""

    refused: Callable[[int, str], None]
    accepted: Callable[[int, str], None]
    moved: Callable[[int], None]
    waiting: Callable[[str], None]


class Batch:
    """One run over a stream of lines."""

    def __init__(
        self,
        sender: Sender,
        batch_id: str,
        defaults: Wish,
        events: Events,
        rows: Mapping[str, Mapping[str, Any]],
        *,
        durability: Durability,
        limit: int,
        is_checked: bool = True,
        is_watched: bool = False,
        standing: Standing | None = None,
    ) -> None:
        self.report = Report(batch_id)
        self._sender = sender
        self._defaults = defaults
        self._events = events
        self._rows = rows
        self._durability = durability
        self._limit = limit
        self._is_checked = is_checked
        self._is_watched = is_watched
        self._standing = standing

    def run(self, stream: BinaryIO) -> Report:
        """Submit every line of *stream*; bad ones are told and left out.

        Raises:
            TqctlError: the broker failed for longer than it is worth to try; the report says how far it came.
        """
        chunk: list[tuple[int, Submission]] = []
        size = 0
        for number, raw in numbered_lines(stream, self._limit):
            self.report.lines = number
            item = self._read(number, raw)
            if item is not None:
                if len(chunk) >= CHUNK or size + len(item.payload) > _CHUNK_BYTES:
                    self._send(chunk, "accepted")
                    chunk, size = [], 0
                chunk.append((number, item))
                size += len(item.payload)
            self._events.moved(len(raw or b"") + 1)
        if chunk:
            # The journal keeps its order: what is recorded of the last chunk is recorded of all before it.
            self._send(chunk, self._durability)
        return self.report

    def _read(self, number: int, raw: bytes | None) -> Submission | None:
        if raw is not None and not raw.strip():
            return None
        try:
            if raw is None:
                raise TqctlError(f"longer than {self._limit:,} bytes")
            wish = wish_of_line(load_json(raw, what="line", limit=self._limit), self._defaults)
            return wish.build(
                self._row(wish),
                task_id=derived_id("tsk", self.report.batch, number),
                is_checked=self._is_checked,
                is_watched=self._is_watched,
                limit=self._limit,
            )
        except TqctlError as error:
            self._refuse(number, error.message)
            return None

    def _row(self, wish: Wish) -> Mapping[str, Any] | None:
        row = self._rows.get(wish.handler) if wish.handler is not None else None
        if row is None and self._is_checked and wish.handler is not None:
            raise unknown(wish.handler, self._rows)
        return row

    def _refuse(self, number: int, why: str) -> None:
        self.report.refused.append((number, why))
        self._events.refused(number, why)

    def _send(self, chunk: list[tuple[int, Submission]], durability: Durability) -> None:
        report = self.report
        left = self._without_standing(chunk)
        if not left:
            report.reached = chunk[-1][0]
            return
        for (number, item), answer in zip(left, self._submit([item for _, item in left], durability), strict=True):
            report.is_recorded, report.is_recorder_alive = answer.is_recorded, answer.is_recorder_alive
            if answer.is_conflict:
                self._refuse(number, f"the idempotency key belongs to other work: {answer.id}")
                continue
            report.submitted += answer.state is not None
            report.repeated += answer.is_known or answer.is_duplicate
            report.ids.append(answer.id)
            report.pairs.add((item.handler, item.queue))
            self._events.accepted(number, answer.id)
        report.reached = chunk[-1][0]

    def _without_standing(self, chunk: list[tuple[int, Submission]]) -> list[tuple[int, Submission]]:
        if self._standing is None:
            return chunk
        known = self._standing([item.id for _, item in chunk])
        for number, item in chunk:
            if item.id not in known:
                continue
            if known[item.id] != (item.handler, load_json(item.payload, limit=len(item.payload))):
                self._refuse(number, _OTHER_WORK)
                continue
            self.report.repeated += 1
            self.report.ids.append(item.id)
            self._events.accepted(number, item.id)
        return [(number, item) for number, item in chunk if item.id not in known]

    def _submit(self, submissions: list[Submission], durability: Durability) -> list[Receipt]:
        give_up = time.monotonic() + _BUSY_PATIENCE
        while True:
            try:
                return self._sender.send(submissions, durability=durability)
            except Busy as error:
                if time.monotonic() + error.retry_after > give_up:
                    raise
                self._events.waiting(error.message)
                time.sleep(error.retry_after)


def numbered_lines(stream: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None]]:
    """Lines of *stream* from 1, without their ends; None for one of more than *limit* bytes, which is skipped."""
    number = 0
    while True:
        raw = stream.readline(limit + 2)
        if not raw:
            return
        number += 1
        if len(raw) <= limit + 1 and (raw.endswith(b"\n") or len(raw) <= limit):
            yield number, raw.rstrip(b"\r\n")
            continue
        while raw and not raw.endswith(b"\n"):
            raw = stream.readline(2**16)
        yield number, None
