"""Handlers whose effects are lines in one append-only file, outside of Redis and SQL: ``id attempt pid ns``."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

from tqctl_runtime.api import handler
from tqctl_runtime.core.current import current_task


def note() -> None:
    """Append one line in one write: concurrent writers never mix, a killed one leaves all of it or nothing."""
    task = current_task()
    line = f"{task.id} {task.attempt} {os.getpid()} {time.time_ns()}\n".encode()
    file = os.open(os.environ["TQ_CHAOS_EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line)
    finally:
        os.close(file)


@handler(max_retries=3, backoff=0.1)
def work(ms: float = 0.0) -> int:
    """An effect, then *ms* of waiting."""
    note()
    time.sleep(ms / 1000)
    return os.getpid()


@handler(max_retries=3, backoff=0.1)
def flaky(times: int = 1, ms: float = 0.0) -> int:
    """Fails in its first *times* attempts that end."""
    note()
    time.sleep(ms / 1000)
    if current_task().attempt <= times:
        raise ValueError(f"attempt {current_task().attempt} was meant to fail")
    return current_task().attempt


@handler(max_retries=3, backoff=0.1)
def weigh(text: str) -> int:
    """An effect of a payload that takes place."""
    note()
    return len(text)


@handler(max_retries=3, backoff=0.1)
def hold(until: str) -> int:
    """An effect, then waits for the file *until*."""
    note()
    while not Path(until).exists():
        time.sleep(0.01)
    return os.getpid()


@handler(max_retries=3, backoff=0.1)
def beget(children: int = 1) -> list[str]:
    """An effect, progress, and tasks of its own."""
    note()
    current_task().progress(50, "half of it")
    return [work.submit(ms=1) for _ in range(children)]


@handler
async def async_work(ms: float = 0.0) -> int:
    """An effect in the executor that all async tasks share."""
    import asyncio

    note()
    await asyncio.sleep(ms / 1000)
    return os.getpid()


@handler
def leave() -> None:
    """Ends its process without a word."""
    note()
    os._exit(42)


@handler
def crash() -> None:
    """Reads address 0."""
    note()
    ctypes.string_at(0)


@handler
def swell(megabytes: int = 10_000) -> int:
    """Takes memory until the kernel ends its process."""
    note()
    held = [bytearray(os.urandom(1024)) * 1024 for _ in range(megabytes)]
    return len(held)
