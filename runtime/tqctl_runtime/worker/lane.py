"""The one lane of a worker to the broker: each round reports what started and ended, and claims the next tasks.

There is never more than one round on its way. A round whose reply was lost is sent again under its number, for as long
as it takes, so results wait for the broker and are neither lost nor told twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.worker_calls import STALE, Claimed, RoundReply, finished, round_, started, wait_for_bell
from tqctl_runtime.core.errors import BrokerUnavailable, TqctlError
from tqctl_runtime.core.retry import DEFAULT_BACKOFF, Backoff
from tqctl_runtime.core.states import Outcome
from tqctl_runtime.observe.vitals import Vitals
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.ends import Ended
from tqctl_runtime.worker.executor_link import Held

log = logging.getLogger("tqctl.worker")

#: What the claims are called among the signs of life.
LANE = "claims"

#: A started task is told to the broker once it has run that long; shorter ones are told with their end. Seconds.
TELL_AFTER = 0.05
#: Ends in one round at most: the broker serves nobody else while it works one off.
_ENDS_AT_ONCE = 1_000
#: Tasks claimed in one round at most, for the same reason.
_CLAIMS_AT_ONCE = 500
#: What one round may carry, in bytes of details: a journal entry has a bound too.
_BYTES_AT_ONCE = 4 * 1_048_576
_POLL = 1.0
#: After such a silence the next heartbeat is made at once, so that nobody takes us for deaf; in seconds.
_LONG_SILENCE = 5.0


class LaneOwner(Protocol):
    """The supervisor, as the lane sees it."""

    def wanted(self) -> int:
        """How many tasks to claim now."""

    def wants_suspect(self) -> bool:
        """Whether a task under suspicion could be run alone now."""

    def untold(self) -> list[Held]:
        """Started tasks that the broker has to hear of."""

    def settle(self, ended: Ended, code: int) -> None:
        """The broker has taken (or refused: STALE) the end of a task."""

    def told(self, tasks: Sequence[Held]) -> None:
        """The broker has heard that *tasks* started."""

    def take(self, claimed: Sequence[Claimed]) -> None:
        """Tasks were claimed."""

    def on_heard(self) -> None:
        """The broker answered after a long silence."""


class _Claims(NamedTuple):
    """What a round claimed, under which name of the worker and under which number."""

    worker: str
    request: int
    tasks: list[Claimed]


class Lane:
    """Rounds, one after another."""

    def __init__(
        self,
        keys: Keys,
        link: Link,
        owner: LaneOwner,
        backoff_of: Callable[[str], Backoff],
        vitals: Vitals | None = None,
    ) -> None:
        self.worker = ""
        self.queues: Sequence[str] = ()
        self.rounds = 0
        self.stale = 0
        self.outbox: list[Ended] = []
        #: The last round whose claims were handed out.
        self.answered = 0
        self._keys = keys
        self._link = link
        self._owner = owner
        self._vitals = vitals or Vitals()
        self.backoff_of = backoff_of
        self._request = 0
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._may_have_tasks = True
        self._places = asyncio.Event()
        self._rings = 0
        self._turned_at = self._loop.time()
        #: Claimed by the last round and not handed out yet.
        self._claims = _Claims("", 0, [])
        self._disowned = 0

    def join(self, worker: str, queues: Sequence[str]) -> None:
        """Go on under the identity *worker*."""
        self.worker, self.queues, self._request = worker, queues, 0
        self.answered = self._disowned = 0
        self._may_have_tasks = True
        self._wake.set()

    def disown(self) -> None:
        """The lease was reaped: what the rounds so far have claimed is not ours, also where their answer comes yet."""
        self._disowned = self._request

    def wake(self) -> None:
        """Something changed: an end, a start, a free place."""
        self._wake.set()

    @property
    def silence(self) -> float:
        """Seconds since the broker last answered a round, or since there was no place to claim for.

        About a second at most while all is well, busy or idle; it grows while the worker is deaf.
        """
        return self._loop.time() - self._turned_at

    async def run(self) -> None:
        """Make rounds for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while await self._round_if_needed():
                self._vitals.answered(LANE)
            self._vitals.answered(LANE)

    async def listen_for_bell(self) -> None:
        """Wake the lane when one of its queues gets a task, and each second in case a ring was lost."""
        while True:
            await self._places.wait()
            self._places.clear()
            if self._may_have_tasks or self._owner.wanted() == 0:
                continue
            pause = 0.0
            try:
                await self._link.blocking(wait_for_bell(self._keys, self.queues, seconds=_POLL), _POLL)
            except TqctlError as error:
                log.debug("bell: %s", error)
                pause = _POLL
            self._rings += 1
            self._may_have_tasks = True
            self._wake.set()
            await asyncio.sleep(pause)

    async def _round_if_needed(self) -> bool:
        """Make a round if there is a reason for one; False where there was nothing to do."""
        claims = self._claims
        self._claims = claims._replace(tasks=[])
        places = min(max(self._owner.wanted() - len(claims.tasks), 0), _CLAIMS_AT_ONCE)
        starts = self._owner.untold()
        if not self.outbox and not starts and not (places and self._may_have_tasks):
            self._hand_out(claims)
            if places and not claims.tasks:
                self._places.set()
            elif not claims.tasks:
                self._turned_at = self._loop.time()
            return bool(claims.tasks)
        ends = self._next_ends()
        del self.outbox[: len(ends)]
        rings = self._rings
        takes_suspect = self._owner.wants_suspect() and not any(task.is_suspect for task in claims.tasks)
        exchange = self._loop.create_task(self._exchange(places, takes_suspect, starts, ends))
        if claims.tasks:
            # The broker works on this round while what the one before claimed is handed out here.
            await asyncio.sleep(0)
        self._hand_out(claims)
        worker, request, reply = await exchange
        was_silent = self.silence > _LONG_SILENCE
        self._turned_at = self._loop.time()
        if was_silent:
            self._owner.on_heard()
        self.rounds += 1
        if places:
            self._may_have_tasks = len(reply.claimed) >= places or self._rings != rings
        for ended, code in zip(ends, reply.codes, strict=True):
            if code == STALE:
                self.stale += 1
            self._owner.settle(ended, code)
        self._owner.told(starts)
        self._claims = _Claims(worker, request, reply.claimed)
        return True

    def _hand_out(self, claims: _Claims) -> None:
        """Give away what a round claimed, unless it was taken back with the lease it was claimed under."""
        if claims.worker != self.worker:
            return
        if claims.tasks and claims.request > self._disowned:
            self._owner.take(claims.tasks)
        self.answered = claims.request

    def _next_ends(self) -> list[Ended]:
        size = 0
        for count, ended in enumerate(self.outbox):
            size += len(ended.detail)
            if count >= _ENDS_AT_ONCE or (count and size > _BYTES_AT_ONCE):
                return self.outbox[:count]
        return self.outbox[:]

    async def _exchange(
        self, places: int, takes_suspect: bool, starts: Sequence[Held], ends: Sequence[Ended]
    ) -> tuple[str, int, RoundReply]:
        """One round, repeated until it is answered; under which name and number it was, and the answer."""
        self._request += 1
        worker, request = self.worker, self._request
        pause, told = 0.05, ""
        while True:
            now = self._loop.time()
            call = round_(
                self._keys,
                worker,
                request,
                places=places,
                queues=self.queues,
                takes_suspect=takes_suspect,
                started=[started(h.id, h.token, _since(h, now)) for h in starts],
                finished=[self._describe(ended, now) for ended in ends],
            )
            try:
                return worker, request, await self._link.call(call)
            except TqctlError as error:
                if told != error.message and not isinstance(error, BrokerUnavailable):
                    log.error("the broker refused a round: %s", error)
                elif not told:
                    log.warning("a round waits for the broker: %s", error)
                told = error.message
            self._vitals.turned(LANE)
            if worker != self.worker:
                # Reaped meanwhile: what that round claimed is lost to us, its ends are offered under the new identity.
                worker, request, self._request = self.worker, 1, 1
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)

    def _describe(self, ended: Ended, now: float) -> list[Any]:
        held = ended.held
        since = _since(held, now) if held.started_at else -1
        outcome = ended.outcome
        if outcome is Outcome.SUCCEEDED:
            return finished(held.id, held.token, outcome, since_start_ms=since, detail=ended.detail)
        delay = ended.retry
        is_last = delay == frames.NEVER
        if outcome in (Outcome.FAILED, Outcome.TIMED_OUT) and delay == frames.BY_BACKOFF:
            wire = held.row[frames.BACKOFF]
            backoff = Backoff.from_wire(wire) if wire else self.backoff_of(held.handler)
            delay = backoff.delay_ms(held.id, held.failures + 1)
        return finished(
            held.id,
            held.token,
            outcome,
            since_start_ms=since,
            delay_ms=max(delay, 0),
            is_last=is_last,
            is_suspect=ended.is_suspect,
            reason=ended.reason,
            detail=ended.detail,
        )


def _since(held: Held, now: float) -> int:
    return max(round((now - held.started_at) * 1000), 0)


def backoff_of_rows(rows: Sequence[dict[str, Any]]) -> Callable[[str], Backoff]:
    """Where the backoff of a handler is looked up: in the catalogue *rows* of this worker."""
    known = {row["name"]: Backoff.from_wire(row["backoff"]) for row in rows}
    return lambda handler: known.get(handler, DEFAULT_BACKOFF)
