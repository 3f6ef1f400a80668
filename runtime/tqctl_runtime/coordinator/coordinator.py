"""The coordinator's process: takes part in the election, runs the roles while it leads, shows that it lives."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, TypeVar

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.embedded import wait_running
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import COORDINATOR, coordinator_beat
from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.views import COORDINATOR_BEAT_MS
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.checks.situation import place_of, record_place_of
from tqctl_runtime.coordinator.leader import ELECTION, TRUST_SECONDS, Leader
from tqctl_runtime.coordinator.opening import open_namespace, refuse_new_beside_recorded
from tqctl_runtime.coordinator.recoveries import Recoveries
from tqctl_runtime.coordinator.roles import RoleSpec, all_roles
from tqctl_runtime.coordinator.runner import RoleRunner, pause
from tqctl_runtime.core.clock import boot_seconds, now_ms
from tqctl_runtime.core.errors import LeaseLost, TqctlError, Unavailable
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.observe import registry
from tqctl_runtime.observe.logging import get_logger
from tqctl_runtime.observe.probe import Probe
from tqctl_runtime.observe.reminder import Reminder
from tqctl_runtime.observe.vitals import Vitals
from tqctl_runtime.record.store import open_store

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.store import Store

R = TypeVar("R")

BEAT_SECONDS = COORDINATOR_BEAT_MS / 1000
_OPEN_RETRY_SECONDS = 1.0
_BROKER_WAIT_SECONDS = 30.0
#: Seconds in which the election comes round: a renewal each five, or ten for a term of a slow database.
_ELECTION_SECONDS = 30.0
_log = get_logger("coordinator")


def run_coordinator(
    settings: Settings, ready: Callable[[], None], *, name: str = "coordinator", probe: Probe | None = None
) -> int:
    """Run a coordinator until TERM or INT; calls *ready* once somebody leads. Returns the exit code.

    *probe*, whose vitals are those of :func:`vitals_of`, is pulsed from the loop.

    Raises:
        ConfigError: the record's schema is older, or a URL is not usable.
        StoresDiffer: Redis and the record do not belong together.
        Unavailable: the private server does not run, or it was told to stop before the namespace was ever open.
    """

    async def run() -> int:
        coordinator = Coordinator(settings, name=name, probe=probe)
        with probe.beating(asyncio.get_running_loop()) if probe else nullcontext():
            return await coordinator.run(ready)

    return asyncio.run(run())


def vitals_of() -> Vitals:
    """The signs of life of a coordinator: it takes part in the election; it is ready while a lease would stand."""
    return Vitals({ELECTION: _ELECTION_SECONDS}, answers={ELECTION: TRUST_SECONDS})


class Coordinator:
    """One coordinator. *version* is what its heartbeat shows."""

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = "coordinator",
        specs: list[RoleSpec] | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.id = new_id("coo")
        self._settings = settings
        self._name = name
        self._keys = Keys(settings.namespace)
        self._specs = all_roles() if specs is None else specs
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._started_at = now_ms()
        self._probe = probe
        self._vitals = probe.vitals if probe else Vitals()
        self._runners: list[RoleRunner] = []
        self._recoveries = Recoveries()
        self._has_joined = False
        # The namespace was lost and opened again, of which the repair tells: leading anew is no event beside it.
        self._is_repaired = False
        self._is_ready = False
        self._clock_ms: int | None = None

    def stop(self) -> None:
        """Stop: the first time after the journal is drained, the second time at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()
        if self._probe is not None:
            self._probe.stopping()

    async def run(self, ready: Callable[[], None]) -> int:
        """Everything from the start to the end; see :func:`run_coordinator`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        address = await asyncio.to_thread(wait_running, self._settings, within=_BROKER_WAIT_SECONDS)
        _log.info("started", id=self.id, broker=address.display)
        with ThreadPoolExecutor(1, thread_name_prefix="election") as pool:
            store = open_store(self._settings)
            try:
                # Again whenever the namespace was lost: then it is looked at, and repaired, before anybody leads.
                while await self._open(pool, store, address):
                    await self._take_part(pool, store, address, ready)
                    self._is_repaired = True
            finally:
                await _in(pool, store.close)
        _log.info("stopped", id=self.id)
        return 0

    async def _open(self, pool: ThreadPoolExecutor, store: Store, address: BrokerAddress) -> bool:
        """Bring the schema up to date and open the namespace; False when we were stopped meanwhile.

        Raises:
            Unavailable: we were stopped, and it could not be opened since the start.
        """

        def once() -> None:
            with Wire(address) as wire:
                place = place_of(self._settings, wire)
                refuse_new_beside_recorded(store, wire, self._keys, place)
                done = store.prepare()
                if done:
                    _log.info("record migrated", migrations=len(done))
                opened = open_namespace(
                    store,
                    wire,
                    self._keys,
                    holder=self.id,
                    place=place,
                    prepare=lambda: end_stopped(self._settings) if store.kind == "sqlite" else None,
                )
            _log.info("namespace open", epoch=opened.epoch, is_new=opened.is_new)

        reminder, obstacle = Reminder(), None
        while not self._stop.is_set():
            try:
                await _in(pool, once)
                self._recoveries.works("record")
                self._recoveries.works("broker")
                self._has_joined = True
                return True
            except (Unavailable, LeaseLost) as error:
                self._recoveries.met(error)
                if reminder.is_due(error.message, boot_seconds()):
                    _log.warning("waiting to open the namespace", error=error.message, check="tqctl doctor")
                obstacle = error
                await pause(self._stop, _OPEN_RETRY_SECONDS)
        if obstacle is not None and not self._has_joined:
            raise Unavailable(f"stopped before it ever joined: {obstacle.message}", hint="tqctl doctor")
        return False

    async def _take_part(
        self, pool: ThreadPoolExecutor, store: Store, address: BrokerAddress, ready: Callable[[], None]
    ) -> None:
        async def next_term(above: int) -> int:
            if store.kind == "sqlite":
                end_stopped(self._settings)
            return await _in(pool, lambda: store.next_term(COORDINATOR, self.id, above))

        async with Link(address) as link:
            leader = Leader(link=link, keys=self._keys, holder=self.id, next_term=next_term, vitals=self._vitals)
            tasks = [
                asyncio.create_task(leader.run(), name="election"),
                asyncio.create_task(self._beat(link, leader), name="heartbeat"),
                asyncio.create_task(self._tell(leader, ready), name="ready"),
            ]
            leading = asyncio.create_task(self._lead(leader, address), name="roles")
            try:
                await _until_first([*tasks[:2], leading])
            except BaseException:
                self._stop.set()
                raise
            finally:
                await leading
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                # A repair of the namespace may take long.
                self._vitals.paused(ELECTION)
                await leader.resign()
                with suppress(TqctlError):
                    await link.call(coordinator_beat(self._keys, self.id, None))

    async def _lead(self, leader: Leader, address: BrokerAddress) -> None:
        """Run the roles in every term that we lead, until we are stopped or the namespace is lost."""
        while not self._stop.is_set() and not leader.lost.is_set():
            changed = leader.changed
            if leader.term is None:
                await _first_of(changed, leader.lost, self._stop)
                continue
            term = leader.term
            halt = asyncio.Event()
            self._runners = [
                RoleRunner(
                    spec,
                    self._settings,
                    self._keys,
                    address,
                    leader,
                    term=term,
                    halt=halt,
                    hurry=self._hurry,
                    recoveries=self._recoveries,
                )
                for spec in self._specs
            ]
            if not self._is_repaired:
                self._recoveries.note("leader", self._name, f"{self._name} on {platform.node()} leads in term {term}")
            self._is_repaired = False
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch(leader, term, halt), name="watch")
                for runner in self._runners:
                    group.create_task(runner.run(), name=runner.name)
            self._runners = []

    async def _watch(self, leader: Leader, term: int, halt: asyncio.Event) -> None:
        while not self._stop.is_set():
            changed = leader.changed
            if leader.term != term:
                break
            await _first_of(changed, self._stop)
        halt.set()

    async def _tell(self, leader: Leader, ready: Callable[[], None]) -> None:
        """Call *ready* once we lead or saw another leader, for the first time."""
        await leader.settled.wait()
        if not self._is_ready:
            self._is_ready = True
            ready()

    async def _beat(self, link: Link, leader: Leader) -> None:
        while True:
            try:
                before = now_ms()
                theirs = await link.call(coordinator_beat(self._keys, self.id, self._info(leader)))
                self._clock_ms = (before + now_ms()) // 2 - theirs
            except TqctlError as error:
                self._recoveries.met(error)
                _log.warning("no heartbeat", error=error.message)
            else:
                self._recoveries.works("broker")
            await pause(leader.changed, BEAT_SECONDS)

    def _info(self, leader: Leader) -> dict[str, object]:
        return {
            "name": self._name,
            "host": platform.node(),
            "pid": os.getpid(),
            "version": registry.version(),
            "started_at": self._started_at,
            "at": now_ms(),
            # How far this machine's clock is ahead of the broker's, as of the last heartbeat.
            "clock_ms": self._clock_ms,
            "term": leader.term,
            "record": record_place_of(self._settings),
            "roles": {runner.name: runner.problem for runner in self._runners},
        }


def end_stopped(settings: Settings) -> None:
    """Kill coordinators of this context that are suspended, to be called once the lease is free.

    One of them may hold SQLite's write lock, which no time-out ends; it does not lead any more, whenever it goes on.
    """
    for info in registry.living(settings):
        if info.role == "coordinator" and info.pid != os.getpid() and info.is_suspended and info.send(signal.SIGKILL):
            _log.warning("a suspended coordinator was killed", name=info.name, killed=info.pid)


async def _in(pool: ThreadPoolExecutor, work: Callable[[], R]) -> R:
    return await asyncio.get_running_loop().run_in_executor(pool, work)


async def _until_first(tasks: list[asyncio.Task[None]]) -> None:
    """Wait until one of *tasks* ends, and raise what ended it."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for waiting in waits:
            waiting.cancel()
