"""Handlers that ask for secrets, and handlers beside them that look for what they were not given."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

from tqctl_runtime.api import handler
from tqctl_runtime.core.current import current_task

#: Finds the tests' secrets; the brackets keep the pattern itself, which lies in memory too, from being found.
MARK = re.compile(rb"hunter[2]-\w+")


def places_of_secrets() -> list[str]:
    """Where this process holds a secret of the tests."""
    found = [name for name in ("environ", "cmdline") if MARK.search(Path("/proc/self", name).read_bytes())]
    found += [str(link) for link in Path("/proc/self/fd").iterdir() if MARK.search(_shown(link))]
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", buffering=0) as memory:
        for line in maps.read().splitlines():
            span, rights = line.split()[:2]
            start, end = (int(text, 16) for text in span.split("-"))
            if rights.startswith("rw"):
                memory.seek(start)
                if MARK.search(memory.read(end - start)):
                    found.append("memory")
    return found


def _shown(link: Path) -> bytes:
    try:
        return os.fsencode(link.readlink())
    except FileNotFoundError:  # the descriptor of the listing itself
        return b""


@handler
def search() -> list[str]:
    return places_of_secrets()


@handler
async def async_search() -> list[str]:
    return places_of_secrets()


@handler(needs="db")
def search_with_db() -> list[str]:
    return places_of_secrets()


@handler(needs=("db", "smtp"))
def tell() -> list[object]:
    needs = current_task().needs
    return [dict(needs), os.getpid()]


@handler(needs=("smtp", "db"))
async def async_tell() -> list[object]:
    needs = current_task().needs
    return [dict(needs), os.getpid()]


@handler(needs="smtp", queue="mail")
def tell_smtp() -> list[object]:
    return [dict(current_task().needs), os.getpid()]


@handler(needs=["smtp"])
def ask_for_more() -> str:
    return current_task().needs["db"]


@handler
def ask_for_anything() -> str:
    return current_task().needs["db"]


@handler(needs="smtp")
def leave() -> None:
    os._exit(3)


@handler(needs="smtp")
def spin() -> None:
    while True:
        pass


@handler(needs="smtp")
async def async_spin() -> None:
    while True:
        pass


@handler
def pid() -> int:
    return os.getpid()


@handler
async def async_hold(until: str) -> int:
    while not Path(until).exists():
        await asyncio.sleep(0.005)
    return os.getpid()


@handler(needs="smtp")
async def async_hold_with_smtp(until: str) -> int:
    while not Path(until).exists():
        await asyncio.sleep(0.005)
    return os.getpid()


@handler(needs="smtp")
def hold_with_smtp(started: str, until: str) -> int:
    Path(started).touch()
    while not Path(until).exists():
        time.sleep(0.005)
    return os.getpid()
