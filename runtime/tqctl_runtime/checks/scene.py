"""What the checks look at, each part read once and only when a check wants it."""

from __future__ import annotations

import time
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tqctl_runtime.broker import embedded
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.checks.situation import BROKEN, Assessment, compare, place_of
from tqctl_runtime.core.errors import BrokerCannotWrite, BrokerUnavailable, TqctlError
from tqctl_runtime.observe import registry

if TYPE_CHECKING:
    from tqctl_runtime.broker.views import Overview
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.store import Store
    from tqctl_runtime.record.write import Checkpoint


class Scene:
    """One look at a context. Parts that cannot be had are None; the errors say why."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.namespace)
        self.broker_error: TqctlError | None = None
        #: Why the broker takes no change, where it only answers what reads.
        self.disk_error: BrokerCannotWrite | None = None
        self.record_error: TqctlError | None = None
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.wire is not None:
            self.wire.close()
        if self._store is not None:
            self._store.close()

    @cached_property
    def wire(self) -> Wire | None:
        """A connection to the broker that answered."""
        try:
            if self.settings.redis_url is None and not embedded.is_running(self.settings):
                raise BrokerUnavailable("the private server does not run", hint="tqctl up --detach")
            wire = Wire(BrokerAddress.of(self.settings))
            wire.command("PING")
        except BrokerCannotWrite as error:
            self.disk_error = error  # it refuses a PING too, and answers what only reads
        except TqctlError as error:
            self.broker_error = self._suspended() or error
            return None
        return wire

    def _suspended(self) -> BrokerUnavailable | None:
        pid = embedded.server_pid(self.settings) if self.settings.redis_url is None else None
        if not pid or not registry.is_suspended(pid):
            return None
        return BrokerUnavailable(f"the private server (pid {pid}) is suspended", hint=f"kill -CONT {pid}")

    @cached_property
    def info(self) -> dict[str, str] | None:
        """The server's INFO."""
        from tqctl_runtime.broker.leader_calls import server_info

        return self.wire.call(server_info("everything")) if self.wire is not None else None

    @cached_property
    def opened(self) -> tuple[int, str] | None:
        """The epoch and pairing id that Redis holds."""
        from tqctl_runtime.broker.leader_calls import pairing

        return self.wire.call(pairing(self.keys)) if self.wire is not None else None

    @cached_property
    def overview(self) -> Overview | None:
        """The live figures of the namespace; None while it is not open."""
        from tqctl_runtime.broker.views import overview

        if self.wire is None or self.opened is None:
            return None
        return self.wire.call(overview(self.keys))

    @cached_property
    def standing(self) -> Assessment | None:
        """How both stores stand to each other; None where one of them cannot be read."""
        from tqctl_runtime.broker.repair_calls import survey

        wire, known = self.wire, self.checkpoint
        if wire is None or not self._has_record():
            return None
        place = place_of(self.settings, wire)
        while True:
            found = compare(known, wire.call(survey(self.keys, known.stream_id if known else "0-0")), place)
            before, known = known, self._read_checkpoint()
            if not self._has_record():
                return None
            # A recorder at work, or a repair that ended just now, moved the record between the two looks.
            if found.situation not in BROKEN or known == before:
                return found

    @cached_property
    def clock_difference_ms(self) -> int | None:
        """How far the broker's clock is ahead of ours; negative: behind. The way there and back is taken out."""
        if self.wire is None:
            return None
        before = time.time()
        seconds, microseconds = self.wire.command("TIME")
        ours = (before + time.time()) / 2
        return round((int(seconds) + int(microseconds) / 1e6 - ours) * 1000)

    @cached_property
    def store(self) -> Store | None:
        """The record, read only, where it can be opened and has a schema of some version."""
        from tqctl_runtime.record import open_store

        try:
            self._store = open_store(self.settings, read_only=True)
            self.is_record_empty = not self._store.is_there()
        except TqctlError as error:
            self.record_error = error
            return None
        return self._store

    is_record_empty = True

    @cached_property
    def pending(self) -> list[str]:
        """Migrations that are to be run."""
        return self.store.check_schema() if self.store is not None and not self.is_record_empty else []

    @cached_property
    def checkpoint(self) -> Checkpoint | None:
        """How far the record is; None where it was never paired, or cannot be read."""
        return self._read_checkpoint()

    def _has_record(self) -> bool:
        return self.store is not None and self.record_error is None

    def _read_checkpoint(self) -> Checkpoint | None:
        if self.store is None or self.is_record_empty:
            return None
        try:
            return self.store.checkpoint()
        except TqctlError as error:
            self.record_error = error
            return None
