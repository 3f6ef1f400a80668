"""What the driver needs of a system's client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Producer(Protocol):
    """A connected client. Every call returns when all of its tasks were acknowledged by the store."""

    def one(self, number: int) -> None:
        """Submit the no-op task *number*."""

    def each(self, numbers: Sequence[int]) -> None:
        """Submit no-op tasks, one task a call."""

    def bulk(self, numbers: Sequence[int]) -> None:
        """Submit no-op tasks through the bulk call, or the nearest thing the system has."""

    def slow(self, number: int, seconds: float) -> None:
        """Submit the task that marks *number*, sleeps *seconds* and marks the next number."""

    def close(self) -> None:
        """Disconnect."""
