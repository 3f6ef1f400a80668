"""Who a worker is to the broker: its registration, what it offers and which queues it serves."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.worker_calls import register
from tqctl_runtime.config import PREFIX
from tqctl_runtime.core.clock import boot_seconds, now_ms
from tqctl_runtime.core.errors import BrokerUnavailable, NotOpen, TqctlError
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.needs import KNOWN_NEEDS
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.submission import DEFAULT_QUEUE
from tqctl_runtime.observe.reminder import Reminder

log = logging.getLogger("tqctl.worker")

_LONGEST_PAUSE = 1.0


def secrets_of(settings: Settings) -> dict[str, str]:
    """What handlers may be given here, by the name they ask for."""
    return {name: value for name in KNOWN_NEEDS if (value := settings.need(name)) is not None}


def closed_because(settings: Settings, error: NotOpen) -> str:
    """*error* with what keeps the namespace closed, where the record can be read from here."""
    # Only a worker that waits pays for what reading the record loads.
    from tqctl_runtime.checks.scene import Scene

    try:
        with Scene(settings) as scene:
            found = scene.standing
    except TqctlError:
        return error.message
    return error.message if found is None or found.is_usable else f"{error.message}: {found.message}"


class Membership:
    """Registers the worker. *rows* are the catalogue rows of its handlers."""

    def __init__(self, keys: Keys, link: Link, settings: Settings, *, name: str, version: str) -> None:
        self.name = name
        self.rows: Sequence[dict[str, Any]] = ()
        self.handlers: frozenset[str] = frozenset()
        #: Handlers that are here and not offered → the settings that they need and nobody set.
        self.lacks: dict[str, list[str]] = {}
        self._obstacle: BrokerUnavailable | None = None
        self._keys = keys
        self._link = link
        self._settings = settings
        self._version = version
        self._started_at = now_ms()

    def offer(self, rows: Sequence[dict[str, Any]]) -> None:
        """Offer the handlers of *rows* from the next registration on, those excepted whose needs are not set here."""
        self.rows = rows
        self.lacks = {row["name"]: missing for row in rows if (missing := self._missing(row))}
        self.handlers = frozenset(row["name"] for row in rows if row["name"] not in self.lacks)
        for name in sorted({name for missing in self.lacks.values() for name in missing}):
            without = ", ".join(handler for handler, missing in self.lacks.items() if name in missing)
            log.warning("%s (%s%s) is not set, so this worker does not offer %s", name, PREFIX, name.upper(), without)

    def _missing(self, row: Mapping[str, Any]) -> list[str]:
        return [KNOWN_NEEDS[need] for need in row["needs"] if self._settings.need(need) is None]

    @property
    def queues(self) -> list[str]:
        """The queues it serves, in the order they are looked at."""
        if self._settings.queues:
            return list(self._settings.queues)
        queues = {row["queue"] for row in self.rows if row["name"] in self.handlers}
        return [DEFAULT_QUEUE, *sorted(queues - {DEFAULT_QUEUE})]

    def info(self) -> dict[str, Any]:
        """What ``worker list`` shows of its start."""
        settings = self._settings
        return {
            "name": self.name,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": self._version,
            "started_at": self._started_at,
            "lease_ms": settings.lease,
            "queues": self.queues,
            "concurrency": settings.concurrency,
            "processes": settings.processes or settings.concurrency,
            "handlers": sorted(self.handlers),
            "lacks": self.lacks,
        }

    async def join(self, is_over: Callable[[], bool]) -> tuple[str, float] | None:
        """Join under a fresh id, however long the broker takes to be there.

        Returns the id and when the call that was answered began, by ``boot_seconds``: the lease counts from there; None
        once *is_over*.
        """
        while True:
            worker = new_id("wrk")
            answer = await self._register(worker, is_over, is_first=True)
            if answer is None:
                return None
            is_member, start = answer
            if is_member:
                return worker, start

    async def renew(self, worker: str, is_over: Callable[[], bool]) -> None:
        """Tell the broker what *worker* offers now. Where its lease is over, its next heartbeat is told so."""
        await self._register(worker, is_over, is_first=False)

    async def _register(self, worker: str, is_over: Callable[[], bool], *, is_first: bool) -> tuple[bool, float] | None:
        """Whether *worker* is a member, and when the answered call began; None once *is_over*."""
        pause, reminder, has_waited = 0.1, Reminder(), False
        while not is_over():
            start = boot_seconds()
            lease, info = self._settings.lease, self.info()
            call = register(self._keys, worker, lease_ms=lease, info=info, rows=self.rows, is_first=is_first)
            try:
                is_member = await self._link.call(call)
            except BrokerUnavailable as error:
                self._obstacle = error
                # It may have been carried out, and the lease that it took may be over before the next one arrives.
                is_first = False
                if reminder.is_due(error.message, start):
                    why = error.message
                    if has_waited and isinstance(error, NotOpen):
                        why = await asyncio.to_thread(closed_because, self._settings, error)
                    log.warning("waiting for the broker: %s; to check: tqctl doctor", why)
                    has_waited = True
            else:
                self._obstacle = None
                return is_member, start
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        return None

    def refuse_outsider(self) -> None:
        """Tell that a first registration was given up because the broker could not be had.

        Raises:
            BrokerUnavailable: so it was.
        """
        if self._obstacle is not None:
            raise BrokerUnavailable(f"stopped before it ever joined: {self._obstacle.message}", hint="tqctl doctor")
