"""Handlers for the tests of workers and executors: given to a worker as its app."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import itertools
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from tqctl_runtime.api import handler
from tqctl_runtime.core.current import current_task
from tqctl_runtime.core.errors import Cancel, Retry


class NeverAgainError(Exception):
    """A failure that no retry mends."""


@handler
def noop() -> None:
    """Do nothing."""


@handler
def babble() -> None:
    """Write into every socket, as a handler may that closed descriptors which were not its own."""
    for link in list(Path("/proc/self/fd").iterdir()):
        with contextlib.suppress(OSError):
            if str(link.readlink()).startswith("socket:"):
                os.write(int(link.name), b"\xc1\x05hello")
    time.sleep(1_000)


@handler
def note_effect(path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{current_task().id}\n")
    time.sleep(0.005)


def wait_for(path: str) -> None:
    """Wait until *path* exists."""
    while not Path(path).exists():
        time.sleep(0.005)


@handler
def hold(started: str, until: str) -> int:
    """Write *started*, end once *until* exists; append to *started* each time it runs."""
    with open(started, "a") as file:
        file.write(f"{os.getpid()}\n")
    wait_for(until)
    return os.getpid()


@handler
def hold_if(until: str = "") -> int:
    if until:
        wait_for(until)
    return os.getpid()


@handler
async def async_hold(started: str, until: str) -> str:
    with open(started, "a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(until).exists():
        await asyncio.sleep(0.005)
    return "held"


@handler(overlap_ok=True)
def overlapping_hold(started: str, until: str) -> int:
    with open(started, "a") as file:
        file.write(f"{os.getpid()}\n")
    wait_for(until)
    return os.getpid()


def write_stamp(fd: int) -> None:
    """Write who lives and what time it is, in milliseconds, over what stands there: all of it or nothing."""
    os.pwrite(fd, b"%010d %020d" % (os.getpid(), time.time_ns() // 1_000_000), 0)


@handler
def stamp(path: str, until: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    while not Path(until).exists():
        write_stamp(fd)
        time.sleep(0.005)


@handler
async def async_stamp(path: str, until: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    while not Path(until).exists():
        write_stamp(fd)
        await asyncio.sleep(0.005)


@handler(overlap_ok=True)
async def overlapping_stamp(path: str, until: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    while not Path(until).exists():
        write_stamp(fd)
        await asyncio.sleep(0.005)


@handler
def spin() -> None:
    while True:
        pass


@handler
def backtrack() -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


@handler
def deaf_to_stops(inside: str) -> None:
    """Swallow every exception; *inside* exists once it does."""
    while True:
        try:
            while True:
                Path(inside).touch()
                time.sleep(0.005)
        except BaseException:  # noqa: BLE001  that is the point
            continue


@handler
def stubborn() -> None:
    while True:
        try:
            while True:
                time.sleep(60)
        except BaseException:  # noqa: BLE001  that is the point
            continue


@handler
def long_c_call() -> None:
    sum(itertools.repeat(0))


@handler
async def async_spin() -> None:
    while True:
        pass


@handler
async def async_swallow() -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue


@handler
async def async_sleep(seconds: float = 60.0) -> None:
    await asyncio.sleep(seconds)


@handler
async def async_thread_of_own() -> None:
    child = asyncio.create_task(_spin_in_subtask())
    await child


async def _spin_in_subtask() -> None:
    while True:
        pass


@handler
def clean_up(path: str) -> None:
    try:
        while True:
            time.sleep(60)
    finally:
        Path(path).write_text("cleaned")


@handler
def leave(code: int = 3) -> None:
    print("last words", flush=True)
    os._exit(code)


@handler
def leave_once(marker: str) -> str:
    if not Path(marker).exists():
        Path(marker).write_text("x")
        os._exit(3)
    return "second"


@handler
def crash() -> None:
    ctypes.string_at(0)


@handler
async def async_leave(when: str) -> None:
    while not Path(when).exists():
        await asyncio.sleep(0.005)
    os._exit(4)


@handler
def system_exit() -> None:
    sys.exit(5)


@handler
def talk(word: str) -> None:
    print("printed", word)
    print("complained", word, file=sys.stderr)
    logging.getLogger("app").info("logged %s", word)
    current_task().logger.warning("told %s", word)
    subprocess.run(["echo", "child", word], check=True)
    sys.stdout.write("without end")


@handler
def talk_much(lines: int) -> None:
    for number in range(lines):
        print(f"line {number:08d}")


@handler
def talk_and_hold(until: str) -> None:
    print("early line")
    wait_for(until)
    print("late line")


@handler
async def async_talk(word: str, rounds: int = 3) -> None:
    for number in range(rounds):
        print(word, number)
        logging.getLogger("app").info("logged %s", word)
        await asyncio.sleep(0)
    await asyncio.create_task(_say(word))
    await asyncio.to_thread(print, word, "from a thread")


async def _say(word: str) -> None:
    print(word, "from a sub-task")


@handler
def odd_text() -> str:
    print("nul \x00 and surrogate \udc80")
    os.write(1, b"bytes \xff\xfe\n")
    return "nul \x00 and surrogate \udc80"


@handler
def big(size: int) -> str:
    return "x" * size


@handler
def not_json() -> object:
    return {1, 2}


@handler
def ask_retry(after: float) -> None:
    raise Retry("not yet", after=after)


@handler
def ask_cancel() -> None:
    raise Cancel("not needed any more")


@handler(never_retry_on=[NeverAgainError])
def never_again() -> None:
    raise NeverAgainError("for good")


@handler(retry_on=[KeyError])
def only_key_errors(kind: str) -> None:
    raise KeyError("k") if kind == "key" else ValueError("v")


@handler
def typed(count: int, name: str = "x", ratio: float = 1.0) -> list[object]:
    return [count, name, ratio]


@handler
def tell_progress() -> str:
    task = current_task()
    task.progress(40, "resized")
    folder = task.folder
    (folder / "file").write_text("x")
    return str(folder)


@handler
def where_am_i() -> dict[str, object]:
    task = current_task()
    return {"id": task.id, "attempt": task.attempt, "queue": task.queue, "handler": task.handler}


@handler
def environment() -> dict[str, str]:
    return dict(os.environ)


@handler
def who() -> list[int]:
    return [os.getpid(), os.getppid(), os.getpgid(0)]


@handler
def child(number: int) -> int:
    return number


@handler
def three_children(fail_first: bool = True) -> list[str]:
    ids = [child.submit(number=number) for number in range(3)]
    if fail_first and current_task().attempt == 1:
        raise RuntimeError("once")
    return ids


@handler
async def awaited_children(fail_first: bool = True) -> list[str]:
    ids = await asyncio.gather(*[child.submit_async(number=number) for number in range(3)])
    if fail_first and current_task().attempt == 1:
        raise RuntimeError("once")
    return ids


@handler
def awaited_in_a_loop_of_its_own() -> str:
    return asyncio.run(child.options(priority=7).submit_async(number=1))


@handler
async def submit_and_wait(until: str) -> str:
    """Submit a child while the other task of the executor is what lets this one go on."""
    Path(until).touch()
    return await child.submit_async(number=1)


@handler
async def submit_then_give_up() -> str:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.05):
            await child.submit_async(number=1)
    return "gave up"


@handler
async def async_children() -> list[str]:
    own = [child.submit(number=7)]
    own.append(await asyncio.to_thread(child.submit, number=8))
    return own


@handler
def grandchild(pid_file: str) -> None:
    process = subprocess.Popen(["sleep", "1000"])
    Path(pid_file).write_text(str(process.pid))
    threading.Event().wait()


@handler
def forked_return() -> str:
    os.fork()
    return "one of two"


@handler
def close_streams() -> None:
    print("before")
    sys.stdout.close()
    sys.stderr = None
