"""The record as the Inspector reads it: only beside the Redis that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqctl_runtime.core.errors import ConfigError, RecordUnavailable, StoresDiffer
from tqctl_runtime.record.store import Store, open_store

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.inspector.live import Live
    from tqctl_runtime.record.health import Health
    from tqctl_runtime.record.lookup import Lookup
    from tqctl_runtime.record.queries import Queries

_HINT = "check TQCTL_REDIS_URL, TQCTL_DATABASE_URL and TQCTL_NAMESPACE; which of them differ: tqctl doctor"


class PairedStore(Store):
    """A read-only store. Every way to its rows raises StoresDiffer where the broker of *live* has another record.

    A broker that is away, or was never opened, contradicts nothing.
    """

    def __init__(self, settings: Settings, live: Live) -> None:
        super().__init__(open_store(settings, read_only=True).database)
        self._settings = settings
        self._live = live
        self._is_pair = False

    @property
    def queries(self) -> Queries:
        """As of every store."""
        self._check()
        return super().queries

    @property
    def lookup(self) -> Lookup:
        """As of every store."""
        self._check()
        return super().lookup

    @property
    def health(self) -> Health:
        """As of every store."""
        self._check()
        return super().health

    def _check(self) -> None:
        if self._is_pair:
            return
        theirs = self._live.pairing()
        ours = self._paired() if theirs is not None else None
        if theirs is None or ours is None:
            return
        if ours[0] != theirs:
            from tqctl_runtime.checks.situation import differ, place_of, record_place_of

            places = place_of(self._settings, self._live.wire), record_place_of(self._settings)
            raise StoresDiffer(differ(ours, theirs, *places), hint=_HINT)
        self._is_pair = True

    def _paired(self) -> tuple[str, str] | None:
        """As :meth:`paired`.

        Raises:
            StoresDiffer: this one was named and has no schema, and the leader records into another one.
        """
        try:
            return self.paired()
        except (ConfigError, RecordUnavailable):
            # A record that nobody named need not be on this machine.
            theirs = self._live.leads_into() if self._settings.database_url is not None else None
            if theirs is None:
                raise
            from tqctl_runtime.checks.situation import place_of, record_place_of, unpaired

            here = record_place_of(self._settings)
            if theirs == here or self.is_there():
                raise
            place = place_of(self._settings, self._live.wire)
            raise StoresDiffer(unpaired(here, place, theirs), hint=_HINT) from None
