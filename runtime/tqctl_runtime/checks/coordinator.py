"""Somebody leads, and each of its roles works."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tqctl_runtime.broker.leader_calls import COORDINATOR, RECORDER
from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.observe import registry

if TYPE_CHECKING:
    from tqctl_runtime.broker.views import Overview
    from tqctl_runtime.core.settings import Settings

_HARM = "nothing is recorded, promoted or taken back from dead workers"


def check(scene: Scene) -> Iterator[Finding]:
    """The leader's lease, and what its heartbeat says of its roles."""
    overview = scene.overview
    if overview is None:
        yield skipped("no open namespace")
        return
    leader = overview.leaders.get(COORDINATOR)
    if leader is None or leader.until <= overview.now:
        yield nobody_leads(scene.settings, overview)
        return
    still = leader_is_still(scene.settings, overview)
    if still is not None:
        yield still
        return
    info = overview.coordinators.get(leader.holder, {})
    place = f"{info.get('name', leader.holder)} on {info.get('host', 'an unknown host')}"
    into = f" and records into {info['record']}" if info.get("record") else ""
    yield ok(f"{place} leads in term {leader.term}{into}")
    for role, trouble in dict(info.get("roles", {})).items():
        # What the recorder said last is old news once it gave a sign of life.
        if trouble and not (role == RECORDER and overview.is_recorder_alive):
            yield problem(f"{role} cannot work: {trouble}", "tqctl status --logs coordinator")


def leader_is_still(settings: Settings, overview: Overview) -> Finding | None:
    """That the kernel holds or has ended who led last, so that what it said last is no news; None where it does not."""
    last = overview.leaders.get(COORDINATOR)
    info = overview.coordinators.get(last.holder, {}) if last is not None else {}
    pid = info.get("pid")
    state = registry.kernel_state(settings, "coordinator", info.get("host"), pid)
    told = f"{info.get('name')} (pid {pid})"
    if state == registry.SUSPENDED:
        return problem(f"{told} is suspended: {_HARM}", f"kill -CONT {pid}")
    if state == registry.ENDED:
        return problem(f"coordinator {told} ended without a word: {_HARM}", "tqctl coordinator start")
    return None


def nobody_leads(settings: Settings, overview: Overview) -> Finding:
    """Why, as far as one can tell, and what brings a leader back."""
    last = overview.leaders.get(COORDINATOR)
    if all(overview.is_silent(name) for name in overview.coordinators):
        for child in registry.stopped(settings):
            if child.role == "coordinator":
                return problem(f"{child.name} was stopped by hand and stays stopped: {_HARM}", registry.COMES_BACK)
    for child in registry.living(settings):
        if child.role == "coordinator" and child.is_suspended:
            return problem(f"{child.name} (pid {child.pid}) is suspended: {_HARM}", f"kill -CONT {child.pid}")
    still = leader_is_still(settings, overview)
    if still is not None:
        return still
    if not overview.coordinators:
        return problem(f"no coordinator runs: {_HARM}", "tqctl up --detach, or: tqctl coordinator start")
    holder = last.holder if last is not None and last.holder in overview.coordinators else min(overview.coordinators)
    info = overview.coordinators[holder]
    place = f"{info.get('name', holder)} on {info.get('host', 'an unknown host')}"
    ended = f": its lease ended {(overview.now - last.until) // 1000} s ago" if last and last.holder == holder else ""
    return problem(
        f"coordinator {place} does not lead{ended}; {_HARM}",
        f"look whether process {info.get('pid', '?')} is stopped or hangs; tqctl coordinator start adds another",
    )
