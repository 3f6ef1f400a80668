"""The broker as the Inspector asks it: present, or absent for a reason that is remembered."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from tqctl_runtime.broker import calls, views
from tqctl_runtime.broker.call import Call, Word, text
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.lag import lag_of, oldest_missing
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.client.sending import SERVER_TIME
from tqctl_runtime.core.errors import BrokerUnavailable
from tqctl_runtime.inspector.models import RecordLag

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

R = TypeVar("R")

#: How long a list waits for the record to catch up, in seconds.
CATCH_UP = 0.3
#: How long an absent broker is not asked again, in seconds: one command asks many times.
_ABSENT_SECONDS = 2.0
_SCAN_COUNT = 1_000
#: How long a search through live ids may take, in seconds.
_SCAN_SECONDS = 2.0


class Live:
    """The broker of *settings*, joined and never started. An absent one is not asked again for a while."""

    def __init__(self, settings: Settings) -> None:
        self.keys = Keys(settings.namespace)
        self._settings = settings
        self._wire: Wire | None = None
        self._absence: BrokerUnavailable | None = None
        self._absent_until = 0.0
        self._pairing: str | None = None

    @property
    def absence(self) -> BrokerUnavailable | None:
        """Why the broker cannot be asked, as far as that is known; None where it answered."""
        return self._absence if time.monotonic() < self._absent_until else None

    @property
    def wire(self) -> Wire:
        """The connection.

        Raises:
            BrokerUnavailable: the broker was absent a moment ago, or the private server does not run.
        """
        if self.absence is not None:
            raise self.absence
        if self._wire is None:
            self._wire = self._join()
        return self._wire

    def _join(self) -> Wire:
        from tqctl_runtime.broker.address import BrokerAddress
        from tqctl_runtime.broker.embedded import find_running

        if self._settings.redis_url is not None:
            return Wire(BrokerAddress.of(self._settings))
        address = find_running(self._settings)
        if address is None:
            raise BrokerUnavailable("the private server does not run", hint="tqctl up --detach")
        return Wire(address)

    def ask(self, call: Call[R]) -> R:
        """The reply of *call*.

        Raises:
            BrokerUnavailable: the broker cannot be asked.
        """
        return self.wire.call(call)

    def try_ask(self, call: Call[R]) -> R | None:
        """The reply of *call*, None where the broker cannot be asked; :attr:`absence` then says why."""
        try:
            return self.wire.call(call)
        except BrokerUnavailable as error:
            self._absence, self._absent_until = error, time.monotonic() + _ABSENT_SECONDS
            return None

    def pairing(self) -> str | None:
        """The pairing id of the broker; None where it has none, or cannot be asked."""
        if self._pairing is None and self.absence is None:
            self._find_end()
        return self._pairing

    def leads_into(self) -> str | None:
        """Where the leader says that it records to; None where nobody leads, or the broker cannot be asked."""
        overview = self.try_ask(views.overview(self.keys))
        return None if overview is None else lag_of(overview, 0).record

    def _find_end(self) -> calls.Position | None:
        """The journal's end; the pairing id, which stays what it is, comes with it."""
        words: list[Word] = ["HMGET", self.keys.meta, "pairing", "epoch", "seq"]
        found = self.try_ask(Call("journal_end", words, lambda r: [text(value or b"") for value in r]))
        if not found or not found[1]:
            return None
        self._pairing = found[0]
        return calls.Position(int(found[1]), int(found[2] or 0))

    def change(self, call: Call[R]) -> R:
        """The reply of a *call* that may be sent twice.

        Raises:
            BrokerUnavailable: the broker cannot be asked.
        """
        return self.wire.call_idempotent(call)

    def look(self, ids: Sequence[str]) -> dict[str, views.LiveTask]:
        """The live ones of *ids*; none where the broker cannot be asked."""
        found: dict[str, views.LiveTask] = {}
        for start in range(0, len(ids), calls.CHUNK):
            for task in self.try_ask(views.look(self.keys, ids[start : start + calls.CHUNK])) or ():
                if task is not None:
                    found[task.id] = task
        return found

    def find_tails(self, tail: str, limit: int) -> list[str]:
        """Live ids that end in *tail*, as far as the time for a search goes."""
        found: set[str] = set()
        give_up = time.monotonic() + _SCAN_SECONDS
        cursor = "0"
        while len(found) < limit and time.monotonic() < give_up:
            page = self.try_ask(self._scan(cursor, tail))
            if page is None:
                break
            cursor = page[0]
            found.update(page[1])
            if cursor == "0":
                break
        return sorted(found)

    def _scan(self, cursor: str, tail: str) -> Call[tuple[str, list[str]]]:
        words: list[Word] = ["HSCAN", self.keys.build("st"), cursor, "MATCH", f"*{tail}", "COUNT", _SCAN_COUNT]
        return Call("scan_live", words, lambda r: (text(r[0]), [text(item) for item in r[1][::2]]))

    def catch_up(self, seconds: float = CATCH_UP) -> bool:
        """Wait *seconds* at most for the record to hold what is in the journal now; whether it does."""
        position = self._find_end()
        if position is None:
            return False
        give_up = time.monotonic() + seconds
        pause = 0.002
        while True:
            mark = self.try_ask(calls.watermark(self.keys))
            if mark is None:
                return False
            if mark.covers(position):
                return True
            if time.monotonic() > give_up or not self.is_recorder_alive(mark):
                return False
            time.sleep(pause)
            pause = min(pause * 1.5, 0.02)

    def is_recorder_alive(self, mark: calls.Watermark | None = None) -> bool:
        """Whether a recorder gave a sign in the last seconds."""
        mark = mark or self.try_ask(calls.watermark(self.keys))
        now = self.try_ask(SERVER_TIME)
        return mark is not None and now is not None and now - mark.at < calls.RECORDER_SILENT_MS

    def lag(self) -> RecordLag:
        """How far the record is behind.

        Raises:
            BrokerUnavailable: the broker cannot be asked.
        """
        overview = self.ask(views.overview(self.keys))
        lag = lag_of(overview, self.ask(oldest_missing(self.keys, overview)) if overview.lag_rows > 0 else 0)
        return RecordLag(
            rows=lag.rows,
            ms=lag.ms,
            entries=overview.journal_entries,
            is_recorder_alive=overview.is_recorder_alive,
            bytes=lag.bytes,
            has_leader=lag.has_leader,
            cause=lag.cause,
            pressure=lag.pressure,
        )

    def close(self) -> None:
        """Close the connection."""
        if self._wire is not None:
            self._wire.close()
