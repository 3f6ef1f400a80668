"""Redis and the record are halves of one pair."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene

_HINT = "check TQCTL_REDIS_URL, TQCTL_DATABASE_URL and TQCTL_NAMESPACE; tqctl doctor --repair -n"
_MENDS = "a coordinator repairs it; what it would do: tqctl doctor --repair -n"


def check(scene: Scene) -> Iterator[Finding]:
    """Pairing ids and epochs."""
    known = None if scene.store is None or scene.pending else scene.checkpoint
    if scene.wire is None or known is None:
        yield skipped("needs both stores")
    elif scene.opened is None:
        if known.is_fresh:
            yield skipped("nothing was recorded yet")
        elif _is_elsewhere(scene, known.broker):
            yield problem(f"this Redis is empty, and the record belongs to Redis at {known.broker}", _HINT)
        else:
            about = f"the record knows it up to entry {known.sequence} of epoch {known.epoch}"
            yield problem(f"the namespace is empty or under repair, but {about}", _MENDS)
    elif scene.opened[1] != known.pairing:
        yield problem(f"the record belongs to {known.pairing}, Redis to {scene.opened[1]}", _HINT)
    elif scene.opened[0] != known.epoch:
        about = f"Redis is in epoch {scene.opened[0]}, the record in epoch {known.epoch}"
        if _is_elsewhere(scene, known.broker):
            yield problem(f"{about}, and it belongs to Redis at {known.broker}", _HINT)
        else:
            yield problem(about, _MENDS)
    else:
        yield ok(f"both stores belong to {known.pairing}")


def _is_elsewhere(scene: Scene, known: str) -> bool:
    """Whether Redis is not where the record's was; then nobody repairs it without being asked."""
    if scene.wire is None or scene.settings.redis_url is None or not known:
        return False  # the private server is known by its folder, and a context has one
    return known != scene.wire.address.display
