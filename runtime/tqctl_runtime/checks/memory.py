"""The server has room."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.broker.leader_calls import MEMORY_SHARE, is_memory_short
from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """Used memory against the limit."""
    info = scene.info
    if info is None:
        yield skipped("no broker")
        return
    used, limit = int(info.get("used_memory", "0")), int(info.get("maxmemory", "0"))
    text = f"{used / 2**20:.1f} MiB in use" + (f" of {limit / 2**20:.0f} MiB" if limit else ", no limit")
    if is_memory_short(info):
        yield problem(
            f"{text}: submits answer busy above {MEMORY_SHARE:.0%}", "raise maxmemory, or let workers catch up"
        )
    else:
        yield ok(text)
