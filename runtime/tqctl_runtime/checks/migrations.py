"""The record has this version's schema."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """Pending migrations."""
    if scene.store is None:
        yield skipped("no record")
    elif scene.is_record_empty:
        yield problem("the record does not exist yet", "tqctl up --detach, or: tqctl coordinator start")
    elif scene.pending:
        yield problem(f"{len(scene.pending)} pending: {', '.join(scene.pending)}", "tqctl db upgrade")
    else:
        yield ok(f"none pending ({scene.store.kind})")
