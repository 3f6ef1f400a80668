"""What can be wrong with everything a context stands on: one check a file, each finding with what mends it.

A check is a function from :class:`~tqctl_runtime.checks.scene.Scene` to findings, made by :func:`ok`, :func:`problem`
and :func:`skipped`. One of ours is a file and a line in :data:`CHECKS`; an installed package adds its own by the entry
point group ``tqctl.checks``. ``doctor`` runs them all at once, the leading coordinator again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, cast

from tqctl_runtime.checks.finding import Finding as Finding
from tqctl_runtime.checks.finding import ok as ok
from tqctl_runtime.checks.finding import problem as problem
from tqctl_runtime.checks.finding import skipped as skipped
from tqctl_runtime.checks.scene import Scene as Scene
from tqctl_runtime.core.errors import TqctlError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Check = Callable[[Scene], Iterable[Finding]]

#: Entry points by which packages offer checks: the name of the check → a function.
ENTRY_POINTS = "tqctl.checks"
#: Name and module of our own, in the order in which they are told.
CHECKS: dict[str, str] = {
    "files": "files",
    "disk": "disk",
    "broker": "broker",
    "server version": "server",
    "persistence": "persistence",
    "eviction policy": "eviction",
    "memory": "memory",
    "record": "record",
    "migrations": "migrations",
    "pairing": "pairing",
    "coordinator": "coordinator",
    "recorder lag": "lag",
    "quarantine": "quarantine",
    "workers": "workers",
    "clock": "clock",
    "versions": "versions",
}


def load() -> dict[str, Check]:
    """Every check by name: ours, then those of installed packages. One that cannot be had says so as its finding."""
    from importlib.metadata import entry_points

    found = {name: import_module(f"{__name__}.{module}").check for name, module in CHECKS.items()}
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: (point.name, point.value)):
        if point.name in found:
            found[f"{point.name} ({point.value})"] = _refused(f"another check has the name {point.name!r}", point)
        else:
            found[point.name] = _load(point)
    return found


def look(scene: Scene, checks: Mapping[str, Check] | None = None) -> list[Finding]:
    """One finding at least of each of *checks* (None: all); one that fails itself is a finding too."""
    found: list[Finding] = []
    for name, check in (load() if checks is None else checks).items():
        found += [finding.named(name) for finding in _run(name, check, scene)]
    return found


def _run(name: str, check: Check, scene: Scene) -> list[Finding]:
    try:
        return list(check(scene)) or [skipped("it told nothing")]
    except TqctlError as error:
        return [problem(error.message, error.hint or "tqctl doctor")]
    except Exception as error:  # noqa: BLE001  one check's bug must not hide what the others find
        where = getattr(check, "__module__", "") or "an unknown module"
        return [problem(f"the check itself failed: {type(error).__name__}: {error}", f"mend check {name!r} in {where}")]


def _load(point: EntryPoint) -> Check:
    try:
        check: object = point.load()
    except Exception as error:  # noqa: BLE001  a package that is broken must not hide what the others find
        return _refused(f"it cannot be imported: {type(error).__name__}: {error}", point)
    return cast(Check, check) if callable(check) else _refused("it is no function", point)


def _refused(why: str, point: EntryPoint) -> Check:
    package = point.dist.name if point.dist is not None else point.value

    def check(_: Scene) -> Iterator[Finding]:
        yield problem(why, f"mend or remove {package}: {point.value}")

    return check
