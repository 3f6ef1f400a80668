"""The executors of a worker: who runs what, when to start another, what the end of one means for its tasks."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from tqctl_runtime.core.states import OUTCOMES_BY_CODE, Outcome
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.ends import HANDED_BACK, LOST, Ended, judge_death, merge_log
from tqctl_runtime.worker.executor_link import ASYNC, SYNC, ExecutorLink, Held
from tqctl_runtime.worker.nursery_link import NurseryEvents, NurseryLink
from tqctl_runtime.worker.pace import FRAME_SECONDS, Pace


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


@dataclass(frozen=True, slots=True)
class Limits:
    """How many at once and how long. Durations are seconds, sizes bytes, 0 for no limit."""

    concurrency: int
    processes: int
    grace: float
    log_limit: int
    max_tasks: int = 0
    max_memory: int = 0


class Pool:
    """Sync tasks: one executor each, or in frames where they are short. Async tasks: all in one executor."""

    def __init__(self, limits: Limits, owner: Owner, folder: str) -> None:
        self.limits = limits
        self.pace = Pace()
        self.ready: deque[Held] = deque()
        self.ready_async: deque[Held] = deque()
        self.executors: dict[int, ExecutorLink] = {}
        self.timed: set[Held] = set()
        self.nursery: NurseryLink | None = None
        self._nurseries: dict[int, NurseryLink] = {}
        self._async_names: set[str] = set()
        self._owner = owner
        self._folder = folder
        self._number = 0
        self._births = 0.0
        self._early_deaths = 0
        self._is_open = True
        self._closed_for = ""
        self._lane: ExecutorLink | None = None
        self._loop = asyncio.get_running_loop()
        self.events = NurseryEvents(self._on_born, self._on_died, self._on_nursery_lost)

    # -- what is held

    @property
    def busy(self) -> int:
        """Places taken: sync executors at work, and async tasks."""
        return sum(1 if ex.kind == SYNC else ex.load for ex in self.executors.values() if ex.running or ex.sent)

    @property
    def free(self) -> int:
        """Places that a task could take now."""
        return max(self.limits.concurrency - self.busy, 0)

    def held(self) -> Iterable[Held]:
        """Every task that is here and has not ended."""
        yield from self.ready
        yield from self.ready_async
        for executor in self.executors.values():
            yield from executor.sent
            yield from executor.running.values()

    def started(self) -> list[Held]:
        """The tasks that run now."""
        return [held for executor in self.executors.values() for held in executor.running.values()]

    def wanted(self) -> int:
        """How many tasks to claim: for each free place, and the short prefetch that was measured."""
        waiting = len(self.ready) + len(self.ready_async)
        in_lanes = sum(len(ex.sent) for ex in self.executors.values())
        ahead = self.pace.ahead(self._loop.time()) - waiting - in_lanes
        return max(self.free - waiting, ahead, 0)

    # -- the nursery

    def adopt(self, nursery: NurseryLink) -> None:
        """Fork from *nursery* from now on; executors of an earlier one retire as they become idle."""
        self.nursery = nursery
        self._async_names = {row["name"] for row in nursery.rows if row["is_async"]}
        self._lane = None
        for executor in list(self.executors.values()):
            executor.retire()
        if len(self._async_names) < len(nursery.rows):
            self._start_executor(SYNC)  # the first task need not wait for a fork

    def is_async(self, handler: str) -> bool:
        """Whether *handler* runs in the async executor."""
        return handler in self._async_names

    # -- work

    def add(self, tasks: Iterable[Held]) -> None:
        """Take claimed *tasks* and start what can be started."""
        for held in tasks:
            (self.ready_async if held.handler in self._async_names else self.ready).append(held)
        self.dispatch()

    def run_alone(self, held: Held) -> bool:
        """Run the suspect *held* in an executor of its own; False where none can be started now."""
        kind = ASYNC if held.handler in self._async_names else SYNC
        executor = self._start_executor(kind, is_alone=True)
        if executor is None:
            return False
        executor.send_tasks([held])
        executor.is_retired = True  # nothing joins it, and it ends with its task
        return True

    def dispatch(self) -> None:
        """Hand ready tasks to executors as far as places go."""
        if not self._is_open:
            return
        if self.ready_async:
            self._dispatch_async()
        ready = self.ready
        while ready:
            room = self.pace.frame_of(ready[0].handler)
            if room > 1:
                executor = self._find_lane(room)
                if executor is None:
                    return
                if self.limits.max_tasks and executor.done + executor.load >= self.limits.max_tasks:
                    executor.is_retired = True
                    continue
                left = self.limits.max_tasks - executor.done if self.limits.max_tasks else room
                executor.send_tasks(self._take_frame(min(room, left) - executor.load))
                continue
            executor = self._find_idle()
            if executor is None:
                return
            executor.send_tasks([ready.popleft()])

    def _take_frame(self, room: int) -> list[Held]:
        ready, pace = self.ready, self.pace
        batch: list[Held] = []
        handler, mean, seconds = "", 0.0, 0.0
        while ready and len(batch) < room and seconds < FRAME_SECONDS:
            if ready[0].handler != handler:
                handler = ready[0].handler
                mean = pace.seconds(handler) or 0.0
                if pace.frame_of(handler) == 1:
                    break
            seconds += mean
            batch.append(ready.popleft())
        return batch

    def _find_lane(self, room: int) -> ExecutorLink | None:
        """An executor that takes frames and has run off half of what it holds."""
        lane = self._lane
        if lane is not None and lane.is_usable and self._is_swift(lane):
            has_place = lane.load > 0 or self.free > 0
            return lane if has_place and lane.load <= room // 2 else None
        self._lane = self._find_idle()
        return self._lane

    def _is_swift(self, lane: ExecutorLink) -> bool:
        return all(self.pace.frame_of(held.handler) > 1 for held in lane.running.values())

    def _find_idle(self) -> ExecutorLink | None:
        idle = None
        for executor in self.executors.values():
            if executor.kind == SYNC and executor.is_usable and executor.is_idle:
                idle = executor
                if executor is self._lane:
                    break
        if self.free == 0:
            return None
        return idle or self._start_executor(SYNC)

    def _dispatch_async(self) -> None:
        executor = next((ex for ex in self.executors.values() if ex.kind == ASYNC and ex.is_usable), None)
        count = min(self.free, len(self.ready_async))
        if count == 0:
            return
        executor = executor or self._start_executor(ASYNC)
        if executor is not None:
            executor.send_tasks([self.ready_async.popleft() for _ in range(count)])

    def _start_executor(self, kind: str, *, is_alone: bool = False) -> ExecutorLink | None:
        alive = sum(1 for ex in self.executors.values() if ex.kind == SYNC and not ex.is_dead)
        if self.nursery is None or self._loop.time() < self._births:
            return None
        if kind == SYNC and not is_alone and alive >= self.limits.processes:
            return None
        self._number += 1
        folder = os.path.join(self._folder, str(self._number))
        executor = ExecutorLink(self._number, kind, folder, self, self.limits.log_limit)
        self.executors[self._number] = executor
        self._nurseries[self._number] = self.nursery
        self.nursery.fork(self._number, kind, folder, executor.descriptors)
        executor.given_away()
        return executor

    # -- stopping tasks

    def doom(self, held: Held, reason: int) -> None:
        """Stop *held* for *reason*: asked first, killed after the grace; what has not started is let go."""
        if held.doom or held.is_over:
            return
        held.doom = reason
        executor = held.executor
        if executor is None:
            for queue in (self.ready, self.ready_async):
                if held in queue:
                    queue.remove(held)
                    self._owner.on_ended(Ended(held, Outcome.RELEASED, reason="cancelled before its start"))
            return
        self.timed.add(held)
        if held.started_at:
            self._stop(executor, held)

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
        if self._lane is executor:
            self._lane = None
        self._take_back(executor.revoke())
        self.dispatch()

    def hand_back_all(self) -> bool:
        """Kill every executor that runs something; its tasks come back uncounted. True where there was one."""
        found = False
        for executor in self.executors.values():
            if not executor.is_idle and not executor.is_dead:
                for held in executor.running.values():
                    held.doom = held.doom or HANDED_BACK
                executor.kill(set())
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
        tasks = [*self.ready, *self.ready_async]
        self.ready.clear()
        self.ready_async.clear()
        for held in tasks:
            self._owner.on_ended(Ended(held, Outcome.RELEASED, reason=reason))

    def revoke_behind(self, executor: ExecutorLink) -> None:
        """Take back what waits behind a task that takes long."""
        if executor is self._lane:
            self._lane = None
        for held in executor.running.values():
            self.pace.stuck(held.handler, self._loop.time() - held.started_at)
        self._take_back(executor.revoke())
        self.dispatch()

    def _take_back(self, tasks: list[Held]) -> None:
        for held in reversed(tasks):
            self.ready.appendleft(held)

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
        if self.ready or self.ready_async:
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

    # -- births and deaths

    def _on_born(self, number: int, pid: int, pidfd: int) -> None:
        executor = self.executors.get(number)
        if executor is None:
            os.close(pidfd)
            return
        executor.born(pid, pidfd)

    def _on_died(self, number: int, code: int) -> None:
        executor = self.executors.pop(number, None)
        if executor is None:
            return
        executor.bury()
        if executor is self._lane:
            self._lane = None
        self._close_nursery_of(number)
        self._guard_births(executor)
        self._take_back_unstarted(executor)
        started = list(executor.running.values())
        for held in started:
            self.timed.discard(held)
            self._owner.on_ended(judge_death(executor, held, code, len(started)))
        shutil.rmtree(executor.folder, ignore_errors=True)
        if self._is_open:
            self.dispatch()
        else:
            self.release_ready(self._closed_for)
        self._owner.on_free()

    def _guard_births(self, executor: ExecutorLink) -> None:
        """Do not start executors in a tight loop while they end before they have started anything."""
        if executor.done or executor.running or executor.guilty is not None or not executor.sent:
            self._early_deaths = 0
            return
        self._early_deaths += 1
        pause = min(0.1 * 2.0**self._early_deaths, 5.0)
        self._births = self._loop.time() + pause
        self._loop.call_later(pause, self.dispatch)

    def _take_back_unstarted(self, executor: ExecutorLink) -> None:
        for held in reversed(executor.sent):
            held.executor = None
            if held.doom:
                self._owner.on_ended(Ended(held, Outcome.RELEASED, reason="cancelled before its start"))
            elif held.is_suspect or self._early_deaths > 3:
                self._owner.on_ended(Ended(held, Outcome.RELEASED, 1000, reason="no executor could be started"))
            else:
                (self.ready_async if executor.kind == ASYNC else self.ready).appendleft(held)
        executor.sent.clear()

    def _on_nursery_lost(self, nursery: NurseryLink) -> None:
        """The nursery ended, and the kernel kills its executors: wait for each, then tell that no task is to blame."""
        if self.nursery is nursery:
            self.nursery = None
        for number, owner in list(self._nurseries.items()):
            executor = self.executors.get(number)
            if owner is not nursery or executor is None:
                continue
            executor.kill(set())
            if executor.pidfd < 0:
                self._on_died(number, -signal.SIGKILL)
            else:
                self._loop.add_reader(executor.pidfd, self._on_died, number, -signal.SIGKILL)

    def _close_nursery_of(self, number: int) -> None:
        nursery = self._nurseries.pop(number, None)
        if nursery is not None and nursery is not self.nursery and nursery not in self._nurseries.values():
            nursery.close()

    def close(self) -> None:
        """Let every executor go; those that run something are killed with their nursery."""
        for executor in list(self.executors.values()):
            executor.retire()
            executor.bury()
        self.executors.clear()
