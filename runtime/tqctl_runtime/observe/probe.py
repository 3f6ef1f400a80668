"""Files by which anybody can see from outside that a process lives and is ready, and what systemd is told of it.

``run/NAME.alive`` and ``run/NAME.ready`` in the folder of the context are touched each second while it is so. A shell
needs no more: ``find FILE -mmin -1 | grep -q .``
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tqctl_runtime.observe import notify, registry
from tqctl_runtime.observe.notify import Notifier
from tqctl_runtime.observe.vitals import Vitals

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

#: Seconds between two looks at the signs of life.
PULSE = 1.0
#: A file that was not touched for this long says nothing good, seconds: what ``-mmin -1`` means.
FRESH_SECONDS = 60.0
#: The same of readiness where :func:`read` tells: who stands still takes nothing, long before it counts as dead.
READY_SECONDS = 15.0
_ALIVE, _READY = ".alive", ".ready"


class Probe:
    """One process's files and its word to the service manager. :meth:`pulse` is called from the loop it vouches for."""

    def __init__(
        self,
        folder: Path,
        name: str,
        vitals: Vitals | None = None,
        *,
        notifier: Notifier | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.vitals = vitals or Vitals()
        self._files = files(folder, name)
        self._notifier = notifier or Notifier()
        self._clock = clock
        self._is_ready = False
        self._is_named = False
        self._told_at = float("-inf")

    def ready(self) -> None:
        """Tell that the start is over."""
        self._is_ready = True
        self._notifier.send(notify.READY)
        self.pulse()

    def stopping(self) -> None:
        """Tell that the end has begun: alive, and ready for nothing new."""
        if self._is_ready:
            self._is_ready = False
            self._notifier.send(notify.STOPPING)
        self.pulse()

    def pulse(self) -> None:
        """Touch the files and the watchdog as far as the signs of life allow."""
        alive, ready = self._files
        if not self._is_named:
            # A killed process of this name left files that hold its process id.
            self._is_named = True
            self.close()
        if self.vitals.is_alive:
            _touch(alive)
            now = self._clock()
            # Twice as often as it must be, as systemd's manual asks for.
            if self._notifier.watchdog and now - self._told_at >= self._notifier.watchdog / 2 - PULSE / 2:
                self._told_at = now
                self._notifier.send(notify.WATCHDOG)
        if self._is_ready and self.vitals.is_ready:
            _touch(ready)
        else:
            ready.unlink(missing_ok=True)

    @contextmanager
    def beating(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Pulse from *loop* while the block runs."""
        period = min(PULSE, self._notifier.watchdog / 4) if self._notifier.watchdog else PULSE

        timers: list[asyncio.Handle] = []

        def beat() -> None:
            self.pulse()
            timers[:] = [loop.call_later(period, beat)]

        timers.append(loop.call_soon(beat))
        try:
            yield
        finally:
            timers[0].cancel()

    def close(self) -> None:
        """Remove the files: a process that ended is neither."""
        for path in self._files:
            path.unlink(missing_ok=True)


@contextmanager
def probed(settings: Settings, name: str, vitals: Vitals) -> Iterator[Probe]:
    """The probe of this process under *name*, which speaks to the service manager that started it, if one did."""
    probe = Probe(registry.folder(settings), name, vitals, notifier=Notifier.take())
    try:
        yield probe
    finally:
        probe.close()


@dataclass(frozen=True, slots=True)
class Sign:
    """What the files say of one process; *age_s* is that of its last sign of life, None where there was none."""

    name: str
    pid: int | None
    is_alive: bool
    is_ready: bool
    age_s: float | None


def files(folder: Path, name: str) -> tuple[Path, Path]:
    """Where process *name* says that it is alive, and that it is ready."""
    stem = re.sub(r"[^\w.-]", "_", name)
    return folder / f"{stem}{_ALIVE}", folder / f"{stem}{_READY}"


def read(folder: Path, name: str) -> Sign:
    """What process *name* says of itself; one that was killed is not alive, however fresh its file."""
    alive, ready = files(folder, name)
    age = _age(alive)
    ready_age = _age(ready)
    pid = None
    with suppress(OSError, ValueError):
        pid = int(alive.read_text(encoding="ascii"))
    is_there = pid is not None and bool(registry.began_at(pid))
    is_alive = is_there and age is not None and age < FRESH_SECONDS
    return Sign(name, pid, is_alive, is_alive and ready_age is not None and ready_age < READY_SECONDS, age)


def read_all(folder: Path) -> list[Sign]:
    """What every process says that left a file, by name."""
    return [read(folder, path.stem) for path in sorted(folder.glob(f"*{_ALIVE}"))]


def sweep(folder: Path, *, older_than: float = 3_600.0) -> None:
    """Remove what killed processes left behind *older_than* seconds ago."""
    for suffix in (_ALIVE, _READY):
        for path in folder.glob(f"*{suffix}"):
            age = _age(path)
            if age is not None and age > older_than:
                path.unlink(missing_ok=True)


def _age(path: Path) -> float | None:
    try:
        return max(time.time() - path.stat().st_mtime, 0.0)
    except OSError:
        return None


def _touch(path: Path) -> None:
    """Touch *path*; it holds our process id. Where the folder is gone or full, the probe fails, not the process."""
    try:
        os.utime(path)
    except OSError:
        with suppress(OSError):
            path.write_text(f"{os.getpid()}\n", encoding="ascii")
