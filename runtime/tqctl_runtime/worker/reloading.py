"""The nursery of a worker: its first, the next after a hang-up, another one where it was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.worker.nursery_link import NurseryConfig, NurseryLink
from tqctl_runtime.worker.pool import Pool

log = logging.getLogger("tqctl.worker")

_RESTART_SECONDS = 1.0


class Reloading:
    """Starts nurseries for *pool*. *learn* takes the catalogue rows of each before it is adopted."""

    def __init__(self, settings: Settings, pool: Pool, learn: Callable[[Sequence[dict[str, Any]]], None]) -> None:
        self._settings = settings
        self._pool = pool
        self._learn = learn
        self._work: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Import the handlers in a new nursery and run what it imported from now on.

        Raises:
            ConfigError: the apps cannot be imported.
        """
        settings = self._settings
        config = NurseryConfig(
            settings.app,
            settings.is_embedded_broker or settings.allow_shell,
            settings.result_limit,
            settings.log_limit,
        )
        nursery = NurseryLink(config, self._pool.births.events)
        await nursery.start()
        self._learn(nursery.rows)
        self._pool.adopt(nursery)

    def reload(self, offer: Callable[[], Awaitable[None]]) -> None:
        """Take the code as it is now and *offer* it; not while such work is on its way."""
        self._begin(lambda: self._reload(offer))

    async def _reload(self, offer: Callable[[], Awaitable[None]]) -> None:
        try:
            await self.start()
            await offer()
        except TqctlError as error:
            log.error("nothing was reloaded: %s", error.message)

    def replace_lost(self, then: Callable[[], None]) -> None:
        """Where there is no nursery, start one, again and again, and call *then* after each try."""
        if self._pool.births.nursery is None:
            self._begin(lambda: self._replace(then))

    async def _replace(self, then: Callable[[], None]) -> None:
        log.error("the nursery ended: starting another")
        try:
            await self.start()
        except TqctlError as error:
            log.error("no nursery: %s", error.message)
            await asyncio.sleep(_RESTART_SECONDS)
        then()

    def _begin(self, work: Callable[[], Any]) -> None:
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(work())

    def stop(self) -> None:
        """Give up what is on its way."""
        if self._work is not None:
            self._work.cancel()
