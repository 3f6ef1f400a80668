"""What was accepted outlives the server."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """The append-only file and the last writes."""
    info = scene.info
    if info is None:
        yield skipped("no broker")
        return
    if info.get("aof_enabled") != "1":
        yield problem(
            "the append-only file is off: accepted tasks that are not recorded yet are lost when the server stops",
            "redis-cli CONFIG SET appendonly yes, then CONFIG REWRITE",
        )
    else:
        yield ok("the append-only file is on")
    for name, what in (("aof_last_write_status", "write"), ("aof_last_bgrewrite_status", "rewrite")):
        if info.get("aof_enabled") == "1" and info.get(name, "ok") != "ok":
            yield problem(f"the last {what} of the append-only file failed", "look for free disk space: df -h")
