"""SIGTERM as an exception, for work that must say something before it ends."""

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
