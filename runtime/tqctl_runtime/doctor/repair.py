"""Repair by hand: what coordinators mend, what they leave to a person, and what differs though all seems well."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.calls import journal_position, watermark
from tqctl_runtime.broker.embedded import wait_running
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.repair_calls import scan_lines
from tqctl_runtime.broker.views import overview, read_line
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.checks.situation import BROKEN, DOUBTFUL, Situation, place_of
from tqctl_runtime.coordinator.opening import look
from tqctl_runtime.coordinator.repair import KEY_MS, Repair
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.errors import RecordUnavailable, UnderRepair
from tqctl_runtime.core.states import FINAL
from tqctl_runtime.record import open_store

if TYPE_CHECKING:
    from tqctl_runtime.broker.repair_calls import Survey
    from tqctl_runtime.coordinator.repair import Counts
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.write import Checkpoint

#: How long the recorder may take to record what is compared, in seconds.
_RECORDER_SECONDS = 10.0
#: Looks after which a difference that stays is one.
_LOOKS = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What a repair would find. The first four counts are of tasks that have not ended, in the record and in Redis."""

    situation: str
    message: str
    is_needed: bool
    open_in_record: int
    open_in_redis: int
    open_only_in_record: int
    open_only_in_redis: int
    settings: int
    handlers: int
    keys: int
    windows: int

    def to_json(self) -> dict[str, Any]:
        """These names, in this order."""
        return asdict(self)


class Mending:
    """One look at a context for its repair; use as a context manager. A *preview* can change nothing.

    Raises:
        Unavailable: a store cannot be reached.
        ConfigError: the record's schema is older, or a URL is not usable.
    """

    def __init__(self, settings: Settings, *, preview: bool) -> None:
        self._keys = Keys(settings.namespace)
        wait_running(settings, within=0.0)
        self._store = open_store(settings, read_only=preview)
        self._wire = Wire(BrokerAddress.of(settings))
        self._place = place_of(settings, self._wire)
        self._seen: tuple[Checkpoint, Survey, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wire.close()
        self._store.close()

    def plan(self) -> Plan:
        """What would be repaired; nothing is changed.

        Raises:
            UnderRepair: somebody repairs it now.
            RecordUnavailable: the record was never paired, or nobody records what is to be compared.
        """
        self._store.require_schema()
        if self._store.checkpoint() is None:
            raise RecordUnavailable("nothing was ever recorded here", hint="tqctl coordinator start")
        known, seen, found = look(self._store, self._wire, self._keys, self._place)
        if found.situation is Situation.UNDER_REPAIR:
            raise UnderRepair(found.message, hint="wait for it: tqctl status")
        assert known is not None
        if found.situation is Situation.FINE:
            recorded, live, only_recorded, only_live = self._compare_open()
        else:
            recorded, live = self._recorded(), self._live()
            only_recorded, only_live = recorded - live, live - recorded
        is_odd = found.situation in BROKEN | DOUBTFUL
        differ = f"by hand: {len(only_recorded):,} open tasks only in the record, {len(only_live):,} only in Redis"
        self._seen = known, seen, found.message if is_odd else differ
        reader = self._store.mender(0)
        is_needed = is_odd or bool(only_recorded or only_live)
        return Plan(
            situation=str(found.situation),
            message=found.message,
            is_needed=is_needed,
            open_in_record=len(recorded),
            open_in_redis=len(live),
            open_only_in_record=len(only_recorded),
            open_only_in_redis=len(only_live),
            settings=len(reader.settings()),
            handlers=len(reader.handlers()),
            keys=sum(map(len, reader.keys(now_ms() - KEY_MS))),
            windows=sum(map(len, reader.windows(now_ms()))),
        )

    def repair(self, holder: str) -> Counts:
        """Repair what :meth:`plan` saw; *holder* is told as who did.

        Raises:
            UnderRepair: somebody else does, or did meanwhile.
        """
        assert self._seen is not None, "plan() comes first"
        known, seen, why = self._seen
        return (
            Repair(self._store, self._wire, self._keys, holder=holder, place=self._place).run(known, seen, why).counts
        )

    def _compare_open(self) -> tuple[set[str], set[str], set[str], set[str]]:
        """Both sides and what stays different, once everything decided before is recorded."""
        recorded, live = self._recorded(), self._live()
        only_recorded, only_live = recorded - live, live - recorded
        for _ in range(_LOOKS):
            if not only_recorded and not only_live:
                break
            self._await_recorder()
            again, now_live = self._recorded(), self._live()
            only_recorded &= again - now_live
            only_live &= now_live - again
        return recorded, live, only_recorded, only_live

    def _await_recorder(self) -> None:
        end = self._wire.call(journal_position(self._keys))
        give_up = time.monotonic() + _RECORDER_SECONDS
        while end is not None and not self._wire.call(watermark(self._keys)).covers(end):
            if not self._wire.call(overview(self._keys)).is_recorder_alive or time.monotonic() > give_up:
                raise RecordUnavailable(
                    "the stores differ, and nobody records: what is lost cannot be told from what is not recorded yet",
                    hint="tqctl coordinator start",
                )
            time.sleep(0.05)

    def _recorded(self) -> set[str]:
        return {task_id for chunk in self._store.mender(0).open_versions() for task_id, _ in chunk}

    def _live(self) -> set[str]:
        found: set[str] = set()
        cursor = 0
        while True:
            cursor, lines = self._wire.call(scan_lines(self._keys, cursor))
            found.update(task_id for task_id, raw in lines if read_line(task_id, 0, raw).state not in FINAL)
            if cursor == 0:
                return found
