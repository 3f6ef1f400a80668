"""What is looked at again and again while tasks run: time limits, graces, tasks that hold up others, live logs."""

from __future__ import annotations

import logging
import math

from tqctl_runtime.worker import frames
from tqctl_runtime.worker.executor_link import ASYNC, SYNC, ExecutorLink, Held
from tqctl_runtime.worker.pool import Owner, Pool

log = logging.getLogger("tqctl.worker")

#: Time between two looks, in seconds.
TICK = 0.025
#: A task that runs longer has those behind it taken back, and its log is read while it runs; in seconds.
LONG = 0.050
#: Live log read of one executor at one look, in bytes: the bound of what a noisy handler can cost its supervisor.
_LOG_AT_ONCE = 1_048_576
#: Time between two signals to a loop that does not answer, in seconds.
_INSIST = 0.1
#: An executor that was sent tasks and starts none for so long is broken, as a fork of locked libraries can be; seconds.
_SILENCE = 30.0
#: An executor idle for longer is let go, the last one excepted; in seconds.
_IDLE = 60.0


class Watch:
    """Looks after the tasks of a pool; call :meth:`look` each :data:`TICK`."""

    def __init__(self, pool: Pool, owner: Owner) -> None:
        self._pool = pool
        self._owner = owner

    def look(self, now: float) -> None:
        """Do what is due at *now*, seconds of the loop's clock."""
        for executor in list(self._pool.executors.values()):
            if executor.kind == SYNC and executor.running:
                self._look_at(executor, now)
            elif executor.sent and not executor.running and now - executor.busy_since > _SILENCE:
                log.error("executor %d does not start what it was sent: it is replaced", executor.pid)
                executor.busy_since = math.inf
                executor.kill(set())
        for held in list(self._pool.timed):
            if held.started_at and held.executor is not None:
                self._look_at_limit(held, held.executor, now)

    def _look_at(self, executor: ExecutorLink, now: float) -> None:
        held = next(iter(executor.running.values()))
        if now - held.started_at < LONG:
            return
        if executor.sent:
            self._pool.revoke_behind(executor)
        if not executor.sent:  # nothing can start there now: what comes out of the pipe is this task's
            lines = executor.read_log(_LOG_AT_ONCE)
            if lines:
                self._owner.on_note(held, None, lines)

    def _look_at_limit(self, held: Held, executor: ExecutorLink, now: float) -> None:
        if not held.doom:
            if held.timeout_s and now - held.started_at >= held.timeout_s:
                self._pool.doom(held, frames.TIME_LIMIT)
            return
        if held.kill_at and now >= held.kill_at:
            held.kill_at = math.inf
            self._pool.kill(executor, held)
        elif executor.kind == ASYNC and held.signal_at and now >= held.signal_at:
            held.signal_at = now + _INSIST
            executor.signal_doom(held)

    def look_at_sizes(self) -> None:
        """Let executors go that have grown too much, as soon as they have run what they hold; call it each second."""
        most = self._pool.limits.max_memory
        for executor in list(self._pool.executors.values()):
            if most and executor.is_usable and executor.resident_bytes() > most:
                executor.retire()

    def retire_idle(self, now: float) -> None:
        """Let executors go that have had nothing to do for long, but keep one of each crew."""
        for key in {ex.key for ex in self._pool.executors.values()}:
            mine = [ex for ex in self._pool.executors.values() if ex.key == key and ex.is_usable]
            idle = sorted((ex for ex in mine if ex.is_idle), key=lambda ex: ex.idle_since, reverse=True)
            for executor in idle[1 if len(idle) == len(mine) else 0 :]:
                if executor.idle_since and now - executor.idle_since > _IDLE:
                    executor.retire()
