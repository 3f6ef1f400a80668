"""The record answers."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """Connection, and the time that a small question takes."""
    store = scene.store
    if store is None:
        error = scene.record_error
        assert error is not None
        yield problem(error.message, "look whether the database runs, and check TQCTL_DATABASE_URL")
    elif scene.is_record_empty:
        yield skipped("it does not exist yet")
    else:
        yield ok(f"{store.kind} answers")
