"""The clocks of this machine, of the broker and of every process agree."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.core.clock import format_duration

#: Leases and schedules go by the broker's clock alone; what people see and write goes by theirs.
_LIMIT_MS = 2_000
_HINT = "set both machines' clocks by NTP"


def check(scene: Scene) -> Iterator[Finding]:
    """The difference of this machine's clock and the broker's, then of those that processes told."""
    difference = scene.clock_difference_ms
    if difference is None:
        yield skipped("no broker")
        return
    if abs(difference) > _LIMIT_MS:
        side = "ahead of" if difference > 0 else "behind"
        yield problem(f"the broker's clock is {_apart(difference)} {side} ours: --at means its time", _HINT)
    else:
        yield ok(f"{abs(difference)} ms apart")
    for name, ahead in _told(scene):
        if abs(ahead) > _LIMIT_MS:
            side = "ahead of" if ahead > 0 else "behind"
            yield problem(
                f"the clock of {name} is {_apart(ahead)} {side} the broker's: its log tells other times",
                _HINT,
            )


def _told(scene: Scene) -> Iterator[tuple[str, int]]:
    """Each live process of another machine or of ours, and how far its clock is ahead of the broker's."""
    overview = scene.overview
    if overview is None:
        return
    for worker in overview.workers:
        ahead = worker.figures.get("clock_ms")
        if ahead is not None and worker.lease_until > overview.now:
            yield f"{worker.info.get('name', worker.id)} on {worker.info.get('host', 'an unknown host')}", int(ahead)
    for info in overview.coordinators.values():
        if info.get("clock_ms") is not None:
            yield f"{info.get('name', '?')} on {info.get('host', 'an unknown host')}", int(info["clock_ms"])


def _apart(milliseconds: int) -> str:
    return format_duration(abs(milliseconds))
