"""Every process is of one version."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.observe.registry import version


def check(scene: Scene) -> Iterator[Finding]:
    """Versions of live workers and coordinators against ours."""
    overview = scene.overview
    if overview is None:
        yield skipped("no open namespace")
        return
    ours = version()
    infos = [worker.info for worker in overview.workers if worker.lease_until > overview.now]
    infos += list(overview.coordinators.values())
    others: dict[str, list[str]] = {}
    for info in infos:
        if info.get("version", "") != ours:
            others.setdefault(str(info.get("version") or "unknown"), []).append(str(info.get("name", "?")))
    for theirs, names in sorted(others.items()):
        yield problem(
            f"{', '.join(sorted(names))} of version {theirs}, this command of {ours or 'unknown'}",
            "start them again after the upgrade, coordinators first",
        )
    if not others:
        yield ok(f"all of {ours or 'one version'}")
