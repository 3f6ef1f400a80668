"""The processes of a context on this machine: each writes a file about itself, anybody may read them.

A process is known by its id and the instant it began, so that another one that got the same id later is never taken
for it.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from tqctl_runtime.core.clock import now_ms

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

#: The states a process says it is in.
STARTING, READY, STOPPING = "starting", "ready", "stopping"
#: What ``up`` says of a child that somebody else stopped: it is not started again.
STOPPED = "stopped"
#: How such a child comes back.
COMES_BACK = "tqctl down && tqctl up --detach"
#: What is told of a process that a signal suspended, and of one that ended without a word.
SUSPENDED, ENDED = "suspended", "ended"


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process. *since* is ms; *began* is what tells it from a later process of the same *pid*.

    *parent* is the process id of the ``up`` that looks after it, 0 where it was started by itself.
    """

    role: str
    name: str
    pid: int
    since: int
    state: str
    version: str
    log: str
    began: str = ""
    parent: int = 0

    @property
    def is_alive(self) -> bool:
        """Whether that very process still runs."""
        return bool(self.began) and began_at(self.pid) == self.began

    @property
    def is_suspended(self) -> bool:
        """Whether that very process was suspended by a signal and does nothing until it is continued."""
        return self.is_alive and is_suspended(self.pid)

    def send(self, number: signal.Signals) -> bool:
        """Signal it, unless it is gone; tells whether it was there."""
        if not self.is_alive:
            return False
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        return True


@cache
def version() -> str:
    """The version of this installation; empty where it is not installed."""
    from importlib import metadata

    try:
        return metadata.version("tqctl")
    except metadata.PackageNotFoundError:
        return ""


def began_at(pid: int) -> str:
    """When process *pid* began, as text to compare; empty where there is none, or only its remains."""
    fields = _stat(pid)
    if not fields:
        return _began_by_ps(pid) if not Path("/proc/self").exists() else ""
    # The 20th field after the name is the ticks since the boot.
    return "" if fields[0] in "ZX" else f"{_boot_id()}:{fields[19]}"


def is_suspended(pid: int) -> bool:
    """Whether the kernel holds process *pid* since a signal stopped it."""
    fields = _stat(pid)
    return bool(fields) and fields[0] in "Tt"


def _stat(pid: int) -> list[str]:
    """The fields of the kernel's line about *pid* after its name: state, …; empty where there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The name in brackets may hold anything.
    return text.rpartition(")")[2].split()


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    except OSError:
        return ""


def _began_by_ps(pid: int) -> str:
    import subprocess

    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def folder(settings: Settings) -> Path:
    """Where the files about processes are; it need not exist."""
    return settings.context_home / "run"


class Registration:
    """This process's own file."""

    def __init__(self, path: Path, info: ProcessInfo) -> None:
        self._path = path
        self._info = info
        self._write()

    def say(self, state: str) -> None:
        """Change the state that others see."""
        self._info = replace(self._info, state=state)
        self._write()

    def _write(self) -> None:
        _write(self._path, self._info)


@contextmanager
def registered(
    settings: Settings, *, role: str, name: str, log: Path | None, parent: int = 0
) -> Iterator[Registration]:
    """Be known as *role* and *name* while the block runs; the folder of the context must be there."""
    place = folder(settings)
    place.mkdir(mode=0o700, exist_ok=True)
    pid = os.getpid()
    path = place / f"{role}-{pid}.json"
    info = ProcessInfo(role, name, pid, now_ms(), STARTING, version(), str(log or ""), began_at(pid), parent)
    try:
        yield Registration(path, info)
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, info: ProcessInfo) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(asdict(info)), encoding="utf-8")
    fresh.replace(path)


def note_stopped(settings: Settings, *, role: str, name: str, pid: int, log: Path) -> None:
    """As the ``up`` that this process is: keep known that its child *pid* was stopped by somebody else."""
    info = ProcessInfo(role, name, pid, now_ms(), STOPPED, version(), str(log), parent=os.getpid())
    _write(folder(settings) / f"{role}-{pid}.json", info)


def stopped(settings: Settings) -> list[ProcessInfo]:
    """The children that somebody else stopped, of an ``up`` that still runs; the first stopped first."""
    parents = {info.pid for info in living(settings) if info.role == "up"}
    found = [info for path in folder(settings).glob("*.json") if (info := _read(path)) and info.state == STOPPED]
    return sorted((info for info in found if info.parent in parents), key=lambda info: (info.since, info.pid))


def living(settings: Settings) -> list[ProcessInfo]:
    """Every registered process that runs, oldest first; files of dead ones are passed over."""
    found = []
    for path in folder(settings).glob("*.json"):
        info = _read(path)
        if info is not None and info.is_alive:
            found.append(info)
    return sorted(found, key=lambda info: (info.since, info.pid))


def kernel_state(settings: Settings, role: str, host: object, pid: object) -> str | None:
    """:data:`SUSPENDED` or :data:`ENDED` where the kernel says so of process *pid* of *host*; None where it cannot.

    Only a process of this host that is registered in this context is known well enough to be told from another one
    that got the same id.
    """
    import platform

    if host != platform.node():
        return None
    info = _read(folder(settings) / f"{role}-{pid}.json")
    if info is None or info.state == STOPPED:
        return None
    if not info.is_alive:
        return ENDED
    return SUSPENDED if info.is_suspended else None


def sweep(settings: Settings) -> None:
    """Remove the files of processes that are gone."""
    for path in folder(settings).glob("*.json"):
        info = _read(path)
        if info is None or not info.is_alive:
            path.unlink(missing_ok=True)


def _read(path: Path) -> ProcessInfo | None:
    try:
        return ProcessInfo(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
