"""``submit --batch``: many tasks from lines of JSON, each with an id that (batch, line) always gives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

from tqctl.sending import unknown
from tqctl.terminated import undisturbed
from tqctl.wish import Wish, wish_of_line
from tqctl_runtime.broker.calls import CHUNK
from tqctl_runtime.client.receipts import IN_FLIGHT
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.ids import derived_id
from tqctl_runtime.core.serializer import load_json
from tqctl_runtime.core.submission import Submission

if TYPE_CHECKING:
    from tqctl.patience import Patience, Sender
    from tqctl_runtime.client.receipts import Durability, Posted, Receipt

#: Bytes of payloads in one call at most, so that one call stays short for everybody else on the broker.
_CHUNK_BYTES = 4 * 2**20
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
    """What became of a batch. *refused* is (line, why) pairs; *is_recorded*: the record was seen to have all."""

    batch: str
    lines: int = 0
    #: The last line whose task, and those of all lines before it, were acknowledged by the broker.
    reached: int = 0
    #: The same of the record, as far as it was waited for.
    recorded: int = 0
    submitted: int = 0
    repeated: int = 0
    refused: list[tuple[int, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    pairs: set[tuple[str, str]] = field(default_factory=set)
    is_recorded: bool = True


@dataclass(slots=True)
class Events:
    """What a caller hears while a batch runs; *moved* gets the bytes of each line, *waiting*: the record takes long."""

    refused: Callable[[int, str], None]
    accepted: Callable[[int, str], None]
    moved: Callable[[int], None]
    waiting: Callable[[], None]


class Batch:
    """One run over a stream of lines."""

    def __init__(
        self,
        sender: Sender,
        batch_id: str,
        defaults: Wish,
        events: Events,
        rows: Mapping[str, Mapping[str, Any]],
        patience: Patience,
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
        self._patience = patience
        #: What the broker has and the record may not have yet, with the last line of each call.
        self._flying: deque[tuple[Posted, int]] = deque()
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
                    self._send(chunk)
                    chunk, size = [], 0
                chunk.append((number, item))
                size += len(item.payload)
            self._events.moved(len(raw or b"") + 1)
        if chunk:
            self._send(chunk)
        self._settle(0)
        return self.report

    @property
    def awaits_record(self) -> bool:
        """Whether the broker has lines that the record was not seen to have yet, though somebody records."""
        return any(posted.awaits_record for posted, _ in self._flying)

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

    def _send(self, chunk: list[tuple[int, Submission]]) -> None:
        known, left = self._part_standing(chunk)
        posted, line = None, chunk[-1][0]
        answers: list[tuple[int, Submission, Receipt]] = []
        if left:
            posted = self._patience.post(self._sender, [item for _, item in left], self._durability)
            answers = [(*one, answer) for one, answer in zip(left, posted.receipts(), strict=True)]
        # An interrupt between these would tell of a line and of tasks that do not fit.
        with undisturbed():
            if posted is not None:
                self._flying.append((posted, line))
            self._count(known, answers)
            self.report.reached = line
        self._tell(known, answers)
        self._settle(IN_FLIGHT)

    def _count(self, known: list[tuple[int, str]], answers: list[tuple[int, Submission, Receipt]]) -> None:
        report = self.report
        report.repeated += len(known)
        report.ids += [task_id for _, task_id in known]
        for _, item, answer in answers:
            if answer.is_conflict:
                continue
            report.submitted += answer.state is not None
            report.repeated += answer.is_known or answer.is_duplicate
            report.ids.append(answer.id)
            report.pairs.add((item.handler, item.queue))

    def _tell(self, known: list[tuple[int, str]], answers: list[tuple[int, Submission, Receipt]]) -> None:
        for number, task_id in known:
            self._events.accepted(number, task_id)
        for number, _, answer in answers:
            if answer.is_conflict:
                self._refuse(number, f"the idempotency key belongs to other work: {answer.id}")
            else:
                self._events.accepted(number, answer.id)

    def _settle(self, most: int) -> None:
        """Wait for the record of the calls that were posted first, until *most* are left."""
        while self._flying and (len(self._flying) > most or not self._flying[0][0].awaits_record):
            posted, line = self._flying[0]
            self._sender.confirm(posted, is_bulk=True, waiting=self._events.waiting)
            self._flying.popleft()
            self.report.is_recorded &= posted.is_recorded
            if self.report.is_recorded:
                self.report.recorded = line

    def _part_standing(
        self, chunk: list[tuple[int, Submission]]
    ) -> tuple[list[tuple[int, str]], list[tuple[int, Submission]]]:
        """(line and id of what is submitted already, what is left to submit); other work in its place is refused."""
        if self._standing is None:
            return [], chunk
        known = self._standing([item.id for _, item in chunk])
        same = []
        for number, item in chunk:
            if item.id not in known:
                continue
            if known[item.id] == (item.handler, load_json(item.payload, limit=len(item.payload))):
                same.append((number, item.id))
            else:
                self._refuse(number, _OTHER_WORK)
        return same, [(number, item) for number, item in chunk if item.id not in known]


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
