"""One namespace beside its model: the same is done to both, the answers and then the worlds are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import redis
from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.property.history import History
from tests.property.model import ABSENT, Model
from tests.property.records import NotLeaderError, RoundCall
from tests.property.world import Reader, check_rules, expected
from tests.scripts.rig import NOW, Rig, Row
from tests.support.leaks import find_leaks
from tests.support.servers import new_namespace
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.core.errors import LeaseLost
from tqctl_runtime.core.states import FINAL

DAY = 86_400_000


def _loose(rows: list[Row]) -> list[str]:
    """Rows to compare: their order inside one call means nothing, a pause's JSON is the script tests' business."""
    return sorted(repr(row[:4] if row[0] == "K" else row) for row in rows)


class Twin(RuleBasedStateMachine):
    """The namespace on the server at *url*, the model, and what every worker that ever lived believes."""

    url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.client = redis.Redis.from_url(self.url, protocol=2, socket_timeout=10)
        self.namespace = new_namespace()
        self.rig = Rig(self.client, self.namespace)
        self.model = Model(NOW)
        self.reader = Reader(self.client, self.rig)
        self.history = History()
        self.told = 0
        #: What each worker believes to hold: id -> token. Zombies keep believing.
        self.held: dict[str, dict[str, str]] = {}
        self.alive: list[str] = []
        self.requests: dict[str, int] = {}
        #: The last round of each worker whose answer it has.
        self.answered: dict[str, int] = {}
        #: Rounds whose reply was lost, to be repeated.
        self.unanswered: dict[str, RoundCall] = {}
        self.handed_out: list[tuple[str, str]] = []
        self.checked, self.claimed_at = 0, NOW
        self.term = 0
        self.elect(1, DAY)

    def ids(self) -> list[str]:
        """All ids that were ever accepted."""
        return [*self.model.tasks, *self.model.tombs]

    # --- rounds

    def play(self, call: RoundCall) -> list[str]:
        """The same round on both sides; returns the claimed ids."""
        codes, token, claimed = self.model.round(call)
        reply = self._broker_round(call)
        assert (reply.codes, [one.id for one in reply.claimed]) == (codes, claimed)
        for one in reply.claimed:
            task = self.model.tasks[one.id]
            counts = (task.failures, task.deaths, task.attempts, task.queue, task.priority, task.created)
            assert one.token == token
            assert (one.failures, one.deaths, one.attempts, one.queue, one.priority, one.created_at) == counts
            assert (one.is_suspect, one.is_cancel_requested) == (task.suspect, task.cancel)
            assert one.envelope == task.envelope
            # A repeated round tells of an earlier claim.
            if (one.id, token) not in self.handed_out:
                self.handed_out.append((one.id, token))
                self.claimed_at = self.rig.now
        return claimed

    def _broker_round(self, call: RoundCall) -> worker_calls.RoundReply:
        ended = [
            worker_calls.finished(
                end.id,
                end.token,
                end.outcome,
                since_start_ms=end.since,
                delay_ms=end.delay,
                is_last=end.is_last,
                is_suspect=end.is_suspect,
                reason=end.reason,
                detail=end.detail,
            )
            for end in call.ended
        ]
        return self.rig.round(
            call.worker,
            request=call.request,
            places=call.places,
            takes_suspect=call.takes_suspect,
            queues=call.queues,
            started=[worker_calls.started(*item) for item in call.started],
            finished=ended,
        )

    def next_request(self, worker: str) -> int:
        """The number of *worker*'s next round; whatever was unanswered stays so."""
        self.unanswered.pop(worker, None)
        self.requests[worker] = self.requests.get(worker, 0) + 1
        return self.requests[worker]

    def believe(self, call: RoundCall, claimed: list[str]) -> None:
        """The worker learns the answer to its round."""
        mine = self.held[call.worker]
        self.answered[call.worker] = call.request
        for end in call.ended:
            if mine.get(end.id) == end.token:
                del mine[end.id]
        for task_id in claimed:
            mine[task_id] = self.model.slots[call.worker].token

    def _check_claims(self) -> None:
        """What was just handed out was due and not too late, as the journal tells it."""
        for task_id, _ in self.handed_out[self.checked :]:
            past = self.history.tasks[task_id]
            assert past.due <= self.claimed_at, "INV-9: nothing is handed out before it is due"
            can_expire = past.expires > 0 and past.attempts == 0
            assert not can_expire or self.claimed_at < past.expires, "INV-9: nothing is handed out after its expiry"
        self.checked = len(self.handed_out)

    # --- leaders

    def elect(self, steps: int, lease: int) -> None:
        """Somebody asks for a term *steps* above the present one."""
        term = self.term + steps
        is_leader = self.model.elect(f"c{term % 2}", term, lease)
        election = self.rig.lead(term, f"c{term % 2}", lease)
        assert election.is_leader is is_leader
        assert (election.holder, election.term, election.until) == self.model.leader
        assert election.term >= self.term, "INV-11: a term only grows"
        self.term = election.term

    def as_leader(self, wanted: Callable[[], Any], got: Callable[[], Any]) -> tuple[Any, Any] | None:
        """Both answers, or None where both sides refuse the term."""
        try:
            answer = wanted()
        except NotLeaderError:
            try:
                got()
            except LeaseLost:
                return None
            raise AssertionError("INV-11: a write under a finished term was accepted") from None
        return answer, got()

    def leave(self, pick: int) -> None:
        """A worker, perhaps one that was given up, deregisters."""
        if not self.held:
            return
        worker = list(self.held)[pick % len(self.held)]
        assert self.rig.leave(worker) == self.model.leave(worker)
        self.unanswered.pop(worker, None)
        self.held[worker].clear()
        if worker in self.alive:
            self.alive.remove(worker)

    # --- after each rule

    @invariant()
    def both_worlds_are_equal(self) -> None:
        world, rows, numbers = self.reader.read(self.model)
        self.history.append(rows, numbers)
        self._check_claims()
        wanted = self.model.rows[self.told :]
        self.told = len(self.model.rows)
        assert _loose(rows) == _loose(wanted), "INV-6"
        check_rules(self.model, world)
        assert world == expected(self.model)

    @invariant()
    def nothing_accepted_is_lost(self) -> None:
        for task_id, past in self.history.tasks.items():
            task = self.model.tasks.get(task_id)
            if task is None:
                assert past.state in FINAL, "INV-4: what is forgotten was final and journaled"
                task = self.model.tombs[task_id]
            assert (past.state, past.v) == (task.state, task.v), "INV-6: the journal alone tells where a task is"

    def teardown(self) -> None:
        """End everything: no live structure may hold anything then."""
        try:
            self._end_everything()
        finally:
            for name in self.rig.names():
                self.rig.raw("DEL", self.rig.keys.prefix + name)
            self.client.close()

    def _end_everything(self) -> None:
        for pick in range(len(self.held)):
            self.leave(pick)
        live = list(self.model.tasks)
        if live:
            assert self.rig.cancel(*live) == [self.model.cancel(task_id) for task_id in live]
            assert ABSENT not in self.rig.cancel(*live), "INV-4"
            self.rig.raw("DEL", self.rig.keys.build("lead"))
            assert self.rig.forget(*[(task.id, task.v) for task in self.model.tasks.values()], wait_ms=0) == []
        for key in ("st", "env", "res", "prog", "cancel", "sched", "exp", "leases", "workers", "wlive"):
            assert self.rig.raw("EXISTS", self.rig.keys.build(key)) == 0, f"INV-5: {key} is left"
        kinds = {name.partition(":")[0] for name in self.rig.names() if ":" in name}
        assert kinds <= {"b", "i", "u", "t", "slot"}, "INV-5: only keys with a TTL and bells are left"
        with redis.Redis.from_url(self.url, protocol=2) as client:
            assert find_leaks(client, self.namespace) == []
