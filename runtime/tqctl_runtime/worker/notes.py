"""Progress and live log lines of running tasks on their way to those who follow."""

from __future__ import annotations

import asyncio
import json
import logging

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.worker_calls import note
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.worker.executor_link import Held
from tqctl_runtime.worker.streams import clean_log

log = logging.getLogger("tqctl.worker")

_SECONDS = 0.2
#: Live log sent for one task at once, in bytes; what lies before is in the log of the attempt.
_BYTES = 65_536


class Notes:
    """Gathers what running tasks say and tells it every 200 ms. Losing some costs a follower lines, not the record."""

    def __init__(self, keys: Keys, link: Link) -> None:
        self._keys = keys
        self._link = link
        self._waiting: dict[str, tuple[Held, str, bytearray]] = {}
        self._has_some = asyncio.Event()

    def add(self, held: Held, progress: tuple[float, str] | None, lines: bytes) -> None:
        """Take what *held* says."""
        _, old, gathered = self._waiting.get(held.id) or (held, "", bytearray())
        if progress is not None:
            old = json.dumps({"percent": progress[0], "message": progress[1]})
        gathered += lines
        del gathered[:-_BYTES]
        self._waiting[held.id] = (held, old, gathered)
        self._has_some.set()

    async def run(self) -> None:
        """Tell for ever."""
        while True:
            await self._has_some.wait()
            await asyncio.sleep(_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Tell what was gathered."""
        self._has_some.clear()
        waiting, self._waiting = self._waiting, {}
        if not waiting:
            return
        try:
            await self._link.call(
                note(self._keys, [(h.id, h.token, text, clean_log(bytes(data))) for h, text, data in waiting.values()])
            )
        except TqctlError as error:
            log.debug("notes were not told: %s", error)
