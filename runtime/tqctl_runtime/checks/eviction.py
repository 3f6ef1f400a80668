"""The server never throws a key away to make room."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """``maxmemory-policy`` is ``noeviction``."""
    if scene.info is None:
        yield skipped("no broker")
        return
    policy = scene.info.get("maxmemory_policy", "unknown")
    if policy == "noeviction":
        yield ok("noeviction")
    else:
        yield problem(
            f"{policy}: the server may delete tasks to make room",
            "redis-cli CONFIG SET maxmemory-policy noeviction, then CONFIG REWRITE",
        )
