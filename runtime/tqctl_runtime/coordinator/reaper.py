"""The reaper: takes back what workers held whose lease is over."""

from __future__ import annotations

from tqctl_runtime.broker.leader_calls import reap
from tqctl_runtime.coordinator.roles import Tools
from tqctl_runtime.observe.logging import get_logger

#: Seconds between two looks; a gap of three makes the script wait for one lease before it reaps again.
INTERVAL = 1.0
_log = get_logger("reaper")


class Reaper:
    """Looks for workers whose lease is over."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._held_back_until = 0

    def run_once(self, now: int = 0) -> int:
        """Reap once; returns the workers found dead. *now* (ms) stands in for the server's clock in tests.

        Raises:
            LeaseLost: the term is over.
        """
        tools = self._tools
        interval_ms = int(INTERVAL * 1000)
        call = reap(tools.keys, term=tools.term, interval_ms=interval_ms, lease_ms=tools.settings.lease, now=now)
        # Reaping twice takes nothing twice: what was taken back is no longer held.
        reaped = tools.wire.call_idempotent(call)
        if reaped.reap_from > reaped.now and reaped.reap_from != self._held_back_until:
            self._held_back_until = reaped.reap_from
            _log.warning("after a gap nobody is reaped for one lease", until_ms=reaped.reap_from)
        if reaped.workers:
            _log.warning("workers lost", workers=reaped.workers, tasks=reaped.tasks)
            tools.recoveries.note("worker", "workers", f"{reaped.workers} lost, {reaped.tasks} tasks taken back")
        return reaped.workers
