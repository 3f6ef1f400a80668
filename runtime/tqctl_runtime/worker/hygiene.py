"""What makes a process a child that cannot outlive its parent, and that holds nothing it should not."""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_PASSWORD_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s@]*:[^/?#\s@]+@")

# Loaded once, before any fork: loading a library in a child costs a millisecond each time.
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when *parent*, its parent's pid, ends; leave at once if it already has.

    The kernel's "parent" is the thread that forked: the caller's parent must be single-threaded or outlive the thread.
    """
    if hasattr(_libc, "prctl"):
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def outlive_parent() -> None:
    """Undo :func:`die_with_parent`."""
    if hasattr(_libc, "prctl"):
        _libc.prctl(_PR_SET_PDEATHSIG, 0, 0, 0, 0)


def allow_files(count: int) -> bool:
    """Let this process and its children have *count* descriptors; False where the hard limit allows fewer."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= count:
        return True
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most == count


def reset_signals() -> None:
    """Default handlers, no mask; SIGINT ignored, since a terminal sends it to everybody."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def kill_group(leader: int) -> None:
    """Kill the process group of *leader*, which must be our child and not reaped, so that its number is its own."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """*environment* without the settings of tqctl and without any value that holds a URL with a password."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("TQCTL_") and not _PASSWORD_URL.search(value)
    }
