"""Opening a namespace: Redis and the record must belong together before anything is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqctl_runtime.broker.leader_calls import Opened, open_gate, pairing
from tqctl_runtime.core.errors import StoresDiffer
from tqctl_runtime.core.ids import new_id

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.record.store import Store

_HINT = "check TQCTL_REDIS_URL, TQCTL_DATABASE_URL and TQCTL_NAMESPACE; a new pair starts with a new namespace"


def open_namespace(store: Store, wire: Wire, keys: Keys) -> Opened:
    """Open the namespace of a fresh pair, or check that both stores are halves of one pair.

    Any number of coordinators may do this at once.

    Raises:
        StoresDiffer: they are not, or Redis lost what the record knows; nothing was written.
    """
    known = store.checkpoint()
    present = wire.call_idempotent(pairing(keys))
    if known is not None:
        if present is None and not known.is_fresh:
            raise StoresDiffer(
                f"Redis at {wire.address.display} has nothing in namespace {keys.namespace!r}, "
                f"but the record knows it up to entry {known.sequence} of epoch {known.epoch}",
                hint=_HINT,
            )
        if present is not None and present[1] != known.pairing:
            raise StoresDiffer(
                f"the record belongs to another Redis than {wire.address.display} (namespace {keys.namespace!r}): "
                f"pairing {known.pairing}, not {present[1]}",
                hint=_HINT,
            )
        if present is not None and present[0] != known.epoch:
            raise StoresDiffer(
                f"Redis is in epoch {present[0]}, the record in epoch {known.epoch}: one of them is older", hint=_HINT
            )
    epoch, name = (known.epoch, known.pairing) if known else present or (1, new_id("par"))
    opened = wire.call_idempotent(open_gate(keys, epoch=epoch, pairing=name))
    held = store.pair(opened.pairing, opened.epoch)
    if (held.pairing, held.epoch) != (opened.pairing, opened.epoch):
        raise StoresDiffer(f"another coordinator paired the record with {held.pairing} meanwhile", hint=_HINT)
    return opened
