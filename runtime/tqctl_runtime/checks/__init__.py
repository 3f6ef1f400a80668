"""What can be wrong with everything a context stands on: one check a file, each finding with what mends it.

A check is a function from :class:`~tqctl_runtime.checks.scene.Scene` to findings; a new one is a file and a line in
:data:`CHECKS`. ``doctor`` runs them all at once, the leading coordinator again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tqctl_runtime.checks import (
    broker,
    clock,
    coordinator,
    disk,
    eviction,
    files,
    lag,
    memory,
    migrations,
    pairing,
    persistence,
    quarantine,
    record,
    server,
    versions,
    workers,
)
from tqctl_runtime.checks.finding import Finding as Finding
from tqctl_runtime.checks.finding import problem
from tqctl_runtime.checks.scene import Scene as Scene
from tqctl_runtime.core.errors import TqctlError

Check = Callable[[Scene], Iterator[Finding]]

#: Name and check, in the order in which they are told.
CHECKS: dict[str, Check] = {
    "files": files.check,
    "disk": disk.check,
    "broker": broker.check,
    "server version": server.check,
    "persistence": persistence.check,
    "eviction policy": eviction.check,
    "memory": memory.check,
    "record": record.check,
    "migrations": migrations.check,
    "pairing": pairing.check,
    "coordinator": coordinator.check,
    "recorder lag": lag.check,
    "quarantine": quarantine.check,
    "workers": workers.check,
    "clock": clock.check,
    "versions": versions.check,
}


def look(scene: Scene, checks: Mapping[str, Check] = CHECKS) -> list[Finding]:
    """One finding at least of each of *checks*; one that fails itself is a finding too."""
    found = []
    for name, check in checks.items():
        try:
            findings = list(check(scene))
        except TqctlError as error:
            findings = [problem(error.message, error.hint or "tqctl doctor")]
        found += [finding.named(name) for finding in findings]
    return found
