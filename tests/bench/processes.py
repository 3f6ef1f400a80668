"""Start, watch, weigh and end processes. Everything started here ends with its ``Processes``."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

_TERM_TIMEOUT = 10.0


class BenchError(Exception):
    """A system could not be measured; the message says why."""


def wait_for(check: Callable[[], bool], what: str, timeout: float, every: float = 0.02) -> float:
    """Poll *check* until it holds; returns the monotonic instant at which it was seen to hold.

    Raises:
        BenchError: it did not hold within *timeout* seconds.
    """
    deadline = time.monotonic() + timeout
    while not check():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {timeout:.0f} s")
        time.sleep(every)
    return time.monotonic()


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                words = (entry / "stat").read_text().rpartition(")")[2].split()
                found[int(entry.name)] = int(words[1])
    return found


def tree(pid: int) -> list[int]:
    """*pid* and all its descendants, parents first."""
    parents = _parents()
    found = [pid]
    for member in found:
        found.extend(child for child, parent in parents.items() if parent == member)
    return found


def pss_bytes(pid: int) -> int:
    """Proportional set size of the tree below *pid*, shared pages counted by share."""
    total = 0
    for member in tree(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
    return total


def kill_tree(pid: int) -> None:
    """SIGKILL to *pid* and all its descendants at once, as a machine that goes away would."""
    for member in tree(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


@dataclass
class Processes:
    """The processes of one session; a context manager that leaves none behind."""

    folder: Path
    _running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start *argv* in a session of its own; its output goes to a log file in the folder."""
        log = self.folder / f"{len(self._running):02d}-{Path(argv[0]).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                argv,
                env=dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """TERM, and after ten seconds KILL for the whole tree."""
        members = tree(process.pid)
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_TERM_TIMEOUT)
            except subprocess.TimeoutExpired:
                kill_tree(process.pid)
                process.wait()
        for member in members[1:]:
            if member in _parents() and os.getsid(member) == process.pid:
                os.kill(member, signal.SIGKILL)
        self._forget(process)

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """KILL for the whole tree."""
        kill_tree(process.pid)
        process.wait()
        self._forget(process)

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        if process in self._running:
            self._running.remove(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(reversed(self._running)):
            self.stop(process)


def run(argv: Sequence[str], env: Mapping[str, str], timeout: float, cwd: Path | None = None) -> str:
    """Run *argv* to its end and return its stdout.

    Raises:
        BenchError: it failed or took longer than *timeout* seconds; the end of its stderr is told.
    """
    try:
        done = subprocess.run(
            argv, env=dict(env), cwd=cwd, timeout=timeout, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{' '.join(argv)}: longer than {timeout:.0f} s") from None
    if done.returncode != 0:
        raise BenchError(f"{' '.join(argv)}: exit {done.returncode}: {last_lines(done.stderr)}")
    return done.stdout


def last_lines(text: str) -> str:
    """The end of an output on one line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-2:])[-400:] or "no output"


def wall_ms(argv: Sequence[str], env: Mapping[str, str], timeout: float = 20.0, cwd: Path | None = None) -> float:
    """Wall time of one run of *argv*, output thrown away; ms.

    Raises:
        BenchError: it failed or took longer than *timeout* seconds.
    """
    null = subprocess.DEVNULL
    began = time.perf_counter()
    process = subprocess.Popen(argv, env=dict(env), cwd=cwd, stdin=null, stdout=null, stderr=null)
    # Popen.wait with a time-out polls, at last each 50 ms, and would round every figure up to its next look.
    end = os.pidfd_open(process.pid)
    try:
        has_ended = bool(select.select([end], [], [], timeout)[0])
        took = (time.perf_counter() - began) * 1000
    finally:
        os.close(end)
    if not has_ended:
        process.kill()
        process.wait()
        raise BenchError(f"{' '.join(argv)}: longer than {timeout:.0f} s")
    if process.wait() != 0:
        raise BenchError(f"{' '.join(argv)}: exit {process.returncode}")
    return took
