"""Opening a namespace: Redis and the record must belong together before anything is written.

Where one of them lost something, the other has it: then the namespace is repaired before it is open again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tqctl_runtime.broker.leader_calls import Opened, open_gate
from tqctl_runtime.broker.repair_calls import survey
from tqctl_runtime.checks.situation import BROKEN, DOUBTFUL, Assessment, Situation, compare
from tqctl_runtime.coordinator.repair import Repair
from tqctl_runtime.core.errors import StoresDiffer, UnderRepair
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.observe.logging import get_logger

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.repair_calls import Survey
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.record.store import Store
    from tqctl_runtime.record.write import Checkpoint

_HINT = (
    "check TQCTL_REDIS_URL, TQCTL_DATABASE_URL and TQCTL_NAMESPACE; a new pair starts with a new namespace; "
    "if they are right, to put the record's tasks there: tqctl doctor --repair"
)
_log = get_logger("opening")


def look(store: Store, wire: Wire, keys: Keys, place: str) -> tuple[Checkpoint | None, Survey, Assessment]:
    """How both stores stand; a record that was never paired is paired with the Redis that it stands beside.

    Unless that is recorded now: then it has another record, and would be taken from it.
    """
    while True:
        known = store.checkpoint()
        seen = wire.call_idempotent(survey(keys, known.stream_id if known else "0-0"))
        if known is None and seen.is_recorded:
            if store.checkpoint() is not None:
                continue
            return None, seen, compare(None, seen, place)
        epoch = seen.epoch if seen.epoch is not None else seen.was
        if known is None and seen.pairing and epoch is not None:
            known = store.pair(seen.pairing, epoch, place)
        found = compare(known, seen, place)
        # A recorder at work, or a repair that ended just now, moved the record between the two looks.
        if found.situation not in BROKEN or store.checkpoint() == known:
            return known, seen, found


def refuse_new_beside_recorded(store: Store, wire: Wire, keys: Keys, place: str) -> None:
    """Before a schema is made: a database without one has no part in a Redis that is recorded now.

    Raises:
        StoresDiffer: so it is; nothing was written.
    """
    if store.is_there():
        return
    found = compare(None, wire.call_idempotent(survey(keys, "0-0")), place)
    # Another coordinator may have made the schema and led between the two looks.
    if found.situation in DOUBTFUL and not store.is_there():
        raise StoresDiffer(f"{found.message} (namespace {keys.namespace!r})", hint=_HINT)


def open_namespace(
    store: Store,
    wire: Wire,
    keys: Keys,
    *,
    holder: str = "",
    place: str | None = None,
    prepare: Callable[[], None] | None = None,
) -> Opened:
    """Open the namespace of a fresh pair, join an open one, repair one that lost something.

    Any number of coordinators may do this at once. *holder* is told as who repaired; *prepare* is called before a
    repair takes the record over.

    Raises:
        StoresDiffer: they are no pair, or it cannot be told; nothing was written.
        UnderRepair: somebody repairs it now.
    """
    where = place or wire.address.display
    known, seen, found = look(store, wire, keys, where)
    if found.situation in DOUBTFUL:
        raise StoresDiffer(f"{found.message} (namespace {keys.namespace!r})", hint=_HINT)
    if found.situation is Situation.UNDER_REPAIR:
        raise UnderRepair(found.message)
    if found.situation in BROKEN:
        assert known is not None
        _log.warning("the namespace is repaired", situation=str(found.situation), why=found.message)
        mended = Repair(store, wire, keys, holder=holder, place=where, prepare=prepare).run(known, seen, found.message)
        return mended.opened
    if seen.epoch is not None and known is not None:
        if known.broker != where:
            store.move(known.pairing, where)
        return Opened(seen.epoch, known.pairing, is_new=False)
    epoch, name = (known.epoch, known.pairing) if known else (1, new_id("par"))
    opened = wire.call_idempotent(open_gate(keys, epoch=epoch, pairing=name))
    held = store.pair(opened.pairing, opened.epoch, where)
    if (held.pairing, held.epoch) != (opened.pairing, opened.epoch):
        raise StoresDiffer(f"another coordinator paired the record with {held.pairing} meanwhile", hint=_HINT)
    return opened
