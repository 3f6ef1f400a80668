"""``shell``: run a command, as an argument list and never through a shell of ours."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import threading
from typing import Any

_PR_SET_CHILD_SUBREAPER = 36
_TERM_SECONDS = 1.0


class CommandFailed(Exception):
    """The command ended with another exit code than 0, or by a signal."""


def shell(argv: list[Any], cwd: str = "", stdin: str = "") -> dict[str, int]:
    """Run a command; its output is the log, its exit code the outcome.

    *argv* is the command and its arguments. It gets the worker's environment less the settings of tqctl and every
    value that holds a URL with a password. What it leaves running in the background is killed when it ends.

    Raises:
        CommandFailed: it did not exit with 0; the message tells the code.
        ValueError: *argv* is not a list of texts with a command.
    """
    if not argv or not all(isinstance(word, str) for word in argv):
        raise ValueError("shell needs argv: a list with a command and its arguments, all text")
    adopt_orphans()
    before = children()
    try:
        code = _run(argv, cwd, stdin)
    finally:
        end_stragglers(before)
    if code:
        raise CommandFailed(how_it_ended(code))
    return {"exit_code": 0}


def _run(argv: list[str], cwd: str, stdin: str) -> int:
    # The command stays in the process group of the executor, so that whoever kills that kills the command too.
    process = subprocess.Popen(argv, cwd=cwd or None, stdin=subprocess.PIPE if stdin else subprocess.DEVNULL)
    try:
        process.communicate(stdin.encode() if stdin else None)
    except BaseException:
        process.terminate()
        try:
            process.wait(_TERM_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        raise
    return process.returncode


def adopt_orphans() -> None:
    """Become the parent of what the command leaves behind, so that it can be found."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """The pids of our children; empty where the kernel does not tell."""
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/children", encoding="ascii") as file:
            return {int(word) for word in file.read().split()}
    except OSError:
        return set()


def end_stragglers(before: set[int]) -> None:
    """Kill and reap every child that is not in *before*: nothing of a command writes to the next task's log."""
    while stragglers := children() - before:
        for pid in stragglers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def how_it_ended(code: int) -> str:
    """``exit code 3`` or ``killed by SIGTERM``."""
    if code > 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
