"""The gate: workers that imported their application wait here until all of them have, so that they start together."""

from __future__ import annotations

import os
import time
from pathlib import Path

_TIMEOUT = 60.0


def pass_gate() -> None:
    """Wait for the file ``open`` in the folder ``BENCH_GATE``; at once where that is not set.

    Raises:
        TimeoutError: nobody opened it within a minute.
    """
    if not (folder := os.environ.get("BENCH_GATE")):
        return
    place = Path(folder)
    (place / f"arrived.{os.getpid()}").touch()
    deadline = time.monotonic() + _TIMEOUT
    while not (place / "open").exists():
        if time.monotonic() > deadline:
            raise TimeoutError("nobody opened the gate")
        time.sleep(0.002)
