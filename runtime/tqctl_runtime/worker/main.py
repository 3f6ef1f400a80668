"""``run_worker``: a whole worker process, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
from collections.abc import Callable
from contextlib import nullcontext

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.link import Link
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.observe.probe import Probe
from tqctl_runtime.observe.vitals import Vitals
from tqctl_runtime.worker.heartbeat import HEARTBEAT
from tqctl_runtime.worker.hygiene import allow_files
from tqctl_runtime.worker.lane import LANE
from tqctl_runtime.worker.scratch import scratch_folder
from tqctl_runtime.worker.supervisor import Supervisor

log = logging.getLogger("tqctl.worker")

#: Descriptors of a worker without executors, and of each executor, generously.
_FILES, _FILES_OF_EXECUTOR = 256, 10
#: Seconds in which claims come round; an idle lane does so each second, one without a broker with each failed call.
_LANE_SECONDS = 20.0


def run_worker(
    settings: Settings,
    *,
    name: str | None = None,
    version: str = "",
    on_state: Callable[[str], None] | None = None,
    probe: Probe | None = None,
) -> int:
    """Run a worker in the main thread until it is told to stop; returns its exit code (0, or 7 after a forced drain).

    *on_state* hears ``running`` (handlers imported, registered), ``draining`` and ``stopped``; *probe*, whose vitals
    are those of :func:`vitals_of`, is pulsed from the loop. The broker must run or
    come up: a worker waits for it and never starts it.

    Raises:
        ConfigError: an app cannot be imported, and the message ends with the user's traceback; or the folder of the
            context cannot be used.
        BrokerUnavailable: it was told to stop before the broker had ever let it in.
    """
    gc.collect()
    gc.freeze()
    # Thousands of tasks are held at once and die young without cycles: the default looks at them hundreds of times.
    gc.set_threshold(50_000, 20, 20)
    files = _FILES + _FILES_OF_EXECUTOR * (settings.processes or settings.concurrency)
    if not allow_files(files):
        log.warning("this worker may need %d open files and is allowed fewer: see ulimit -n", files)
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    with scratch_folder(settings) as folder:
        return asyncio.run(_run(settings, name, version, folder, on_state, probe))


def vitals_of(settings: Settings) -> Vitals:
    """The signs of life of a worker: claims come round, heartbeats are sent; it is ready while its lease stands."""
    trust = settings.trust_ms / 1000
    return Vitals(
        # A heartbeat may take as long as its period before it counts as failed.
        {LANE: _LANE_SECONDS, HEARTBEAT: 2 * settings.heartbeat_ms / 1000 + _LANE_SECONDS},
        answers={LANE: min(_LANE_SECONDS, trust), HEARTBEAT: trust},
    )


async def _run(
    settings: Settings,
    name: str,
    version: str,
    folder: str,
    on_state: Callable[[str], None] | None,
    probe: Probe | None,
) -> int:
    def ignore(_: str) -> None:
        return

    beating = probe.beating(asyncio.get_running_loop()) if probe else nullcontext()
    async with Link(BrokerAddress.of(settings)) as link:
        supervisor = Supervisor(
            settings,
            link,
            name=name,
            version=version,
            folder=folder,
            state=on_state or ignore,
            vitals=probe.vitals if probe else None,
        )
        with beating:
            return await supervisor.run()
