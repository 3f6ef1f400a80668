"""``echo``: the shortest way to see a task pass."""

from __future__ import annotations

from typing import Any


def echo(**payload: Any) -> dict[str, Any]:
    """Return the payload."""
    return payload
