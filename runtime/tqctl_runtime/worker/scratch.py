"""The temporary folder of a worker: private, of its context, and removed by the next worker if it was killed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqctl_runtime.broker.locks import is_locked, locked, private_folder, try_lock
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.observe import registry

_PREFIX = "scratch-"
_LOCK = "lock"
#: How long another worker may take to sweep, in seconds.
_WITHIN = 30.0


@contextmanager
def scratch_folder(settings: Settings) -> Iterator[str]:
    """A folder for the time of the block; those of workers that are gone are removed first.

    Raises:
        ConfigError: the folder of the context cannot be used.
        BrokerUnavailable: another worker sweeps for too long.
    """
    private_folder(settings.context_home)
    place = private_folder(registry.folder(settings))
    # One at a time: a folder that has just been made and is not locked yet would look like one of the dead.
    with locked(place / "scratch.lock", within=_WITHIN, what="another worker removes temporary folders"):
        _sweep(place)
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=place)
        # The kernel frees it with this process alone: no child inherits the descriptor.
        lock = os.open(Path(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try_lock(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _sweep(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        if not is_locked(folder / _LOCK):
            shutil.rmtree(folder, ignore_errors=True)
