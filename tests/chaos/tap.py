"""A reader of the journal beside the recorder: what was trimmed is still known when the world is judged."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from tests.scripts.rig import Row, read_row
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import Entry, read_journal
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.serializer import unpack_stream

_PAUSE = 0.05


class Seen(NamedTuple):
    """One entry of the journal with its rows in words."""

    stream_id: str
    epoch: int
    seq: int
    rows: list[Row]


class Tap:
    """All entries that were ever seen, by epoch and number. Use as a context manager."""

    def __init__(self, address: BrokerAddress, keys: Keys) -> None:
        self._address = address
        self._keys = keys
        self._lock = threading.Lock()
        self._entries: dict[tuple[int, int], Seen] = {}
        self._lost: set[str] = set()
        #: Entries that no script of ours wrote.
        self.foreign = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, name="tap", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(timeout=20)

    def _read(self) -> None:
        with Wire(self._address) as wire:
            after = "0-0"
            while not self._over.is_set():
                try:
                    entries = wire.call(read_journal(self._keys, after, count=500, block_ms=200))
                except TqctlError:
                    self._over.wait(_PAUSE)
                    continue
                if entries:
                    after = entries[-1].stream_id
                    self._keep(entries)

    def _keep(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if not entry.seq:
                self.foreign += 1
                continue
            rows = [read_row(row) for row in unpack_stream(entry.rows)]
            with self._lock:
                self._entries[entry.epoch, entry.seq] = Seen(entry.stream_id, entry.epoch, entry.seq, rows)
                self._lost |= {row[2] for row in rows if row[0] == "W" and row[3] == "lost"}

    def last(self, epoch: int) -> int:
        """The highest number seen in *epoch*."""
        with self._lock:
            return max((seq for at, seq in self._entries if at == epoch), default=0)

    def epochs(self) -> dict[int, list[Seen]]:
        """The entries of each epoch in the order of their numbers."""
        with self._lock:
            found = dict(self._entries)
        by_epoch: defaultdict[int, list[Seen]] = defaultdict(list)
        for key in sorted(found):
            by_epoch[key[0]].append(found[key])
        return dict(by_epoch)

    def rows(self, *kinds: str) -> Iterator[Row]:
        """Rows of *kinds* (all where none is named), oldest first."""
        for entries in self.epochs().values():
            for entry in entries:
                for row in entry.rows:
                    if not kinds or row[0] in kinds:
                        yield row

    def is_lost(self, worker: str) -> bool:
        """Whether *worker* was reaped."""
        with self._lock:
            return worker in self._lost
