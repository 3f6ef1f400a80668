"""The protocol in plain Python, written from its description, not from the scripts: what is true after each call.

Nothing here knows Redis. Keys with a TTL (idempotency keys, unique windows, tombstones, reply slots) never run out in
the model: a server counts their time by its own clock, which no example outlasts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tests.property.records import (
    BusyError,
    End,
    ModelTask,
    ModelWorker,
    NotLeaderError,
    RoundCall,
    Row,
    Slot,
)
from tqctl_runtime.core.retry import MAX_DEATHS
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import Submission

LEASE, INTERVAL = 30_000, 10_000
#: Codes of bulk changes, of reported ends, and of submissions that were not accepted.
ABSENT, DONE, REQUESTED, TOO_LATE = 0, 1, 2, 3
STALE, REPEATED = 0, 2
KNOWN, DUPLICATE, CONFLICT = -1, -2, -3
_GIVEN_BACK = (Outcome.RELEASED, Outcome.INTERRUPTED)


class Model:
    """All state of one namespace."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.epoch = 1
        self.tasks: dict[str, ModelTask] = {}
        self.tombs: dict[str, ModelTask] = {}
        self.keys: dict[str, tuple[str, str]] = {}
        self.windows: dict[str, str] = {}
        self.pauses: dict[str, int] = {}
        self.workers: dict[str, ModelWorker] = {}
        self.slots: dict[str, Slot] = {}
        self.progress: set[str] = set()
        self.rows: list[Row] = []
        self.recorded_rows = self.rows_before_repair = 0
        self.busy_rows = self.stop_rows = 10**9
        self.fence = self.stale = self.stale_at = 0
        self.leader: tuple[str, int, int] = ("", 0, 0)
        self.last_tick: int | None = None
        self.reap_from = 0

    def _tell(self, kind: str, task: ModelTask, *rest: Any) -> None:
        self.rows.append((kind, self.now, task.id, task.v, *(str(r) if isinstance(r, State) else r for r in rest)))

    def _moved(self, task: ModelTask, reason: str, who: str = "") -> None:
        task.v += 1
        self._tell("T", task, task.state, task.due, reason, who)

    @property
    def _behind(self) -> int:
        return len(self.rows) - self.recorded_rows

    # --- submitting

    def submit(self, items: Sequence[Submission]) -> list[tuple[State | int, str]]:
        """The new state or a code, and the id that answers, for each of *items*."""
        if self._behind >= self.busy_rows and any(self._earlier(item) is None for item in items):
            raise BusyError
        answers: list[tuple[State | int, str]] = []
        for place, item in enumerate(items):
            earlier = self._earlier(item)
            if earlier is not None:
                answers.append(earlier)
                continue
            task = self._create(item, place / 1024)
            answers.append((task.state, task.id))
        return answers

    def _earlier(self, item: Submission) -> tuple[int, str] | None:
        if item.id in self.tasks or item.id in self.tombs:
            return KNOWN, item.id
        if item.idempotency_key in self.keys:
            first, fingerprint = self.keys[item.idempotency_key or ""]
            return (DUPLICATE if fingerprint == item.fingerprint() else CONFLICT), first
        if item.unique_ms and item.fingerprint() in self.windows:
            return DUPLICATE, self.windows[item.fingerprint()]
        return None

    def _create(self, item: Submission, place: float) -> ModelTask:
        due = self.now + item.delay_ms if item.delay_ms else item.due_at
        due = due if due > self.now else 0
        base = due or self.now
        task = ModelTask(item.id, item.queue, item.priority, item.max_retries, item.envelope(), self.now, base)
        task.due, task.place = due, 0 if due else place
        task.state = State.SCHEDULED if due else State.QUEUED
        task.expires = base + item.expires_ms if item.expires_ms else item.expires_at
        task.watched = int(item.watched)
        if item.idempotency_key is not None or item.unique_ms:
            task.fingerprint = item.fingerprint()
        if item.idempotency_key is not None:
            task.idem = item.idempotency_key
            self.keys[task.idem] = (task.id, task.fingerprint)
        if item.unique_ms:
            self.windows[task.fingerprint] = task.id
        self.tasks[task.id] = task
        words = (task.state, task.queue, task.priority, task.max, due, task.expires, task.idem, task.fingerprint)
        self._tell("S", task, *words, task.envelope)
        return task

    # --- rounds

    def line(self, queue: str, *, suspects: bool) -> list[ModelTask]:
        """The tasks that stand in line, the next one first."""
        standing = [t for t in self.tasks.values() if t.queue == queue and t.is_standing and t.suspect is suspects]
        return sorted(standing, key=lambda task: task.rank)

    def round(self, call: RoundCall) -> tuple[list[int], str, list[str]]:
        """The codes of the reported ends, the token, the claimed ids."""
        slot = self.slots.get(call.worker)
        if slot is not None and slot.request == call.request:
            again = [task_id for task_id in slot.ids if self._is_unbegun(task_id, slot.token)]
            if again:
                self.workers[call.worker].own.update(dict.fromkeys(again, (call.request, self.now)))
            return slot.codes, slot.token, again
        is_stopped = self._behind >= self.stop_rows
        for task_id, token, ago in call.started:
            self._begin(call.worker, task_id, token, ago)
        codes = [self._end(call.worker, end) for end in call.ended]
        token, claimed = "", list[str]()
        is_leased = call.worker in self.workers and self.workers[call.worker].until > self.now
        if call.places and is_leased and not is_stopped:
            self.fence += 1
            token = f"{self.epoch}-{self.fence}-{call.worker}-{call.request}"
            claimed = self._claim(call, token)
        self.slots[call.worker] = Slot(call.request, token, codes, claimed)
        return codes, token, claimed

    def _is_unbegun(self, task_id: str, token: str) -> bool:
        task = self.tasks.get(task_id)
        return task is not None and task.token == token and task.held and task.state is State.QUEUED

    def _begin(self, worker: str, task_id: str, token: str, ago: int) -> None:
        if self._is_unbegun(task_id, token):
            task = self.tasks[task_id]
            task.state, task.started = State.RUNNING, self.now - ago
            task.v += 1
            task.attempts += 1
            self._tell("R", task, task.attempts, worker, task.started)

    def _claim(self, call: RoundCall, token: str) -> list[str]:
        claimed: list[str] = []
        wants_suspect = call.takes_suspect
        for queue in call.queues:
            places = call.places - len(claimed)
            if places <= 0 or self._is_paused(queue):
                continue
            if wants_suspect and self._take(call, token, self.line(queue, suspects=True)[:1], claimed):
                wants_suspect, places = False, places - 1
            self._take(call, token, self.line(queue, suspects=False)[:places], claimed)
        return claimed

    def _is_paused(self, queue: str) -> bool:
        return queue in self.pauses and (self.pauses[queue] == 0 or self.pauses[queue] > self.now)

    def _take(self, call: RoundCall, token: str, tasks: Iterable[ModelTask], claimed: list[str]) -> bool:
        before = len(claimed)
        for task in tasks:
            if task.may_expire and task.expires <= self.now:
                self._finalise(task, State.EXPIRED)
                self._moved(task, "not started in time")
                continue
            task.held, task.token, task.started = True, token, 0
            self.workers[call.worker].own[task.id] = (call.request, self.now)
            claimed.append(task.id)
        return len(claimed) > before

    # --- ends of attempts

    def _end(self, worker: str, end: End) -> int:
        task = self.tasks.get(end.id)
        if task is None or task.token != end.token:
            tomb = self.tombs.get(end.id)
            if task is None and tomb is not None and tomb.token == end.token:
                return REPEATED
            self.stale += 1
            self.stale_at = self.now
            return STALE
        if not task.held:
            return REPEATED
        self._settle(worker, task, end)
        for one in self.workers.values():
            one.own.pop(task.id, None)
        return DONE

    def _settle(self, worker: str, task: ModelTask, end: End) -> None:
        may_be_unstarted = end.outcome in _GIVEN_BACK or end.outcome is Outcome.CANCELLED
        has_started = end.since >= 0 or task.state is State.RUNNING or not may_be_unstarted
        if has_started and task.state is not State.RUNNING:
            task.attempts += 1
            task.started = self.now - max(end.since, 0)
        self.progress.discard(task.id)
        reason = self._outcome(task, end) or end.reason
        if not has_started:
            self._moved(task, reason)
            return
        task.v += 1
        words = (task.attempts, worker, task.started, task.failures, task.deaths, task.due, reason, end.detail)
        self._tell("F", task, str(end.outcome), task.state, *words)

    def _outcome(self, task: ModelTask, end: End) -> str:
        """What follows from the outcome; returns the protocol's own reason for it."""
        if end.outcome is Outcome.SUCCEEDED:
            return self._finalise(task, State.SUCCEEDED, end.detail)
        if end.outcome in {Outcome.FAILED, Outcome.TIMED_OUT}:
            task.failures += 1
        if end.outcome is Outcome.DIED:
            task.deaths += 1
        if task.cancel or end.outcome is Outcome.CANCELLED:
            reason = task.cancel_reason
            self._finalise(task, State.CANCELLED, end.detail)
            return reason
        if end.outcome is Outcome.REJECTED:
            self._finalise(task, State.DEAD, end.detail)
            return "rejected"
        if end.outcome is Outcome.DIED:
            return self._after_death(task, end.detail)
        if end.outcome in _GIVEN_BACK:
            return self._requeue(task, is_suspect=end.is_suspect, delay=end.delay)
        return self._after_failure(task, end)

    def _after_death(self, task: ModelTask, detail: bytes) -> str:
        if task.deaths >= MAX_DEATHS:
            self._finalise(task, State.DEAD, detail)
            return "poison"
        return self._requeue(task, is_suspect=True)

    def _after_failure(self, task: ModelTask, end: End) -> str:
        if end.is_last or task.failures > task.max:
            self._finalise(task, State.DEAD, end.detail)
            return "not retried" if end.is_last else "retries used up"
        task.state, task.held, task.due = State.RETRYING, False, self.now + end.delay
        return ""

    def _requeue(self, task: ModelTask, *, is_suspect: bool, delay: int = 0) -> str:
        task.suspect = task.suspect or is_suspect
        task.held, task.place = False, 0
        task.due = self.now + delay if delay else 0
        task.state = State.SCHEDULED if delay else State.QUEUED
        return ""

    def _finalise(self, task: ModelTask, state: State, detail: bytes = b"") -> str:
        task.state, task.held, task.due, task.cancel_reason = state, False, 0, ""
        if task.watched:
            task.watched, task.detail = self.now, detail
        return ""

    # --- leases

    def join(self, worker: str) -> None:
        """A worker registers."""
        self.workers[worker] = ModelWorker(self.now + LEASE)
        self.rows.append(("W", self.now, worker, "live", "{}"))

    def leave(self, worker: str) -> int:
        """A worker deregisters; returns how many tasks it gave back."""
        if worker not in self.workers:
            return 0
        owned = self.workers.pop(worker).own
        for task_id in owned:
            self._take_away(worker, self.tasks[task_id], "worker left")
        self.slots.pop(worker, None)
        self.rows.append(("W", self.now, worker, "gone", "{}"))
        return len(owned)

    def _take_away(self, worker: str, task: ModelTask, reason: str) -> None:
        self._settle(worker, task, End(task.id, task.token, Outcome.RELEASED, since=-1, reason=reason))
        task.token = ""

    def heartbeat(
        self, worker: str, held: Sequence[tuple[str, str]], answered: int
    ) -> tuple[bool, list[str], dict[str, str]]:
        """Whether the worker is known, what it lost, what it must cancel."""
        if worker not in self.workers:
            return False, [task_id for task_id, _ in held], {}
        me = self.workers[worker]
        me.until = self.now + LEASE
        lost, cancelled = [], {}
        for task_id, token in held:
            task = self.tasks.get(task_id)
            if task is None or task.token != token or not task.held:
                lost.append(task_id)
            elif task.cancel:
                cancelled[task_id] = task.cancel_reason
        listed = {task_id for task_id, _ in held}
        for task_id, (request, at) in list(me.own.items()):
            if task_id not in listed and (request <= answered or at < self.now - LEASE):
                del me.own[task_id]
                self._take_away(worker, self.tasks[task_id], "owned but not held")
        return True, lost, cancelled

    def reap(self, term: int) -> tuple[int, int]:
        """How many workers were found dead, how many tasks were taken back."""
        self.check_term(term)
        if self.last_tick is not None and self.now - self.last_tick > min(3 * INTERVAL, LEASE / 2):
            self.reap_from = self.now + LEASE
        self.last_tick = self.now
        if self.now < self.reap_from:
            return 0, 0
        expired = sorted((one.until, name) for name, one in self.workers.items() if one.until <= self.now)
        taken = 0
        for _, name in expired:
            held = [self.tasks[task_id] for task_id in self.workers.pop(name).own]
            self._take_back(name, held)
            taken += len(held)
            self.slots.pop(name, None)
            self.rows.append(("W", self.now, name, "lost", "{}"))
        return len(expired), taken

    def _take_back(self, worker: str, held: list[ModelTask]) -> None:
        started = [task for task in held if task.state is State.RUNNING]
        suspects = [task for task in started if task.suspect]
        alone = started if len(started) == 1 else suspects if len(suspects) == 1 else []
        for task in held:
            is_charged = task in alone
            outcome = Outcome.DIED if is_charged else Outcome.INTERRUPTED
            is_suspect = task in started or not started
            reason = "worker lost" if task in started else "worker lost, it may have begun"
            end = End(task.id, task.token, outcome, since=-1, is_suspect=is_suspect, reason=reason)
            self._settle(worker, task, end)
            task.token = ""

    # --- time

    def promote(self, term: int) -> int:
        """How many tasks moved: due ones into line, then those that were not started in time."""
        self.check_term(term)
        waiting = [t for t in self.tasks.values() if t.state in {State.SCHEDULED, State.RETRYING}]
        due = [task for task in waiting if task.due <= self.now]
        for task in due:
            task.state, task.base, task.due, task.place = State.QUEUED, task.due, 0, 0
            self._moved(task, "due")
        late = [t for t in self.tasks.values() if t.may_expire and not t.is_final and not t.held]
        late = [task for task in late if task.expires <= self.now]
        for task in late:
            self._finalise(task, State.EXPIRED)
            self._moved(task, "not started in time")
        return len(due) + len(late)

    # --- operators

    def cancel(self, task_id: str) -> int:
        """Final at once where nobody holds it, else a request."""
        task = self.tasks.get(task_id)
        if task is None:
            return ABSENT
        if task.is_final:
            return TOO_LATE
        if task.held:
            if not task.cancel:
                task.cancel, task.cancel_reason = True, "why"
                task.v += 1
                self._tell("C", task, "why", "me")
            return REQUESTED
        self._finalise(task, State.CANCELLED)
        self._moved(task, "why", "me")
        return DONE

    def retry(self, task_id: str, known_v: int | None) -> int:
        """Run again, or now; *known_v* is the version that the record tells of a forgotten task."""
        task = self.tasks.get(task_id)
        if task is None:
            if known_v is None:
                return ABSENT
            tomb = self.tombs[task_id]
            if tomb.epoch == self.epoch and tomb.v > known_v:
                return TOO_LATE
            task = self.tasks[task_id] = self.tombs.pop(task_id)
            task.watched, task.token = 0, ""
            self._reset(task)
        elif task.state in {State.DEAD, State.CANCELLED, State.EXPIRED}:
            self._reset(task)
        elif task.state in {State.SCHEDULED, State.RETRYING}:
            task.state, task.due, task.base, task.place = State.QUEUED, 0, self.now, 0
            self._moved(task, "retry now", "me")
        else:
            return TOO_LATE
        return DONE

    def _reset(self, task: ModelTask) -> None:
        task.state, task.base, task.place, task.due = State.QUEUED, self.now, 0, 0
        task.failures = task.deaths = task.expires = task.started = 0
        task.suspect = task.cancel = False
        task.watched, task.detail = int(task.watched > 0), None
        task.epoch, task.v = self.epoch, task.v + 1 if task.epoch == self.epoch else 1
        self._tell("O", task, task.state, 0, "why", "me")

    def purge(self, queue: str) -> int:
        """Cancel what stands in line."""
        standing = self.line(queue, suspects=False) + self.line(queue, suspects=True)
        for task in standing:
            self._finalise(task, State.CANCELLED)
            self._moved(task, "why", "me")
        return len(standing)

    def forget(self, task_id: str, v: int, wait_ms: int) -> bool:
        """Drop a final task that is recorded in version *v*; False where it must stay for now."""
        task = self.tasks.get(task_id)
        if task is None or not task.is_final or task.v != v:
            return True
        if task.watched > self.now - wait_ms:
            return False
        self.tombs[task_id] = self.tasks.pop(task_id)
        return True

    # --- leaders

    def elect(self, holder: str, term: int, lease: int) -> bool:
        """Whether *holder* leads now."""
        present, present_term, until = self.leader
        is_mine = (holder, term) == (present, present_term)
        # A lease that ends later than two from now was given before the clock was set back.
        is_free = until <= self.now or 0 < 2 * lease < until - self.now
        if not is_mine and (not is_free or term <= present_term):
            return False
        self.leader = (holder, term, self.now + lease)
        return lease > 0

    def check_term(self, term: int) -> None:
        """Only the present leader writes."""
        if self.leader[1] != term or self.leader[2] <= self.now:
            raise NotLeaderError
