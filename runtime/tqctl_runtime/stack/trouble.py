"""What keeps a context from its work, as the error that ``status`` ends with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqctl_runtime.broker.repair_calls import survey
from tqctl_runtime.checks.coordinator import leader_is_still, nobody_leads
from tqctl_runtime.checks.pairing import SETTINGS_HINT
from tqctl_runtime.checks.situation import (
    BROKEN,
    DOUBTFUL,
    Situation,
    differ,
    place_of,
    record_place_of,
    under_repair,
    unpaired,
)
from tqctl_runtime.core.errors import (
    ConfigError,
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

    The record is asked only where nobody leads, or where the leader does not say that it records into this one: it
    tells by its heartbeats whether it can use it.
    """
    if scene.disk_error is not None:
        return scene.disk_error
    if lag is not None and lag.has_leader:
        still = leader_is_still(scene.settings, scene.overview) if scene.overview is not None else None
        if still is not None:
            return Unavailable(still.message, hint=still.hint)
        if lag.cause is None:
            return _elsewhere(scene, lag)
        return RecordUnavailable(
            f"nothing is recorded: {lag.cause}; tasks run on and the journal waits", hint="tqctl doctor"
        )
    found = scene.standing or _told_by_redis(scene)
    if found is not None and found.situation in DOUBTFUL:
        return StoresDiffer(found.message, hint=SETTINGS_HINT)
    if found is not None and found.situation is Situation.UNDER_REPAIR:
        return UnderRepair(found.message, hint="wait for it: tqctl status --watch")
    older = _older_schema(scene)
    if older is not None:
        return older
    if scene.overview is None:
        return _not_open(scene, found)
    finding = nobody_leads(scene.settings, scene.overview)
    if found is not None and found.situation in BROKEN:
        return Unavailable(f"{found.message}; it waits for a coordinator, which repairs it", hint=finding.hint)
    return Unavailable(finding.message + _record_away(scene), hint=finding.hint)


def _told_by_redis(scene: Scene) -> Assessment | None:
    """A repair that is at work, told without the record, which it may keep locked."""
    if scene.wire is None or scene.opened is not None:
        return None
    seen = scene.wire.call(survey(scene.keys))
    return under_repair(seen) if seen.is_under_repair else None


def _older_schema(scene: Scene) -> ConfigError | None:
    """That a coordinator would refuse the record for its schema; None where it fits, or a coordinator migrates it."""
    store = scene.store
    if store is None or store.kind == "sqlite" or scene.is_record_empty:
        return None
    try:
        store.require_schema()
    except ConfigError as error:
        return error
    except TqctlError as error:
        scene.record_error = error
    return None


def _elsewhere(scene: Scene, lag: Lag) -> TqctlError | None:
    """That what the leader records goes into another record than ours."""
    here = record_place_of(scene.settings)
    if scene.wire is None or scene.opened is None or lag.record == here:
        return None
    theirs, known = scene.opened[1], scene.checkpoint
    place = place_of(scene.settings, scene.wire)
    if known is None:
        # A record that nobody named is looked for on this machine, where there need be none beside a leader elsewhere.
        is_named = scene.settings.database_url is not None and lag.record is not None
        is_readable = scene.store is not None and scene.record_error is None
        return StoresDiffer(unpaired(here, place, lag.record), hint=SETTINGS_HINT) if is_named and is_readable else None
    if known.pairing == theirs:
        return None
    return StoresDiffer(differ((known.pairing, known.broker), theirs, place, here), hint=SETTINGS_HINT)


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
