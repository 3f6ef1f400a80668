"""What every role of the leader gets, and what it must be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tqctl_runtime.broker.leader_calls import RECORDER
from tqctl_runtime.coordinator.recoveries import Recoveries

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.store import Store


class Role(Protocol):
    """Work that only the leader does, in small steps. A step is bounded in time and safe to repeat."""

    def run_once(self) -> int:
        """Do one step; returns how much was done, 0 where nothing was left to do.

        Raises:
            LeaseLost: the term is over.
        """


@dataclass(frozen=True, slots=True)
class Tools:
    """A role's own connections, used by its one thread only, and the *term* it works under.

    *recoveries* is the coordinator's: ``recoveries.note(kind, subject, message)`` never fails and never waits.
    """

    settings: Settings
    keys: Keys
    wire: Wire
    store: Store
    term: int
    recoveries: Recoveries = field(default_factory=Recoveries)


@dataclass(frozen=True, slots=True)
class RoleSpec:
    """A role: *interval* seconds pass after a step that found nothing; *drains*: it ends its work when we stop."""

    name: str
    interval: float
    build: Callable[[Tools], Role]
    drains: bool = False


#: Seconds between two sweeps of what is old.
PRUNE_INTERVAL = 60.0
#: The recorder waits for entries by itself; this only bounds a loop over an empty journal.
RECORD_INTERVAL = 0.005
#: Seconds a recovery event waits to be written; the checks themselves run less often.
HEALTH_INTERVAL = 5.0


def all_roles() -> list[RoleSpec]:
    """The roles of a leader."""
    from tqctl_runtime.coordinator import pressure, promoter, reaper
    from tqctl_runtime.coordinator.health import Health
    from tqctl_runtime.coordinator.pruner import Pruner
    from tqctl_runtime.coordinator.recorder import Recorder

    def recorder(tools: Tools) -> Role:
        return Recorder(
            store=tools.store,
            wire=tools.wire,
            keys=tools.keys,
            term=tools.term,
            settings=tools.settings,
            recoveries=tools.recoveries,
        )

    def pruner(tools: Tools) -> Role:
        return Pruner(store=tools.store, wire=tools.wire, term=tools.term, settings=tools.settings)

    return [
        RoleSpec(RECORDER, RECORD_INTERVAL, recorder, drains=True),
        RoleSpec("promoter", promoter.INTERVAL, promoter.Promoter),
        RoleSpec("reaper", reaper.INTERVAL, reaper.Reaper),
        RoleSpec("pruner", PRUNE_INTERVAL, pruner),
        RoleSpec("pressure", pressure.INTERVAL, pressure.Pressure),
        RoleSpec("health", HEALTH_INTERVAL, Health),
    ]
