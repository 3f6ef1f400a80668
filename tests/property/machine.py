"""The rule: what clients, workers, zombies, operators and the coordinator do next to one namespace, by weight.

One weighted rule instead of many: chosen evenly, too few tasks would be claimed for anything to happen to them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests.property.deeds import Deeds
from tests.property.model import INTERVAL, LEASE
from tests.property.records import BusyError, End, RoundCall
from tests.property.world import QUEUES
from tqctl_runtime.broker import leader_calls, worker_calls
from tqctl_runtime.broker.calls import Accepted
from tqctl_runtime.core.errors import Busy
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import Submission

Draw = Callable[[st.SearchStrategy[Any]], Any]


def _weighted(**weights: int) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, weight in weights.items() for _ in range(weight)])


acts = _weighted(
    busy_round=5,
    round=5,
    deed=6,
    submit=3,
    let_time_pass=3,
    heartbeat=2,
    report_under_an_old_token=2,
    repeat_an_unanswered_round=2,
    let_leases_run_out=2,
)
deeds = _weighted(
    cancel=3,
    forget=3,
    retry=2,
    revive=2,
    publish=2,
    resume=2,
    pause=1,
    note=1,
    watch=1,
    purge=1,
    set_marks=1,
    leave=1,
    ask_for_a_term=3,
    lose_and_repair=2,
)
#: How a held task ended.
outcomes = _weighted(died=4, failed=3, interrupted=2, released=1, timed_out=1, rejected=1, cancelled=1, succeeded=3)
picks = st.integers(0, 1_000)
rarely = st.sampled_from((False, False, False, True))
often = st.sampled_from((True, True, True, False))
submissions = st.fixed_dictionaries(
    {
        "queue": st.sampled_from(QUEUES),
        "priority": st.sampled_from((5, 5, 10, 1)),
        "max_retries": st.sampled_from((1, 2, 0)),
        "delay_ms": st.sampled_from((0, 0, 0, 0, 1, 5_000)),
        "expires_ms": st.sampled_from((0, 0, 0, 0, 0, 0, 2_000, 20_000)),
        "idempotency_key": st.sampled_from((None, None, None, None, "k1", "k2")),
        "unique_ms": st.sampled_from((0, 0, 0, 0, 0, 600_000)),
        "payload": st.sampled_from((b"{}", b'{"x":1}')),
        "watched": st.booleans(),
    }
)
batches = st.lists(submissions, min_size=1, max_size=3)


def _answer(one: Accepted) -> tuple[State | int | None, str]:
    code = -1 if one.is_known else -2 if one.is_duplicate else -3 if one.is_conflict else one.state
    return code, one.id


class ProtocolMachine(Deeds):
    """What may happen, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = itertools.count(1)

    @initialize(first=batches, second=batches)
    def begin_with_work(self, first: list[dict[str, Any]], second: list[dict[str, Any]]) -> None:
        self._submit(first, "")
        self._submit(second, "")
        self._join()

    @rule(act=acts, data=st.data())
    def step(self, act: str, data: st.DataObject) -> None:
        getattr(self, act)(data.draw)

    # --- clients

    def _submit(self, items: list[dict[str, Any]], again: str) -> None:
        batch = [Submission(id=f"t{next(self.numbers):03}", handler="h", **item) for item in items]
        known = {"call": [item.id for item in batch], "live": list(self.model.tasks), "tomb": list(self.model.tombs)}
        batch += [Submission(id=known_id, handler="h", payload=b"{}", queue="a") for known_id in known.get(again, ())]
        try:
            wanted: Any = self.model.submit(batch)
        except BusyError:
            wanted = Busy
        try:
            got: Any = [_answer(one) for one in self.rig.submit(*batch).accepted]
        except Busy:
            got = Busy
        assert got == wanted, "INV-7, INV-12"

    def submit(self, draw: Draw) -> None:
        """Some new tasks, perhaps with ids once more: of this very call, of live or of forgotten tasks."""
        self._submit(draw(batches), draw(st.sampled_from(("", "", "call", "live", "tomb", "tomb"))))

    # --- workers

    def _join(self) -> None:
        worker = f"w{len(self.held) + 1}"
        self.held[worker] = {}
        self.alive.append(worker)
        self.rig.join(worker)
        self.model.join(worker)

    def _say(self, draw: Draw, worker: str) -> tuple[list[tuple[str, str, int]], list[End]]:
        """What a worker tells of the tasks it holds: of each nothing, its start, or its end."""
        started, ended = [], []
        for task_id, token in self.held[worker].items():
            what = draw(st.sampled_from(("end", "end", "start", "start", "")))
            if what == "start":
                started.append((task_id, token, 5))
            elif what == "end":
                since, delay, flag = (
                    draw(st.sampled_from((10, 0, -1))),
                    draw(st.sampled_from((0, 0, 1_000))),
                    draw(rarely),
                )
                outcome = Outcome(draw(outcomes))
                ended.append(End(task_id, token, outcome, since, delay, flag, flag, reason="said", detail=b"d"))
        return started, ended

    def _work(self, draw: Draw, worker: str, places: int) -> None:
        started, ended = self._say(draw, worker)
        queues = draw(st.sampled_from((QUEUES, QUEUES[::-1])))
        request = self.next_request(worker)
        call = RoundCall(worker, request, places, draw(often), queues, tuple(started), tuple(ended))
        claimed = self.play(call)
        if draw(rarely):
            self.unanswered[worker] = call
        else:
            self.believe(call, claimed)

    def round(self, draw: Draw) -> None:
        """A worker, perhaps a new one, asks for tasks."""
        pick = draw(st.integers(0, 2))
        if pick >= len(self.alive):
            self._join()
        self._work(draw, self.alive[pick % len(self.alive)], draw(st.sampled_from((2, 1, 3))))

    def busy_round(self, draw: Draw) -> None:
        """The worker with most tasks tells of them."""
        if not self.alive:
            self._join()
        busiest = max(self.alive, key=lambda worker: len(self.held[worker]))
        self._work(draw, busiest, 0 if len(self.held[busiest]) > 3 else 1)

    def repeat_an_unanswered_round(self, draw: Draw) -> None:
        """The reply was lost: the same words again."""
        if not self.unanswered:
            self.busy_round(draw)
            return
        worker = draw(st.sampled_from(sorted(self.unanswered)))
        call = self.unanswered.pop(worker)
        before = len(self.model.rows)
        claimed = self.play(call)
        if worker in self.model.workers:
            assert len(self.model.rows) == before, "a repeated round decides nothing"
            self.believe(call, claimed)

    def report_under_an_old_token(self, draw: Draw) -> None:
        """A zombie, or a worker that mixes things up, tells of a task that is no longer its own."""
        if not self.handed_out:
            return
        task_id, token = self.handed_out[draw(picks) % len(self.handed_out)]
        worker = draw(st.sampled_from(list(self.held)))
        task = self.model.tasks.get(task_id)
        if task is not None and task.held and task.token == token:
            return
        before, rows = task.line() if task else None, len(self.model.rows)
        started = ((task_id, token, 5),) if draw(st.booleans()) else ()
        end = End(task_id, token, Outcome(draw(outcomes)), reason="late", detail=b"late")
        self.play(RoundCall(worker, self.next_request(worker), 0, False, QUEUES, started, (end,)))
        (found,) = self.rig.look(task_id)
        assert (found.version & 0xFFFFFFFF if found else None) == (task.v if task else None), "INV-2"
        assert (task.line() if task else None, len(self.model.rows)) == (before, rows), "INV-2"

    def heartbeat(self, draw: Draw) -> None:
        """A worker, perhaps a zombie, lists what it holds, perhaps not all of it."""
        worker = draw(st.sampled_from(list(self.held)))
        missing = draw(st.sampled_from((-1, -1, 0, 1)))
        listed = [pair for place, pair in enumerate(self.held[worker].items()) if place != missing]
        answered = self.answered.get(worker, 0)
        wanted = self.model.heartbeat(worker, listed, answered)
        call = worker_calls.heartbeat(
            self.rig.keys, worker, lease_ms=LEASE, held=listed, answered=answered, figures={}, now=self.rig.now
        )
        reply = self.rig.do(call)
        assert (reply.is_known, reply.lost, reply.cancelled) == wanted
        for task_id in reply.lost if worker in self.alive else []:
            self.held[worker].pop(task_id)

    # --- time and the coordinator

    def advance(self, milliseconds: int) -> None:
        """Both clocks go on."""
        self.rig.now += milliseconds
        self.model.now = self.rig.now

    def _promote(self, term: int) -> None:
        answers = self.as_leader(lambda: self.model.promote(term), lambda: self.rig.promote(term=term)[0])
        assert answers is None or answers[0] == answers[1]

    def _reap(self, term: int) -> None:
        call = leader_calls.reap(self.rig.keys, term=term, interval_ms=INTERVAL, lease_ms=LEASE, now=self.rig.now)
        answers = self.as_leader(lambda: self.model.reap(term), lambda: self.rig.do(call))
        if answers is not None:
            wanted, got = answers
            assert (got.workers, got.tasks) == wanted
            assert got.reap_from == self.model.reap_from

    def let_time_pass(self, draw: Draw) -> None:
        """A while passes and the coordinator looks, perhaps under a finished term, perhaps after a gap."""
        self.advance(draw(st.sampled_from((1_000, 1_000, 2_000, 1, 11_000, 11_000, 11_000, 31_000))))
        self._promote(self.term - draw(rarely))
        self._reap(self.term - draw(rarely))

    def let_leases_run_out(self, draw: Draw) -> None:
        """A worker falls silent, though it may still speak as a zombie; the coordinator looks at each interval."""
        if self.alive:
            self.alive.remove(draw(st.sampled_from(self.alive)))
        for _ in range(draw(st.sampled_from((4, 4, 3, 1)))):
            self.advance(INTERVAL)
            self._reap(self.term)

    # --- operators, waiting clients and the recorder

    def deed(self, draw: Draw) -> None:
        """Something that happens now and then."""
        getattr(self, draw(deeds))(draw(picks))
