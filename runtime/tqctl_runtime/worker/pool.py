"""The executors of a worker and the tasks in them: who runs what, what is stopped, what an end means for others."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from tqctl_runtime.core.current import NO_NEEDS
from tqctl_runtime.core.states import OUTCOMES_BY_CODE, Outcome
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.births import Births
from tqctl_runtime.worker.crew import Crew, Limits
from tqctl_runtime.worker.ends import LOST, Ended, hand_back, judge_death, merge_log
from tqctl_runtime.worker.executor_link import ASYNC, SYNC, CrewKey, ExecutorLink, Held
from tqctl_runtime.worker.nursery_link import NurseryLink
from tqctl_runtime.worker.pace import Pace

#: Before a task that this worker cannot run may be claimed again, in milliseconds.
NOT_MINE_MS = 5_000


class Owner(Protocol):
    """The supervisor, as the pool sees it."""

    def on_ended(self, ended: Ended) -> None:
        """A task is no longer here."""

    def on_note(self, held: Held, progress: tuple[float, str] | None, lines: bytes) -> None:
        """A running task says something."""

    def on_submit(self, held: Held, call: dict[str, Any], answer: Callable[[Any, Any], None]) -> None:
        """A running task submits a child; *answer* takes ([code, message] or None, id)."""

    def on_free(self) -> None:
        """A place may have become free."""


class Pool:
    """The executors and the tasks that are here, by crew. *secrets* hold what handlers may need, by name."""

    def __init__(self, limits: Limits, owner: Owner, folder: str, secrets: Mapping[str, str] = NO_NEEDS) -> None:
        self.limits = limits
        self.pace = Pace()
        self.timed: set[Held] = set()
        self.births = Births(folder, limits.log_limit, self)
        self.executors = self.births.executors
        self._crews: dict[CrewKey, Crew] = {}
        self._crew_of: dict[str, Crew] = {}
        self._plain = self._crew(CrewKey(SYNC))
        self._secrets = secrets
        self._owner = owner
        self._is_open = True
        self._closed_for = ""
        self._loop = asyncio.get_running_loop()

    def _crew(self, key: CrewKey) -> Crew:
        crew = self._crews.get(key)
        if crew is None:
            crew = self._crews[key] = Crew(key, self)
        return crew

    def crew_of(self, handler: str) -> Crew:
        """The crew that runs *handler*."""
        return self._crew_of.get(handler, self._plain)

    # -- what is held

    @property
    def busy(self) -> int:
        """Places taken: sync executors at work, and async tasks."""
        return sum(1 if ex.kind == SYNC else ex.load for ex in self.executors.values() if ex.running or ex.sent)

    @property
    def free(self) -> int:
        """Places that a task could take now."""
        return max(self.limits.concurrency - self.busy, 0)

    @property
    def waiting(self) -> int:
        """Tasks that were given to no executor yet."""
        return sum([len(crew.ready) for crew in self._crews.values()])

    def held(self) -> Iterable[Held]:
        """Every task that is here and has not ended."""
        for crew in self._crews.values():
            yield from crew.ready
        for executor in self.executors.values():
            yield from executor.sent
            yield from executor.running.values()

    def started(self) -> list[Held]:
        """The tasks that run now."""
        return [held for executor in self.executors.values() for held in executor.running.values()]

    @property
    def is_at_work(self) -> bool:
        """Whether an executor has a task, also one that is about to start and did not say so yet."""
        return any(executor.sent or executor.running for executor in self.executors.values())

    @property
    def has_places(self) -> bool:
        """Whether what waits may start soon: a place is free, and there is a nursery to fork for it."""
        return self._is_open and self.free > 0 and self.births.nursery is not None

    def wanted(self) -> int:
        """How many tasks to claim: for each free place, and the short prefetch that was measured."""
        waiting = self.waiting
        in_lanes = sum(len(ex.sent) for ex in self.executors.values())
        ahead = self.pace.ahead(self._loop.time()) - waiting - in_lanes
        return max(self.free - waiting, ahead, 0)

    def waits_since(self) -> float:
        """When the first task was claimed that waits for an executor, by the loop's clock; infinite where none does."""
        return min([crew.ready[0].claimed_at for crew in self._crews.values() if crew.ready], default=math.inf)

    # -- work

    def adopt(self, nursery: NurseryLink) -> None:
        """Run what *nursery* imported from now on; executors of an earlier one retire as they become idle."""
        self.births.adopt(nursery)
        waiting = [held for crew in self._crews.values() for held in crew.ready]
        for crew in self._crews.values():
            crew.ready.clear()
            crew.lane = None
        self._crew_of = {row["name"]: self._crew(CrewKey.of_row(row)) for row in nursery.rows}
        self._take_back(waiting)
        if self._plain in self._crew_of.values():
            self.hire(self._plain.key)  # the first task need not wait for a fork

    def add(self, tasks: Iterable[Held]) -> None:
        """Take claimed *tasks* and start what can be started."""
        crew_of, plain = self._crew_of, self._plain
        for held in tasks:
            crew_of.get(held.handler, plain).ready.append(held)
        self.dispatch()

    def run_alone(self, held: Held) -> bool:
        """Run the suspect *held* in an executor of its own; False where none can be started now."""
        executor = self._start(self.crew_of(held.handler).key)
        if executor is None:
            return False
        executor.send_tasks([held])
        executor.is_retired = True  # nothing joins it, and it ends with its task
        return True

    def dispatch(self) -> None:
        """Hand ready tasks to executors as far as places go, to the crew first whose task waits longest."""
        if not self._is_open:
            return
        crews = [crew for crew in self._crews.values() if crew.ready]
        if len(crews) > 1:
            crews.sort(key=lambda crew: crew.ready[0].claimed_at)
        for crew in crews:
            crew.dispatch()

    def hire(self, key: CrewKey) -> ExecutorLink | None:
        """Another executor for the crew *key*; None where none may be started now."""
        return self._start(key) if key.kind == ASYNC or self._has_room(key) else None

    def _has_room(self, key: CrewKey) -> bool:
        """Whether a sync executor may be added; where not, an idle one of another crew is let go to make room."""
        if self.births.is_crowded:
            return False
        alive = [ex for ex in self.executors.values() if ex.kind == SYNC and not ex.is_dead]
        if len(alive) < self.limits.processes:
            return True
        idle = [ex for ex in alive if ex.is_idle and ex.key != key]
        if idle and not any(ex.is_retired for ex in idle):
            idle[0].retire()
        return False

    def _start(self, key: CrewKey) -> ExecutorLink | None:
        executor = self.births.start(key)
        if executor is not None and key.needs:
            executor.send((frames.NEEDS, {name: self._secrets[name] for name in key.needs}))
        return executor

    # -- stopping tasks

    def doom(self, held: Held, reason: int) -> None:
        """Stop *held* for *reason*: asked first, killed after the grace; what has not started is let go."""
        if held.doom or held.is_over:
            return
        held.doom = reason
        executor = held.executor
        if executor is None:
            for crew in self._crews.values():
                if held in crew.ready:
                    crew.ready.remove(held)
                    self._owner.on_ended(Ended(held, Outcome.RELEASED, reason="cancelled before its start"))
            return
        self.timed.add(held)
        if held.started_at:
            self._stop(executor, held)
        else:
            self._take_back(executor.revoke())
            self.dispatch()

    def _stop(self, executor: ExecutorLink, held: Held) -> None:
        now = self._loop.time()
        if held.doom == LOST and executor.kind == SYNC:
            held.kill_at = now
            self.kill(executor, held)
            return
        held.kill_at = now + self.limits.grace
        held.signal_at = now + 0.2
        if executor.kind == SYNC:
            executor.is_retired = True  # what the handler started is of its group, and killed when the executor ends
            self._take_back(executor.revoke())  # before the signal, after which it could start one of them
            self.dispatch()
        executor.doom(held)

    def kill(self, executor: ExecutorLink, held: Held) -> None:
        """Kill *executor* because of *held*."""
        executor.kill({held.seq})
        self._leave_lane(executor)
        self._take_back(executor.revoke())
        self.dispatch()

    def _leave_lane(self, executor: ExecutorLink) -> None:
        crew = self._crews[executor.key]
        if crew.lane is executor:
            crew.lane = None

    def hand_back_all(self, *, but_overlapping: bool = False) -> bool:
        """Kill every executor that runs something; its tasks come back uncounted. True where there was one.

        *but_overlapping* leaves alone the handlers that say ``overlap_ok``.
        """
        found = False
        for executor in self.executors.values():
            if executor.is_idle or executor.is_dead or (but_overlapping and executor.key.overlap_ok):
                continue
            hand_back(executor)
            found = True
        return found

    def stop(self, reason: str) -> None:
        """Start nothing more; what has not started is given back."""
        self._is_open = False
        self._closed_for = reason
        self.release_ready(reason)

    def resume(self) -> None:
        """Start tasks again."""
        self._is_open = True
        self.dispatch()

    def release_ready(self, reason: str) -> None:
        """Give back what has not started."""
        for executor in self.executors.values():
            self._take_back(executor.revoke())
        tasks = [held for crew in self._crews.values() for held in crew.ready]
        for crew in self._crews.values():
            crew.ready.clear()
        for held in tasks:
            self._owner.on_ended(Ended(held, Outcome.RELEASED, reason=reason))

    def revoke_behind(self, executor: ExecutorLink) -> None:
        """Take back what waits behind a task that takes long."""
        self._leave_lane(executor)
        for held in executor.running.values():
            self.pace.stuck(held.handler, self._loop.time() - held.started_at)
        self._take_back(executor.revoke())
        self.dispatch()

    def _take_back(self, tasks: list[Held]) -> None:
        for held in reversed(tasks):
            self._put_first(held)

    def _put_first(self, held: Held) -> None:
        crew = self._crew_of.get(held.handler)
        if held.doom:
            self.timed.discard(held)
            self._owner.on_ended(Ended(held, Outcome.RELEASED, reason="cancelled before its start"))
        elif crew is None:  # gone from the code that was reloaded meanwhile
            self._owner.on_ended(Ended(held, Outcome.RELEASED, NOT_MINE_MS, reason="its handler is gone"))
        elif not all(name in self._secrets for name in crew.key.needs):  # as that code says
            self._owner.on_ended(Ended(held, Outcome.RELEASED, NOT_MINE_MS, reason="what it needs is not set"))
        else:
            crew.ready.appendleft(held)

    # -- what executors say

    def on_started(self, executor: ExecutorLink, held: Held) -> None:
        """*held* is about to run."""
        self.timed.add(held)
        if held.doom:
            self._stop(executor, held)

    def on_ended(self, executor: ExecutorLink, steps: list[tuple[Held, list[Any]]], now: float) -> None:
        """Tasks came to an end by themselves."""
        took: dict[str, list[float]] = {}
        for held, (_, _, _, outcome, retry, detail, reason) in steps:
            left = detail
            if held.doom or held.timeout_s:
                self.timed.discard(held)
            mine = took.get(held.handler)
            if mine is None:
                took[held.handler] = [1, now - held.started_at]
            else:
                mine[0] += 1
                mine[1] += now - held.started_at
            if executor.kept.total:
                left, rest = merge_log(executor, detail)
                if rest:
                    self._owner.on_note(held, None, rest)
            self._owner.on_ended(Ended(held, OUTCOMES_BY_CODE[outcome], retry, left, reason))
        for handler, (count, seconds) in took.items():
            self.pace.ended(handler, int(count), seconds)

    def on_read(self, executor: ExecutorLink) -> None:
        """Some messages of *executor* were handled: give it more, or let it go."""
        if self.limits.max_tasks and executor.done >= self.limits.max_tasks:
            executor.is_retired = True
        if executor.is_idle:
            executor.idle_since = self._loop.time()
            self._recycle(executor)
        self.dispatch()
        self._owner.on_free()

    def _recycle(self, executor: ExecutorLink) -> None:
        most = self.limits.max_memory
        if executor.is_retired or (most and executor.resident_bytes() > most):
            executor.retire()

    def on_told(self, executor: ExecutorLink, message: list[Any]) -> None:
        """A message that is no step."""
        held = executor.running.get(message[1])
        if held is None:
            return
        match message[0]:
            case frames.PROGRESS:
                self._owner.on_note(held, (message[2], message[3]), b"")
            case frames.LINES:
                self._owner.on_note(held, None, message[2])
            case frames.ACK:
                held.signal_at = 0.0
            case frames.SUBMIT:
                request = message[2]

                def answer(error: Any, value: Any) -> None:
                    executor.send((frames.ANSWER, request, error, value))

                self._owner.on_submit(held, message[3], answer)

    def on_dead(self, executor: ExecutorLink, code: int) -> None:
        """*executor* ended: tell what became of its tasks, and go on with others."""
        self._leave_lane(executor)
        self._take_back_unstarted(executor)
        started = list(executor.running.values())
        for held in started:
            self.timed.discard(held)
            self._owner.on_ended(judge_death(executor, held, code, len(started)))
        if self._is_open:
            self.dispatch()
        else:
            self.release_ready(self._closed_for)
        self._owner.on_free()

    def _take_back_unstarted(self, executor: ExecutorLink) -> None:
        for held in reversed(executor.sent):
            held.executor = None
            if held.is_suspect or self.births.is_hopeless:
                self._owner.on_ended(Ended(held, Outcome.RELEASED, 1000, reason="no executor could be started"))
            else:
                self._put_first(held)
        executor.sent.clear()

    def close(self) -> None:
        """Let every executor go; those that run something are killed with their nursery."""
        self.births.close()
