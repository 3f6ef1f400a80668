"""The lease of a worker: renewed in time, mistrusted in time, and given up under a new name once it was reaped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.worker_calls import HeartbeatReply, heartbeat
from tqctl_runtime.core.clock import boot_seconds, now_ms
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.observe.vitals import Vitals

log = logging.getLogger("tqctl.worker")

_RETRY_SECONDS = 0.5
#: What the heartbeat is called among the signs of life.
HEARTBEAT = "heartbeat"


class HeartbeatOwner(Protocol):
    """The supervisor, as its heartbeat sees it."""

    worker: str

    def holdings(self) -> tuple[dict[str, str], int]:
        """(the token of each task that this worker says it holds, the last round whose claims are among them)."""

    def figures(self) -> Mapping[str, Any]:
        """What ``worker list`` shows."""

    def on_lost(self, tasks: Mapping[str, str]) -> None:
        """Others own these *tasks* now, or nobody: id → the token that is worth nothing any more."""

    def on_cancelled(self, ids: Sequence[str]) -> None:
        """Somebody asked for these tasks to be cancelled."""

    def on_unknown(self) -> asyncio.Task[None]:
        """The lease was reaped: join under a new id. Returns the work on that."""

    def on_distrust(self) -> None:
        """The lease may have ended: nothing may run on it any more."""

    def on_renewed(self, fence_at: float) -> None:
        """The lease was renewed; what runs past *fence_at*, by ``boot_seconds``, is to be killed without asking us."""

    def on_trust(self) -> None:
        """The lease stands again."""


class Heartbeat:
    """Renews the lease each third of it. A renewal counts from its start, by a clock that goes on in suspend."""

    def __init__(
        self, keys: Keys, link: Link, settings: Settings, owner: HeartbeatOwner, vitals: Vitals | None = None
    ) -> None:
        self._keys = keys
        self._link = link
        self._lease = settings.lease
        self._interval = settings.heartbeat_ms / 1000
        self._trust = settings.trust_ms / 1000
        self._fence = settings.fence_ms / 1000
        self._owner = owner
        self._vitals = vitals or Vitals()
        #: How far this machine's clock is ahead of the broker's, as of the last heartbeat.
        self._clock_ms: int | None = None
        self._renewed = 0.0
        self._is_trusted = False
        self._joining: asyncio.Task[None] | None = None
        self._now = asyncio.Event()

    def renewed(self, start: float) -> None:
        """The lease was taken or renewed by a call that began at *start*."""
        self._renewed = start
        self._owner.on_renewed(start + self._fence)
        if not self._is_trusted:
            self._is_trusted = True
            self._owner.on_trust()

    def beat_now(self) -> None:
        """Renew at once, with fresh figures."""
        self._now.set()

    def check(self) -> None:
        """Look whether the lease may still be relied on; call it often."""
        age = boot_seconds() - self._renewed
        if self._is_trusted and age > self._trust:
            self._is_trusted = False
            log.error("the lease could not be renewed for %.1f s: what runs is stopped, uncounted", age)
            self._owner.on_distrust()

    async def run(self) -> None:
        """Renew for ever."""
        while True:
            is_answered = await self._beat()
            try:
                async with asyncio.timeout(self._interval if is_answered else min(_RETRY_SECONDS, self._interval)):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()

    async def _beat(self) -> bool:
        worker, start = self._owner.worker, boot_seconds()
        if self._joining is not None and not self._joining.done():
            # A beat under the old id would have us join twice, and one of the two would be an orphan that claims.
            return False
        held, answered = self._owner.holdings()
        call = heartbeat(
            self._keys,
            worker,
            lease_ms=self._lease,
            held=list(held.items()),
            answered=answered,
            figures={**self._owner.figures(), "clock_ms": self._clock_ms},
        )
        before = now_ms()
        try:
            reply = await self._link.call(call._replace(timeout=min(call.timeout, self._interval)))
        except TqctlError as error:
            self._vitals.turned(HEARTBEAT)
            log.warning("no heartbeat: %s", error)
            return False
        # The way there and back is taken out, half each.
        self._clock_ms = (before + now_ms()) // 2 - reply.now
        if worker == self._owner.worker:
            self._apply(reply, start, held)
        self._vitals.answered(HEARTBEAT)
        return True

    def _apply(self, reply: HeartbeatReply, start: float, held: Mapping[str, str]) -> None:
        if not reply.is_known:
            log.error("the lease of this worker had ended and its tasks were taken: it joins again under a new id")
            # The new lease is to be told as one, also where the old one was not over by our clock.
            self._is_trusted = False
            self._joining = self._owner.on_unknown()
            return
        self.renewed(start)
        if reply.lost:
            # By token: a task may have come back to this worker while the answer was on its way.
            self._owner.on_lost({task_id: held[task_id] for task_id in reply.lost})
        if reply.cancelled:
            self._owner.on_cancelled(list(reply.cancelled))
