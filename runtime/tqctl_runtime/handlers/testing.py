"""``sleep`` and ``fail``: tasks that take long or go wrong, to see what a queue does then."""

from __future__ import annotations

import ctypes
import os
import time

from tqctl_runtime.core.current import find_current_task

MODES = ("error", "exit", "segv", "hang", "stubborn")


class DemonstrationError(Exception):
    """What ``fail`` raises."""


def sleep(seconds: float = 1.0) -> dict[str, float]:
    """Sleep that long."""
    if seconds < 0:
        raise ValueError(f"seconds must be 0 or more, not {seconds}")
    time.sleep(seconds)
    return {"slept": seconds}


def fail(mode: str = "error", times: int = 0, message: str = "this task fails on purpose") -> dict[str, int]:
    """Fail: error, exit, segv, hang or stubborn; with times=N only the first N attempts do.

    ``exit`` ends the process, ``segv`` crashes it, ``hang`` never ends, ``stubborn`` never ends and catches what asks
    it to. Returns the number of the attempt that passed.
    """
    task = find_current_task()
    attempt = task.attempt if task else 1
    if mode not in MODES:
        raise ValueError(f"fail knows {', '.join(MODES)}, not {mode!r}")
    if times and attempt > times:
        return {"attempt": attempt}
    if mode == "exit":
        os._exit(42)
    if mode == "segv":
        ctypes.string_at(0)
    if mode == "hang":
        while True:
            time.sleep(60)
    if mode == "stubborn":
        _stay()
    raise DemonstrationError(f"{message} (attempt {attempt})")


def _stay() -> None:
    while True:
        try:
            while True:
                time.sleep(60)
        except BaseException as error:  # noqa: BLE001  to show that such a handler is killed after the grace
            print(f"caught {type(error).__name__}, going on", flush=True)  # noqa: T201  stdout is the log of a task
