"""rq on Redis, for the shell rows only: a task its command line can name."""

from __future__ import annotations


def noop(number: str) -> None:
    """Do nothing; it waits in the queue and never runs."""
