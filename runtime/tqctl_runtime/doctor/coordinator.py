"""Somebody leads, and each of its roles works."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.broker.leader_calls import COORDINATOR
from tqctl_runtime.doctor.finding import Finding, ok, problem, skipped
from tqctl_runtime.doctor.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """The leader's lease, and what its heartbeat says of its roles."""
    overview = scene.overview
    if overview is None:
        yield skipped("no open namespace")
        return
    leader = overview.leaders.get(COORDINATOR)
    if leader is None or leader.until <= overview.now:
        yield problem(
            "no coordinator: nothing is recorded, promoted or taken back from dead workers",
            "tqctl up --detach, or: tqctl coordinator start",
        )
        return
    info = overview.coordinators.get(leader.holder, {})
    place = f"{info.get('name', leader.holder)} on {info.get('host', 'an unknown host')}"
    yield ok(f"{place} leads in term {leader.term}")
    for role, trouble in dict(info.get("roles", {})).items():
        if trouble:
            yield problem(f"{role} cannot work: {trouble}", "tqctl status --logs coordinator")
