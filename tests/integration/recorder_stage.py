"""An open pair of stores with a client, a worker and recorders that a test moves step by step."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from tqctl_runtime.broker import calls, leader_calls, worker_calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.broker.worker_calls import Claimed
from tqctl_runtime.coordinator.recorder import Recorder
from tqctl_runtime.coordinator.recoveries import Recoveries
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.record import Store, open_store

LEASE = 600_000


@dataclass
class Stage:
    """One open pair, a client, a worker and recorders by term."""

    settings: Settings
    keys: Keys
    wire: Wire
    store: Store
    redis: Any
    worker: str = field(default_factory=lambda: new_id("wrk"))
    requests: int = 0
    closing: ExitStack = field(default_factory=ExitStack)

    def elect(self, holder: str, lease_ms: int = LEASE) -> int:
        """A new term for *holder*, with the lease in Redis."""
        term = self.store.next_term(leader_calls.COORDINATOR, holder)
        self.redis.hdel(self.keys.build("lead"), leader_calls.COORDINATOR)
        call = leader_calls.elect(self.keys, role=leader_calls.COORDINATOR, holder=holder, term=term, lease_ms=lease_ms)
        assert self.wire.call(call).is_leader
        return term

    def recorder(self, term: int, recoveries: Recoveries | None = None) -> Recorder:
        """A recorder with connections of its own."""
        wire = self.closing.enter_context(Wire(BrokerAddress.of(self.settings)))
        store = self.closing.enter_context(open_store(self.settings))
        return Recorder(
            store=store, wire=wire, keys=self.keys, term=term, settings=self.settings, recoveries=recoveries
        )

    def submit(self, count: int = 1, **options: object) -> list[str]:
        """Ids of new tasks."""
        wanted = [build_submission("echo", {"n": n}, **options) for n in range(count)]  # type: ignore[arg-type]
        return [accepted.id for accepted in self.wire.call(calls.submit(self.keys, wanted)).accepted]

    def round(self, **more: object) -> worker_calls.RoundReply:
        """One round of the worker."""
        self.requests += 1
        more = {"places": 0, "queues": ["default"]} | more
        call: Call[worker_calls.RoundReply] = worker_calls.round_(
            self.keys,
            self.worker,
            self.requests,
            **more,  # type: ignore[arg-type]
        )
        return self.wire.call(call)

    def claim(self, places: int = 100) -> list[Claimed]:
        """Tasks that the worker, joined now, claimed."""
        self.wire.call(worker_calls.register(self.keys, self.worker, lease_ms=LEASE, info={"name": "w1"}, rows=[]))
        return self.round(places=places).claimed

    def finish(self, held: list[Claimed], detail: Detail, outcome: Outcome = Outcome.SUCCEEDED) -> None:
        """All of *held* end so."""
        ends = [
            worker_calls.finished(one.id, one.token, outcome, since_start_ms=3, is_last=True, detail=detail.to_bytes())
            for one in held
        ]
        assert set(self.round(finished=ends).codes) == {1}

    def states(self, ids: list[str]) -> set[State]:
        """The states of *ids* in the record."""
        found = self.store.lookup.states(ids)
        assert set(found) == set(ids)
        return set(found.values())

    def live(self) -> set[str]:
        """Ids that the broker still knows."""
        return {key.decode() for key in self.redis.hkeys(self.keys.build("st"))}

    def watermark(self) -> calls.Watermark:
        return self.wire.call(calls.watermark(self.keys))

    def end(self) -> calls.Position:
        found = self.wire.call(calls.journal_position(self.keys))
        assert found is not None
        return found

    def journal(self) -> int:
        """Entries left in the journal."""
        return int(self.redis.xlen(self.keys.build("journal")))


def drain(recorder: Recorder) -> int:
    """Run *recorder* until nothing is left; the entries it recorded."""
    total = 0
    while done := recorder.run_once():
        total += done
    return total
