"""What keeps a context from its work, as the error that ``status`` ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqctl_runtime.checks.coordinator import nobody_leads
from tqctl_runtime.checks.pairing import SETTINGS_HINT
from tqctl_runtime.checks.situation import BROKEN, DOUBTFUL, Situation
from tqctl_runtime.core.errors import (
    NotOpen,
    RecordUnavailable,
    StoresDiffer,
    TqctlError,
    Unavailable,
    UnderRepair,
)
from tqctl_runtime.observe import registry

if TYPE_CHECKING:
    from tqctl_runtime.broker.lag import Lag
    from tqctl_runtime.checks import Scene
    from tqctl_runtime.checks.situation import Assessment


def trouble_of(scene: Scene, lag: Lag | None) -> TqctlError | None:
    """What keeps the namespace from its work, None where somebody leads and records.

    The record is asked only where nobody leads: a leader tells by its heartbeats whether it can use it.
    """
    if lag is not None and lag.has_leader:
        if lag.cause is None:
            return None
        return RecordUnavailable(
            f"nothing is recorded: {lag.cause}; tasks run on and the journal waits", hint="tqctl doctor"
        )
    found = scene.standing
    if found is not None and found.situation in DOUBTFUL:
        return StoresDiffer(found.message, hint=SETTINGS_HINT)
    if found is not None and found.situation is Situation.UNDER_REPAIR:
        return UnderRepair(found.message, hint="wait for it: tqctl status --watch")
    if scene.overview is None:
        return _not_open(scene, found)
    finding = nobody_leads(scene.settings, scene.overview)
    if found is not None and found.situation in BROKEN:
        return Unavailable(f"{found.message}; it waits for a coordinator, which repairs it", hint=finding.hint)
    return Unavailable(finding.message + _record_away(scene), hint=finding.hint)


def _not_open(scene: Scene, found: Assessment | None) -> TqctlError:
    waiting = [info.name for info in registry.living(scene.settings) if info.role == "coordinator"]
    step = f"tqctl status --logs {waiting[0]}" if waiting else "tqctl up --detach, or: tqctl coordinator start"
    if found is None:
        return NotOpen(f"the namespace is not open{_record_away(scene)}", hint="tqctl doctor")
    if found.situation is Situation.FINE:
        return UnderRepair("the namespace was closed a moment ago and is open now", hint="tqctl status")
    if found.situation in BROKEN:
        return NotOpen(f"{found.message}; it waits for a coordinator, which repairs it", hint=step)
    return NotOpen("the namespace is not open: no coordinator has run on it", hint=step)


def _record_away(scene: Scene) -> str:
    error = scene.record_error
    return "" if error is None else f"; the record cannot be read either: {error.message}"
