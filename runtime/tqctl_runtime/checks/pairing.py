"""Redis and the record are halves of one pair."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.checks.situation import DOUBTFUL, Situation

#: What mends stores that nobody repairs without being asked, and those that a coordinator repairs by itself.
SETTINGS_HINT = "check TQCTL_REDIS_URL, TQCTL_DATABASE_URL and TQCTL_NAMESPACE; tqctl doctor --repair -n"
_MENDS = "a coordinator repairs it; what it would do: tqctl doctor --repair -n"


def check(scene: Scene) -> Iterator[Finding]:
    """What a coordinator would find at its start."""
    found = None if scene.pending else scene.standing
    if found is None:
        yield skipped("needs both stores")
    elif found.situation is Situation.FINE and scene.checkpoint is not None:
        yield ok(f"both stores belong to {scene.checkpoint.pairing}")
    elif found.is_usable:
        yield skipped(found.message)
    elif found.situation is Situation.UNDER_REPAIR:
        yield problem(found.message, "wait for it: tqctl status")
    else:
        yield problem(found.message, SETTINGS_HINT if found.situation in DOUBTFUL else _MENDS)
