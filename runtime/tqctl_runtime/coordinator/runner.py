"""Runs one role in a thread of its own while its term lasts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from tqctl_runtime.broker.leader_calls import RECORDER
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator.roles import Role, RoleSpec, Tools
from tqctl_runtime.core.errors import BrokerUnavailable, LeaseLost, NeedsRepair, NotOpen, TqctlError, Unavailable
from tqctl_runtime.observe.logging import get_logger
from tqctl_runtime.record.store import open_store

if TYPE_CHECKING:
    from tqctl_runtime.broker.address import BrokerAddress
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.coordinator.leader import Leader
    from tqctl_runtime.coordinator.recoveries import Recoveries
    from tqctl_runtime.core.settings import Settings

R = TypeVar("R")

#: Seconds a draining role gets after the stop.
DRAIN_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
#: A connection that was not used for this long may have been lost meanwhile: the first error tells nothing, in seconds.
_IDLE_SECONDS = 1.0
_log = get_logger("roles")


async def pause(event: asyncio.Event, seconds: float) -> None:
    """Wait for *event*, at most *seconds*."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass


class RoleRunner:
    """One role in one term. *problem* is what keeps it from working now, None where nothing does."""

    def __init__(
        self,
        spec: RoleSpec,
        settings: Settings,
        keys: Keys,
        address: BrokerAddress,
        leader: Leader,
        *,
        term: int,
        halt: asyncio.Event,
        hurry: asyncio.Event,
        recoveries: Recoveries,
    ) -> None:
        self.name = spec.name
        self.problem: str | None = None
        self._spec = spec
        self._settings = settings
        self._keys = keys
        self._address = address
        self._leader = leader
        self._term = term
        self._halt = halt
        self._hurry = hurry
        self._recoveries = recoveries
        self._role: Role | None = None
        self._tools: Tools | None = None
        self._pause = _FIRST_PAUSE
        #: The last step met a broker that is away: then its next success is the end of an outage.
        self._has_lost_broker = False
        #: When the connections were used last, by ``time.monotonic``.
        self._used_at = 0.0

    async def run(self) -> None:
        """Work until *halt*; a role that drains then ends what there is, while its term lasts."""
        with ThreadPoolExecutor(1, thread_name_prefix=self.name) as pool:
            try:
                while not self._halt.is_set() and self._leads():
                    done = await self._step(pool)
                    if not done and self.problem is None:
                        await pause(self._halt, self._spec.interval)
                if self._spec.drains and self._leads():
                    await self._drain(pool)
            finally:
                await self._in(pool, self._close)

    def _leads(self) -> bool:
        return self._leader.term == self._term

    async def _step(self, pool: ThreadPoolExecutor) -> int:
        """One step; whatever goes wrong is told and tried again later, except a lost term."""
        try:
            done = await self._in(pool, self._work)
        except LeaseLost as error:
            self._leader.doubt(f"{self.name}: {error.message}")
            return 0
        except (NotOpen, NeedsRepair) as error:
            self._leader.lose(f"{self.name}: {error.message}")
            return 0
        except TqctlError as error:
            # Others than the recorder may find an old connection to SQL broken much later.
            if self.name == RECORDER or isinstance(error, BrokerUnavailable):
                self._recoveries.met(error)
            self._has_lost_broker = isinstance(error, BrokerUnavailable)
            await self._wait_after(error.message, is_ours=not isinstance(error, Unavailable))
        except Exception as error:  # noqa: BLE001  one role's bug must not stop the others
            _log.exception("a role failed", failed=self.name)
            await self._in(pool, self._close)
            await self._wait_after(f"{type(error).__name__}: {error}", is_ours=True)
        else:
            if self.name == RECORDER:
                # The one role that asks SQL all the time: others may find an old connection broken much later.
                self._recoveries.works("record")
            if self._has_lost_broker:
                self._recoveries.works("broker")
            if self.problem is not None:
                _log.info("works again", working=self.name)
            self.problem, self._pause, self._has_lost_broker = None, _FIRST_PAUSE, False
            return done
        return 0

    async def _wait_after(self, problem: str, *, is_ours: bool) -> None:
        if problem != self.problem:
            log = _log.error if is_ours else _log.warning
            log("a role cannot work", waiting=self.name, problem=problem)
        self.problem = problem
        await pause(self._halt, self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    async def _drain(self, pool: ThreadPoolExecutor) -> None:
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not self._hurry.is_set() and self._leads() and await self._in(pool, self._work) > 0:
                    pass
        except TimeoutError:
            _log.warning("stopped with work left", left=self.name)
        except TqctlError as error:
            _log.warning("stopped without draining", left=self.name, problem=error.message)

    def _work(self) -> int:
        if self._role is None or self._tools is None:
            store, wire = open_store(self._settings), Wire(self._address, waits_for_opening=False)
            self._tools = Tools(self._settings, self._keys, wire, store, self._term, self._recoveries)
            self._role = self._spec.build(self._tools)
            self._used_at = time.monotonic()
        is_idle = time.monotonic() - self._used_at > _IDLE_SECONDS
        try:
            return self._role.run_once()
        except Unavailable as error:
            # While one store is away the other may be started anew: its connection is not kept for a later error.
            self._disconnect(self._tools)
            if not is_idle or isinstance(error, NotOpen):
                raise
            return self._role.run_once()
        finally:
            self._used_at = time.monotonic()

    @staticmethod
    def _disconnect(tools: Tools) -> None:
        tools.wire.close()
        tools.store.close()

    def _close(self) -> None:
        tools, self._tools, self._role = self._tools, None, None
        if tools is not None:
            self._disconnect(tools)

    async def _in(self, pool: ThreadPoolExecutor, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(pool, work)
