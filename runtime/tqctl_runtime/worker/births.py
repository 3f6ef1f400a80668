"""Births and deaths of executors: which nursery forks one, how it ended, and how long to wait before the next."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
from typing import Protocol

from tqctl_runtime.worker.ends import hand_back
from tqctl_runtime.worker.executor_link import CrewKey, ExecutorLink, PoolEvents
from tqctl_runtime.worker.nursery_link import NurseryEvents, NurseryLink

log = logging.getLogger("tqctl.worker")

#: Executors on their way at most: what a nursery is sent must fit its socket, which holds less than 300 requests.
_MOST_UNBORN = 32
#: Before the next try where this process has no descriptor left, in seconds.
_PAUSE = 1.0
#: Executors that ended one after another before they started anything: more, and their tasks are given back.
_EARLY_DEATHS = 3


class Mourner(PoolEvents, Protocol):
    """The pool, as it hears of executors."""

    def on_dead(self, executor: ExecutorLink, code: int) -> None:
        """*executor* ended with exit code *code*, or minus a signal; it is no longer listed."""

    def dispatch(self) -> None:
        """An executor may be started again."""


class Births:
    """Starts executors and takes note of their end. *executors* are those that are not known to have ended."""

    def __init__(self, folder: str, log_limit: int, pool: Mourner) -> None:
        self.executors: dict[int, ExecutorLink] = {}
        #: The nursery that forks now; None while there is none.
        self.nursery: NurseryLink | None = None
        self.events = NurseryEvents(self._on_born, self._on_died, self._on_nursery_lost)
        self._nurseries: dict[int, NurseryLink] = {}
        self._folder = folder
        self._log_limit = log_limit
        self._pool = pool
        self._number = 0
        self._not_before = 0.0
        self._early_deaths = 0
        self._trust: float | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def is_hopeless(self) -> bool:
        """Whether executors end before they start anything, again and again."""
        return self._early_deaths > _EARLY_DEATHS

    @property
    def is_crowded(self) -> bool:
        """Whether so many executors are on their way that no other should be asked for."""
        return sum(executor.pid == 0 for executor in self.executors.values()) >= _MOST_UNBORN

    def adopt(self, nursery: NurseryLink) -> None:
        """Fork from *nursery* from now on; executors of an earlier one retire as they become idle."""
        self.nursery = nursery
        if self._trust is not None:
            nursery.trust(self._trust)
        for executor in list(self.executors.values()):
            executor.retire()

    def trust(self, until: float) -> None:
        """The lease may be relied on until then, by ``boot_seconds``: the nurseries kill what runs longer."""
        self._trust = until
        for nursery in {self.nursery, *self._nurseries.values()}:
            if nursery is not None:
                nursery.trust(until)

    def start(self, key: CrewKey) -> ExecutorLink | None:
        """A new executor; None where none can be started now."""
        if self.nursery is None or self._loop.time() < self._not_before:
            return None
        self._number += 1
        folder = os.path.join(self._folder, str(self._number))
        try:
            executor = ExecutorLink(self._number, key, folder, self._pool, self._log_limit)
        except OSError as error:
            log.error("no executor can be started: %s", error)
            self._wait(_PAUSE)
            return None
        self.executors[self._number] = executor
        self._nurseries[self._number] = self.nursery
        self.nursery.fork(self._number, key.kind, folder, executor.descriptors, is_fenced=not key.overlap_ok)
        executor.given_away()
        return executor

    def _on_born(self, number: int, pid: int, pidfd: int) -> None:
        executor = self.executors.get(number)
        if executor is None:
            os.close(pidfd)
            return
        executor.born(pid, pidfd)
        self._pool.dispatch()

    def _on_died(self, number: int, code: int, was_fenced: bool = False) -> None:
        executor = self.executors.pop(number, None)
        if executor is None:
            return
        executor.bury()
        if was_fenced:
            hand_back(executor)
        self._close_nursery_of(number)
        self._guard(executor)
        self._pool.on_dead(executor, code)
        shutil.rmtree(executor.folder, ignore_errors=True)

    def _guard(self, executor: ExecutorLink) -> None:
        """Do not start executors in a tight loop while they end before they have started anything."""
        if executor.done or executor.running or executor.guilty is not None or not executor.sent:
            self._early_deaths = 0
            return
        self._early_deaths += 1
        self._wait(min(0.1 * 2.0**self._early_deaths, 5.0))

    def _wait(self, pause: float) -> None:
        self._not_before = self._loop.time() + pause
        self._loop.call_later(pause, self._pool.dispatch)

    def _on_nursery_lost(self, nursery: NurseryLink) -> None:
        """The nursery ended, and the kernel kills its executors: wait for each, then tell that no task is to blame."""
        if self.nursery is nursery:
            self.nursery = None
        for number, owner in list(self._nurseries.items()):
            executor = self.executors.get(number)
            if owner is not nursery or executor is None:
                continue
            executor.kill(set())
            if executor.pidfd < 0:
                self._on_died(number, -signal.SIGKILL)
            else:
                self._loop.add_reader(executor.pidfd, self._on_died, number, -signal.SIGKILL)

    def _close_nursery_of(self, number: int) -> None:
        nursery = self._nurseries.pop(number, None)
        if nursery is not None and nursery is not self.nursery and nursery not in self._nurseries.values():
            nursery.close()

    def close(self) -> None:
        """Let every executor go; those that run something are killed with their nursery."""
        for executor in list(self.executors.values()):
            executor.retire()
            executor.bury()
        self.executors.clear()
        for nursery in set(self._nurseries.values()):
            if nursery is not self.nursery:
                nursery.close()
