"""``run_worker``: a whole worker process, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.link import Link
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.worker.scratch import scratch_folder
from tqctl_runtime.worker.supervisor import Supervisor


def run_worker(
    settings: Settings,
    *,
    name: str | None = None,
    version: str = "",
    on_state: Callable[[str], None] | None = None,
) -> int:
    """Run a worker in the main thread until it is told to stop; returns its exit code (0, or 7 after a forced drain).

    *on_state* hears ``running`` (handlers imported, registered), ``draining`` and ``stopped``. The broker must run or
    come up: a worker waits for it and never starts it.

    Raises:
        ConfigError: an app cannot be imported, and the message ends with the user's traceback; or the folder of the
            context cannot be used.
    """
    gc.collect()
    gc.freeze()
    # Thousands of tasks are held at once and die young without cycles: the default looks at them hundreds of times.
    gc.set_threshold(50_000, 20, 20)
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    with scratch_folder(settings) as folder:
        return asyncio.run(_run(settings, name, version, folder, on_state))


async def _run(settings: Settings, name: str, version: str, folder: str, on_state: Callable[[str], None] | None) -> int:
    def ignore(_: str) -> None:
        return

    async with Link(BrokerAddress.of(settings)) as link:
        supervisor = Supervisor(settings, link, name=name, version=version, folder=folder, state=on_state or ignore)
        return await supervisor.run()
