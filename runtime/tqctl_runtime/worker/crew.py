"""A crew: executors that may run the same handlers, the tasks that wait for them, and how these are handed out."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from tqctl_runtime.worker.executor_link import SYNC, CrewKey, ExecutorLink, Held
from tqctl_runtime.worker.pace import FRAME_SECONDS, Pace


@dataclass(frozen=True, slots=True)
class Limits:
    """How many at once and how long. Durations are seconds, sizes bytes, 0 for no limit."""

    concurrency: int
    processes: int
    grace: float
    log_limit: int
    max_tasks: int = 0
    max_memory: int = 0


class Host(Protocol):
    """The pool, as its crews see it."""

    @property
    def limits(self) -> Limits:
        """How many at once."""

    @property
    def pace(self) -> Pace:
        """What was measured of the tasks."""

    @property
    def executors(self) -> Mapping[int, ExecutorLink]:
        """All executors, those of other crews too."""

    @property
    def free(self) -> int:
        """Places that a task could take now."""

    def hire(self, key: CrewKey) -> ExecutorLink | None:
        """Another executor, if one may be started now."""


class Crew:
    """Sync tasks: one executor each, or in frames where they are short. Async tasks: all in one executor."""

    def __init__(self, key: CrewKey, host: Host) -> None:
        self.key = key
        self.ready: deque[Held] = deque()
        #: The executor that takes frames.
        self.lane: ExecutorLink | None = None
        self._host = host

    def dispatch(self) -> None:
        """Hand ready tasks to executors as far as places go."""
        if self.key.kind != SYNC:
            self._dispatch_async()
            return
        ready, pace, most = self.ready, self._host.pace, self._host.limits.max_tasks
        while ready:
            room = pace.frame_of(ready[0].handler)
            if room > 1:
                executor = self._find_lane(room)
                if executor is None:
                    return
                if most and executor.done + executor.load >= most:
                    executor.is_retired = True
                    continue
                left = most - executor.done if most else room
                executor.send_tasks(self._take_frame(min(room, left) - executor.load))
                continue
            executor = self._find_idle()
            if executor is None:
                return
            executor.send_tasks([ready.popleft()])

    def _take_frame(self, room: int) -> list[Held]:
        ready, pace = self.ready, self._host.pace
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
        lane = self.lane
        if lane is not None and lane.is_usable and self._is_swift(lane):
            has_place = lane.load > 0 or self._host.free > 0
            return lane if has_place and lane.load <= room // 2 else None
        self.lane = self._find_idle()
        return self.lane

    def _is_swift(self, lane: ExecutorLink) -> bool:
        return all(self._host.pace.frame_of(held.handler) > 1 for held in lane.running.values())

    def _find_idle(self) -> ExecutorLink | None:
        idle = None
        for executor in self._host.executors.values():
            if executor.key == self.key and executor.is_usable and executor.is_idle:
                idle = executor
                if executor is self.lane:
                    break
        if self._host.free == 0:
            return None
        return idle or self._host.hire(self.key)

    def _dispatch_async(self) -> None:
        host = self._host
        count = min(host.free, len(self.ready))
        if count == 0:
            return
        executor = next((ex for ex in host.executors.values() if ex.key == self.key and ex.is_usable), None)
        executor = executor or host.hire(self.key)
        if executor is not None:
            executor.send_tasks([self.ready.popleft() for _ in range(count)])
