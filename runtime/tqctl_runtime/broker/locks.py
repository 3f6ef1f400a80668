"""File locks that the kernel frees with their holder, and folders that nobody else may enter."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqctl_runtime.core.errors import BrokerUnavailable, ConfigError

_POLL = 0.02


def private_folder(path: Path) -> Path:
    """Make *path* with mode 0700 where it is missing, and check it.

    Raises:
        ConfigError: it cannot be made, or :func:`check_private` refuses it.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the folder {path} cannot be made: {error.strerror}", hint="set TQCTL_HOME") from None
    check_private(path)
    return path


def check_private(path: Path) -> None:
    """Check that *path* is a folder of ours that nobody else can enter.

    Raises:
        ConfigError: another owner, a wider mode, or no folder.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"the folder {path} cannot be used: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ConfigError(f"{path} is not a folder")
    if found.st_uid != os.geteuid():
        raise ConfigError(f"the folder {path} belongs to another user", hint="set TQCTL_HOME to a folder of your own")
    if found.st_mode & 0o077:
        raise ConfigError(
            f"others may enter the folder {path} (mode {stat.S_IMODE(found.st_mode):o})", hint=f"chmod 700 {path}"
        )


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Lock an open file without waiting; tells whether that worked. It ends with the last copy of *descriptor*."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give a lock back before its file is closed."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock file *path*; makes nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path, *, within: float, what: str) -> Iterator[int]:
    """Hold the lock file *path*; yields its descriptor.

    Raises:
        BrokerUnavailable: another process kept it for *within* seconds; *what* says what it does.
    """
    give_up = time.monotonic() + within
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Polled: a blocking flock has no time-out.
        while not try_lock(descriptor):
            if time.monotonic() > give_up:
                raise BrokerUnavailable(f"{what} has taken more than {within:g} s", hint=f"who holds it: fuser {path}")
            time.sleep(_POLL)
        yield descriptor
    finally:
        os.close(descriptor)


def wait_unlocked(path: Path, *, within: float) -> bool:
    """Wait until nobody holds *path*; False when *within* seconds did not do."""
    give_up = time.monotonic() + within
    while is_locked(path):
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL)
    return True
