"""Waiting for something to become true: the only way a test lets time pass."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Below the limit of a test, so that the description is seen instead of a bare time-out.
DEFAULT_TIMEOUT = 30.0
_pulse = threading.Event()


def wait_until(
    predicate: Callable[[], T],
    description: str,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    interval: float = 0.02,
    ignore: tuple[type[Exception], ...] = (),
) -> T:
    """The first true value of *predicate*, asked every *interval* seconds.

    An exception of the kinds in *ignore* counts as "not yet"; any other ends the wait.

    Raises:
        AssertionError: nothing true within *timeout* seconds; names *description* and what was last seen.
    """
    deadline = time.monotonic() + timeout
    seen: object = None
    while True:
        try:
            value = predicate()
        except ignore as error:
            seen = error
        else:
            if value:
                return value
            seen = value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s for: {description}; last seen: {seen!r}")
        _pulse.wait(interval)
