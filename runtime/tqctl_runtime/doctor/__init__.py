"""``doctor``: looks at everything a context stands on, one check a file, each finding with what mends it.

A check is a function from :class:`~tqctl_runtime.doctor.scene.Scene` to findings; a new one is a file and a line in
:data:`CHECKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from tqctl_runtime.doctor import (
    broker,
    clock,
    coordinator,
    eviction,
    files,
    lag,
    memory,
    migrations,
    pairing,
    persistence,
    server,
    versions,
    workers,
)
from tqctl_runtime.doctor.finding import Finding as Finding
from tqctl_runtime.doctor.scene import Scene

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

#: Name and check, in the order in which they are told.
CHECKS: dict[str, Callable[[Scene], Iterator[Finding]]] = {
    "files": files.check,
    "broker": broker.check,
    "server version": server.check,
    "persistence": persistence.check,
    "eviction policy": eviction.check,
    "memory": memory.check,
    "migrations": migrations.check,
    "pairing": pairing.check,
    "coordinator": coordinator.check,
    "recorder lag": lag.check,
    "workers": workers.check,
    "clock": clock.check,
    "versions": versions.check,
}


def run_checks(settings: Settings) -> list[Finding]:
    """One finding at least for each check: level ``ok``, ``problem``, or ``skipped`` where it could not look.

    Makes nothing on disk and changes nothing.
    """
    with Scene(settings) as scene:
        found = []
        for name, check in CHECKS.items():
            found += [finding.named(name) for finding in check(scene)]
        return found
