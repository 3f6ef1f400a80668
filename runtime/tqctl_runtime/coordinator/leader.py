"""Who leads: a lease in Redis under a term that SQL gave out. Any doubt means not leader.

A term comes from SQL at the election and is larger than every one before, so each write that carries it can be
refused once somebody else was elected. While SQL is away the holder stays and nobody new is elected.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from tqctl_runtime.broker.leader_calls import COORDINATOR, Election, elect
from tqctl_runtime.core.clock import boot_seconds
from tqctl_runtime.core.errors import NotOpen, TqctlError
from tqctl_runtime.observe.logging import get_logger
from tqctl_runtime.observe.vitals import Vitals

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.link import Link

LEASE_MS = 15_000
#: What the election is called among the signs of life.
ELECTION = "election"
RENEW_SECONDS = 5.0
_RETRY_SECONDS = 1.0
#: How long after a renewal was sent its lease is relied on, in seconds: lease − min(2 s, lease/5).
TRUST_SECONDS = (LEASE_MS - min(2_000, LEASE_MS // 5)) / 1000
#: A term that took longer than this to get is not used, in seconds.
_TERM_SECONDS = 10.0
_log = get_logger("leader")


class Leader:
    """One coordinator's part in the election.

    *next_term* asks SQL for a term greater than its argument; *clock* is seconds that never jump.
    """

    def __init__(
        self,
        *,
        link: Link,
        keys: Keys,
        holder: str,
        next_term: Callable[[int], Awaitable[int]],
        clock: Callable[[], float] = boot_seconds,
        vitals: Vitals | None = None,
    ) -> None:
        self._link = link
        self._keys = keys
        self._holder = holder
        self._next_term = next_term
        self._clock = clock
        self._vitals = vitals or Vitals()
        self._term: int | None = None
        self._trusted_until = 0.0
        #: Set once somebody leads, we or another.
        self.settled = asyncio.Event()
        #: Set, and replaced, whenever we begin or stop to lead.
        self.changed = asyncio.Event()
        #: Set once the namespace is not what it was: nobody leads in it before it was opened again.
        self.lost = asyncio.Event()

    @property
    def term(self) -> int | None:
        """The term in which we lead now; None where we do not, or cannot be sure."""
        return self._term if self._term is not None and self._clock() < self._trusted_until else None

    async def run(self) -> None:
        """Take part until cancelled."""
        while True:
            pause = await self.tick()
            (self._vitals.answered if pause == RENEW_SECONDS else self._vitals.turned)(ELECTION)
            await asyncio.sleep(pause)

    async def tick(self) -> float:
        """One round: renew, or be elected where the lease is free; returns the seconds until the next one."""
        try:
            if self._term is not None:
                await self._renew()
            if self._term is None:
                await self._campaign()
        except NotOpen as error:
            self.lose(error.message)
        except (TqctlError, TimeoutError) as error:
            _log.warning("no answer in the election", error=str(error) or "time-out")
            self._check_trust()
            return _RETRY_SECONDS
        return RENEW_SECONDS

    def doubt(self, why: str) -> None:
        """Stop leading at once: a write was refused, or something else does not fit."""
        if self._term is None:
            return
        _log.warning("no longer leader", term=self._term, why=why)
        self._term = None
        self._notify()

    def lose(self, why: str) -> None:
        """Stop leading at once and for good: the namespace is closed, or the stores do not fit together any more."""
        if not self.lost.is_set():
            _log.warning("the namespace has to be opened again", why=why)
            self.lost.set()
        self.doubt(why)

    async def resign(self) -> None:
        """Give the lease back so that another can lead at once."""
        term, self._term = self._term, None
        if term is None:
            return
        self._notify()
        try:
            await self._link.call(elect(self._keys, role=COORDINATOR, holder=self._holder, term=term, lease_ms=0))
        except TqctlError as error:
            _log.info("the lease runs out by itself", error=error.message)

    async def _campaign(self) -> None:
        seen = await self._ask(0)
        if not seen.is_free:
            self.settled.set()
            return
        async with asyncio.timeout(_TERM_SECONDS):
            # SQL may be an older copy that does not know the terms of its future.
            term = await self._next_term(seen.term)
        started = self._clock()
        election = await self._ask(term)
        if election.is_leader and self._clock() < started + TRUST_SECONDS:
            self._term = term
            self._trusted_until = started + TRUST_SECONDS
            _log.info("leader", term=term)
            self.settled.set()
            self._notify()

    async def _renew(self) -> None:
        assert self._term is not None
        started = self._clock()
        election = await self._ask(self._term)
        if not election.is_leader:
            self.doubt(f"{election.holder} leads in term {election.term}")
        elif self._clock() >= self._trusted_until:
            # Whoever looked since then saw no leader and stopped: only a new term begins everything anew.
            _log.warning("the lease was renewed too late", term=self._term)
            await self.resign()
        else:
            self._trusted_until = started + TRUST_SECONDS

    def _check_trust(self) -> None:
        if self._term is not None and self._clock() >= self._trusted_until:
            self.doubt("the lease could not be renewed in time")

    async def _ask(self, term: int) -> Election:
        call = elect(self._keys, role=COORDINATOR, holder=self._holder, term=term, lease_ms=LEASE_MS)
        return await self._link.call(call)

    def _notify(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
