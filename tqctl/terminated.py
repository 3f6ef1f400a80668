"""SIGTERM as an exception, for work that must say something before it ends; and steps that no signal parts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

EXIT_CODE = 128 + signal.SIGTERM


class Terminated(BaseException):
    """The process was told to end by SIGTERM. Like ``KeyboardInterrupt`` it is no ``Exception``."""


@contextmanager
def raising_terminated() -> Iterator[None]:
    """Raise :class:`Terminated` in the main thread when SIGTERM comes, as long as this lasts."""

    def end(_: int, __: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let SIGINT and SIGTERM wait in this thread until the end of a few steps that belong together and never block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
