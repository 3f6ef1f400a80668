"""What this coordinator recovered from, on its way to the record: kept here until SQL takes it."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from tqctl_runtime.core.clock import format_duration, now_ms
from tqctl_runtime.core.errors import BrokerUnavailable, NotOpen, RecordUnavailable, TqctlError
from tqctl_runtime.observe.logging import get_logger
from tqctl_runtime.record.health import KEPT_EVENTS, RecoveryNote

if TYPE_CHECKING:
    from tqctl_runtime.broker.calls import Position
    from tqctl_runtime.record.store import Store

_log = get_logger("recoveries")


class Recoveries:
    """Events that wait for SQL, and the outages that go on. Any thread may use it; nothing here fails or waits."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._notes: deque[RecoveryNote] = deque(maxlen=KEPT_EVENTS)
        #: What does not answer → since when by ``time.monotonic``, and why.
        self._outages: dict[str, tuple[float, str]] = {}
        #: Where the journal ended at the last look, and how many entries looks since then found it shorter by.
        self._journal_end: Position | None = None
        self._lost = 0

    def note(self, kind: str, subject: str, message: str, *, length_ms: int | None = None) -> None:
        """Keep an event of now; see :meth:`tqctl_runtime.record.health.Health.note`."""
        with self._lock:
            self._notes.append(RecoveryNote(kind, subject, message, length_ms, now_ms()))

    def fails(self, subject: str, why: str) -> None:
        """Tell that *subject* does not answer; the first time begins an outage."""
        with self._lock:
            self._outages.setdefault(subject, (time.monotonic(), why))

    def met(self, error: TqctlError) -> None:
        """Tell of *error*: a server that does not answer begins an outage.

        A namespace that is closed, or whose stores differ, is none: what brings it back is a repair, which tells of
        itself.
        """
        if isinstance(error, RecordUnavailable):
            self.fails("record", error.message)
        elif isinstance(error, BrokerUnavailable) and not isinstance(error, NotOpen):
            self.fails("broker", error.message)

    def works(self, subject: str) -> None:
        """Tell that *subject* answers: an outage that went on is over, and an event."""
        if subject not in self._outages:
            return
        with self._lock:
            begun, why = self._outages.pop(subject)
        length = round((time.monotonic() - begun) * 1000)
        self.note("outage", subject, f"back after {format_duration(length)}: {why}", length_ms=length)

    @property
    def journal_end(self) -> Position | None:
        """Where the journal ended at the last look."""
        return self._journal_end

    def saw_journal(self, end: Position) -> None:
        """Tell where the journal ends now; to be called by one thread, in the order of its looks."""
        with self._lock:
            self._look(end)

    def settle_journal(self, before: Position | None, end: Position) -> None:
        """What is missing of the journal is an event: it ends at *end*, and the record has none of it.

        *before* is :attr:`journal_end` as it was before *end* was asked for: a look in between counted by itself.
        """
        with self._lock:
            if before is not None and before is self._journal_end:
                self._look(end)
            lost, self._lost = self._lost, 0
        if lost:
            message = (
                f"Redis went back by at least {lost:,} journal entries that were not recorded: "
                "tasks that were only accepted in them are lost"
            )
            _log.warning(message, epoch=end.epoch, sequence=end.seq)
            self.note("loss", "broker", message)

    def _look(self, end: Position) -> None:
        known, self._journal_end = self._journal_end, end
        if known is None or known.epoch != end.epoch:
            self._lost = 0
        else:
            self._lost += max(known.seq - end.seq, 0)

    def flush(self, store: Store) -> int:
        """Write what waits; returns how much.

        Raises:
            RecordUnavailable: SQL does not answer; everything goes on waiting.
        """
        with self._lock:
            waiting = list(self._notes)
        if waiting:
            store.health.note_all(waiting)
            with self._lock:
                for item in waiting:
                    # Those that overflowed meanwhile are gone already.
                    if self._notes and self._notes[0] is item:
                        self._notes.popleft()
        return len(waiting)
