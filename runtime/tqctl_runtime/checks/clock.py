"""This machine's clock and the broker's agree."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.core.clock import format_duration

#: Leases and schedules go by the broker's clock alone; what people see and write goes by theirs.
_LIMIT_MS = 2_000


def check(scene: Scene) -> Iterator[Finding]:
    """The difference of the two clocks."""
    difference = scene.clock_difference_ms
    if difference is None:
        yield skipped("no broker")
        return
    if abs(difference) > _LIMIT_MS:
        side = "ahead of" if difference > 0 else "behind"
        yield problem(
            f"the broker's clock is {format_duration(abs(difference))} {side} ours: --at means its time",
            "set both machines' clocks by NTP",
        )
    else:
        yield ok(f"{abs(difference)} ms apart")
