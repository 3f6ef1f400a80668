"""Repair: one path for a Redis that lost something and for a record that is an older copy.

The gate is closed, what Redis still has is brought into the record, then Redis is built anew from the record, in a
later epoch: everything that was handed out before is worth nothing. A repair that is interrupted anywhere is followed
by another one: no step takes anything away before the step that needs it is committed.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from tqctl_runtime.broker.calls import CHUNK
from tqctl_runtime.broker.leader_calls import COORDINATOR, Entry, Opened, open_gate, read_journal
from tqctl_runtime.broker.repair_calls import (
    close_gate,
    extras,
    rebuild,
    restore,
    scan_lines,
    scan_names,
    survey,
    tombstones,
    wipe,
)
from tqctl_runtime.broker.views import LiveTask, read_line
from tqctl_runtime.coordinator.recorder import FIRST_ENTRIES, next_count, order, split
from tqctl_runtime.core.errors import LeaseLost, UnderRepair
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.states import FINAL, STATE_CODES
from tqctl_runtime.observe.logging import get_logger

if TYPE_CHECKING:
    from tqctl_runtime.broker.call import Call
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.repair_calls import Survey
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.record.mend import Mender, OpenTask
    from tqctl_runtime.record.store import Store
    from tqctl_runtime.record.write import Checkpoint

T = TypeVar("T")

#: How long after a task's end its idempotency key holds, and its id is known, ms; as the broker's scripts have it.
KEY_MS, TOMB_MS = 86_400_000, 3_600_000
#: Tombstones of each final state at most: they only save a client's repeated submit from a second run.
MAX_TOMBS = 50_000
#: Envelopes of one call, in number where they come out of Redis and in bytes where not.
_ENVELOPES, _ENVELOPE_BYTES = 50, 4_194_304
_REASON = "put back by a repair"
_log = get_logger("repair")


@dataclass(slots=True)
class Counts:
    """What a repair did. *entries* came out of the journal, *copied* and *ended* tasks out of Redis itself; *keys* were
    wiped; *tasks*, *pauses*, *handlers*, *held* idempotency keys, *windows* and *tombs* (tombstones) were put back.
    """

    entries: int = 0
    quarantined: int = 0
    copied: int = 0
    ended: int = 0
    keys: int = 0
    tasks: int = 0
    pauses: int = 0
    handlers: int = 0
    held: int = 0
    windows: int = 0
    tombs: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """These names, in this order."""
        return asdict(self)

    def __str__(self) -> str:
        told = {"journal entries recorded": self.entries, "tasks copied": self.copied, "ends copied": self.ended}
        told |= {"tasks put back": self.tasks, "pauses": self.pauses, "handlers": self.handlers}
        told |= {"keys": self.held, "unique windows": self.windows}
        return ", ".join(f"{count:,} {what}" for what, count in told.items() if count) or "nothing to put back"


@dataclass(frozen=True, slots=True)
class Mended:
    """The namespace as it was opened, and what was done."""

    opened: Opened
    counts: Counts


class Repair:
    """One repair of one namespace. *prepare* is called before the record is taken over."""

    def __init__(
        self,
        store: Store,
        wire: Wire,
        keys: Keys,
        *,
        holder: str,
        place: str,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._wire = wire
        self._keys = keys
        self._holder = holder
        self._place = place
        self._prepare = prepare
        self._id = f"{new_id('rep')} {holder} on {platform.node()}"
        self._term = 0
        self._epoch = 0
        self._pairing = ""
        self._counts = Counts()

    def run(self, known: Checkpoint, seen: Survey, why: str) -> Mended:
        """Repair what was *seen* beside a record that is at *known*; *why* is kept with what was done.

        Raises:
            UnderRepair: somebody else does, or did meanwhile.
            LeaseLost: a later repair took over.
            Unavailable: a store cannot be reached; another repair goes on from there.
        """
        started = time.monotonic()
        # The record may be a copy from before the terms that Redis knows.
        self._term = self._store.next_term(COORDINATOR, self._holder, seen.term)
        self._pairing = known.pairing
        self._epoch = max(known.epoch, seen.epoch or 0, seen.was or 0, seen.repair_epoch) + 1
        self._close(seen.epoch)
        if self._prepare is not None:
            self._prepare()
        mender = self._store.mender(self._term)
        checkpoint = mender.take()
        closed = self._ask(survey(self._keys, checkpoint.stream_id))
        history = _History(checkpoint, closed, is_other=seen.pairing not in ("", known.pairing))
        if history.is_forked or self._epoch <= checkpoint.epoch:
            # What was decided after Redis went back gets an epoch of its own, between the old one and the new one.
            self._epoch = max(self._epoch, checkpoint.epoch + 1) + 1
            self._close(None)
        self._drain(mender, history)
        self._copy(mender, history)
        self._wipe()
        mender.restart(self._epoch, self._place)
        self._put_back_tasks(mender)
        self._put_back_rest(mender, closed.now)
        opened = self._open()
        self._counts.seconds = round(time.monotonic() - started, 3)
        length = round(self._counts.seconds * 1000)
        told = f"{why}; built anew in epoch {self._epoch}: {self._counts}"
        self._store.health.note("repair", "namespace", told, length_ms=length)
        _log.warning("repaired", term=self._term, epoch=self._epoch, **self._counts.to_json())
        return Mended(opened, self._counts)

    def _close(self, seen: int | None) -> None:
        call = close_gate(self._keys, term=self._term, epoch=self._epoch, seen=seen, pairing=self._pairing, by=self._id)
        if not self._ask(call):
            raise UnderRepair("another repair is at work, or has ended just now")

    def _ask(self, call: Call[T]) -> T:
        """The reply of *call*, sent once: a Redis that comes back may have lost what we did, then all begins anew."""
        return self._wire.call(call)

    def _beat(self) -> None:
        """Show that we are at work, as every write does that goes to Redis."""
        self._close(None)

    def _drain(self, mender: Mender, history: _History) -> None:
        """Record all that the journal has and the record has not."""
        after, count = "0-0", FIRST_ENTRIES
        while entries := self._ask(read_journal(self._keys, after, count=count)):
            after, count = entries[-1].stream_id, next_count(entries)
            self._beat()
            wanted = [history.own(entry) for entry in entries if not history.has(entry)]
            for batch in split(wanted) if wanted else ():
                done = mender.drain(batch, history.checkpoint, guards_ends=history.went_back)
                self._counts.entries += len(batch)
                self._counts.quarantined += len(done.quarantined)
                # A read may be many batches, and each may take as long as a slow database takes.
                self._beat()

    def _copy(self, mender: Mender, history: _History) -> None:
        """Record live tasks that the record knows older or not, and ends that only a tombstone tells of."""
        for lines in self._lines():
            tasks = [read_line(task_id, history.base, raw) for task_id, raw in lines]
            known = mender.versions([task.id for task in tasks])
            wanted = []
            for task in tasks:
                version, state = known.get(task.id, (-1, task.state))
                if version < task.version and not (history.went_back and version >= 0 and state in FINAL):
                    wanted.append(task)
            for part in _parts(wanted, _ENVELOPES):
                whole = self._whole(part)
                refused = mender.copy(whole, history.now)
                self._counts.copied += len(whole) - len(refused)
                self._counts.quarantined += len(refused)
            self._beat()
        for chunk in mender.open_versions():
            self._end(mender, chunk, history.now)

    def _end(self, mender: Mender, known: Sequence[tuple[str, int]], at: int) -> None:
        # A live task has no tombstone, so that nobody need remember which are live.
        tombs = self._ask(tombstones(self._keys, [task_id for task_id, _ in known]))
        ended = []
        for (task_id, version), tomb in zip(known, tombs, strict=True):
            if tomb is not None and (tomb[0] << 32 | tomb[1]) > version:
                ended.append((task_id, tomb[0] << 32 | tomb[1], tomb[2]))
        if ended:
            mender.end(ended, at)
            self._counts.ended += len(ended)
        self._beat()

    def _lines(self) -> Iterator[list[tuple[str, bytes]]]:
        cursor = 0
        while True:
            cursor, lines = self._ask(scan_lines(self._keys, cursor))
            # A small hash comes whole, whatever count was asked for.
            yield from _parts(lines, CHUNK)
            if cursor == 0:
                return

    def _whole(self, tasks: Sequence[LiveTask]) -> list[LiveTask]:
        found = [self._ask(call) for call in extras(self._keys, [task.id for task in tasks])]
        return [
            task._replace(envelope=envelope, detail=detail, cancel_reason=reason.decode("utf-8", "replace"))
            for task, envelope, detail, reason in zip(tasks, *found, strict=True)
            if envelope
        ]

    def _wipe(self) -> None:
        cursor = 0
        while True:
            cursor, names = self._ask(scan_names(self._keys, cursor))
            is_last = cursor == 0
            self._counts.keys += self._ask(wipe(self._keys, names, term=self._term, is_last=is_last))
            if is_last:
                return

    def _put_back_tasks(self, mender: Mender) -> None:
        for chunk in mender.open_tasks():
            for part in _by_size(chunk):
                envelopes = mender.envelopes([task.id for task in part])
                rows = [[*task[:-1], envelopes[task.id]] for task in part]
                call = rebuild(self._keys, rows, term=self._term, reason=_REASON)
                self._counts.tasks += self._ask(call)

    def _put_back_rest(self, mender: Mender, now: int) -> None:
        pauses = []
        for section, queue, why in mender.settings():
            until = int(json.loads(why).get("until", 0)) if section == "pause" else -1
            if until == 0 or until > now:
                pauses.append((queue, until, why))
        tombs = [
            (task_id, version >> 32, version & 0xFFFFFFFF, STATE_CODES[state], ended + TOMB_MS - now)
            for task_id, version, state, ended in mender.ended_lately(now - TOMB_MS, MAX_TOMBS)
        ]
        held = (
            [(key, task, mark, ended + KEY_MS - now) for key, task, mark, ended in page]
            for page in mender.keys(now - KEY_MS)
        )
        windows = ([(mark, task, ends - now) for mark, task, ends in page] for page in mender.windows(now))
        rest: dict[str, Iterable[Sequence[Any]]] = {"pauses": [pauses], "handlers": [mender.handlers()]}
        rest |= {"held": held, "windows": windows, "tombs": [tombs]}
        for name, pages in rest.items():
            count = 0
            for part in (part for page in pages for part in _parts(page, CHUNK)):
                named: dict[str, Any] = {name: part}
                self._ask(restore(self._keys, term=self._term, **named))
                count += len(part)
            setattr(self._counts, name, count)

    def _open(self) -> Opened:
        call = open_gate(self._keys, epoch=self._epoch, pairing=self._pairing, repair_term=self._term)
        opened = self._ask(call)
        if opened.epoch != self._epoch:
            raise LeaseLost(f"the repair of term {self._term} is over: the namespace is in epoch {opened.epoch}")
        return opened


class _History:
    """What Redis' journal and tasks mean beside a record that is at *checkpoint*.

    *base* is the epoch of Redis' tasks. The history is forked where Redis went back and then decided anew under numbers
    that the record holds already: *own* gives those entries an epoch of their own, above everything recorded.
    Where Redis *is_other*, its history has nothing to do with the record's, and all of it is taken over.
    """

    def __init__(self, checkpoint: Checkpoint, closed: Survey, *, is_other: bool) -> None:
        self.checkpoint = checkpoint
        self.now = closed.now
        following = closed.following
        if closed.was is not None:
            self.base = closed.was
        else:
            self.base = following.epoch if following is not None else checkpoint.epoch
        self._is_other = is_other
        is_same = following is not None and following.epoch == checkpoint.epoch and not is_other
        self.is_forked = following is not None and is_same and following.seq <= checkpoint.sequence
        self.went_back = not is_other and (self.is_forked or self.base < checkpoint.epoch)
        self._end = order(checkpoint.stream_id)

    def has(self, entry: Entry) -> bool:
        """Whether the record has *entry*."""
        if self._is_other:
            return False
        return entry.epoch in (0, self.checkpoint.epoch) and order(entry.stream_id) <= self._end

    def own(self, entry: Entry) -> Entry:
        """*entry* as it is recorded."""
        if self.is_forked and entry.epoch == self.checkpoint.epoch:
            return replace(entry, epoch=entry.epoch + 1)
        return entry


def _parts(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])


def _by_size(tasks: Sequence[OpenTask]) -> Iterator[list[OpenTask]]:
    """*tasks* in runs whose envelopes fit into one call."""
    part: list[OpenTask] = []
    size = 0
    for task in tasks:
        if part and size + task.size > _ENVELOPE_BYTES:
            yield part
            part, size = [], 0
        part.append(task)
        size += task.size
    if part:
        yield part
