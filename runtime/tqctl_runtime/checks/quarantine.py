"""No journal entry of this epoch stands aside because it could not be recorded."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """What is in quarantine; a repair brings the tasks that Redis still has into the record and begins a new epoch."""
    if scene.store is None or scene.checkpoint is None:
        yield skipped("no record")
        return
    count = scene.store.lookup.quarantined(scene.checkpoint.epoch)
    if count:
        yield problem(
            f"{count} journal {'entry' if count == 1 else 'entries'} could not be recorded and stand in quarantine: "
            "tasks in them may be unknown to the record",
            "tqctl status --logs coordinator says why; tqctl doctor --repair records what Redis still has",
        )
    else:
        yield ok("nothing in quarantine")
