"""The supervisor: one event loop that holds the lease, claims, watches over the executors and never runs user code."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.worker_calls import Claimed, deregister
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.retry import DEFAULT_BACKOFF
from tqctl_runtime.core.serializer import unpack
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome
from tqctl_runtime.core.submission import ENVELOPE_LAYOUT
from tqctl_runtime.observe.vitals import Vitals
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.children import Answer, Children
from tqctl_runtime.worker.control import install_signals, listen_for_cancels
from tqctl_runtime.worker.crew import Limits
from tqctl_runtime.worker.ends import LOST, Ended, refuse
from tqctl_runtime.worker.executor_link import Held
from tqctl_runtime.worker.heartbeat import Heartbeat
from tqctl_runtime.worker.lane import TELL_AFTER, Lane, backoff_of_rows
from tqctl_runtime.worker.membership import Membership, secrets_of
from tqctl_runtime.worker.notes import Notes
from tqctl_runtime.worker.pool import NOT_MINE_MS, Pool
from tqctl_runtime.worker.reloading import Reloading
from tqctl_runtime.worker.suspects import Suspects
from tqctl_runtime.worker.watch import TICK, Watch

log = logging.getLogger("tqctl.worker")

#: What was claimed ahead and could not start for that long is given back, in seconds.
_PATIENCE = 0.25
#: How long a worker that has to leave waits for the broker to take its last results, in seconds.
_LAST_WORDS = 5.0
_NUDGE_SECONDS = 1.0
#: The exit code of a drain that had to hand back running tasks.
PARTIAL = 7


class Supervisor:
    """One worker, from its registration to its leave."""

    def __init__(
        self,
        settings: Settings,
        link: Link,
        *,
        name: str,
        version: str,
        folder: str,
        state: Callable[[str], None],
        vitals: Vitals | None = None,
    ) -> None:
        self.worker = ""
        self._settings = settings
        self._link = link
        self._keys = Keys(settings.namespace)
        self._member = Membership(self._keys, link, settings, name=name, version=version)
        self._report_state = state
        self._loop = asyncio.get_running_loop()
        self._held: dict[str, Held] = {}
        self._state = "starting"
        self._stop_asked = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._ended = asyncio.Event()
        self._handed_back = False
        self._is_trusted = False
        self._nudge_at = 0.0
        limits = Limits(
            settings.concurrency,
            settings.processes or settings.concurrency,
            settings.grace / 1000,
            settings.log_limit,
            settings.max_tasks,
            settings.max_memory,
        )
        self.pool = Pool(limits, self, folder, secrets_of(settings))
        self._suspects = Suspects(self.pool, self.on_ended)
        self._reloading = Reloading(settings, self.pool, self._learn)
        self.lane = Lane(self._keys, link, self, lambda _: DEFAULT_BACKOFF, vitals)
        self._watch = Watch(self.pool, self)
        self._notes = Notes(self._keys, link)
        self._children = Children(self._keys, link, settings.payload_limit)
        self._heartbeat = Heartbeat(self._keys, link, settings, self, vitals)
        self._control: asyncio.Task[None] | None = None
        self._services: list[asyncio.Task[None]] = []
        self._ticker: asyncio.TimerHandle | None = None
        self._joining: asyncio.Task[None] | None = None

    # -- life

    async def run(self) -> int:
        """Work until told to stop; returns the exit code.

        Raises:
            ConfigError: the apps cannot be imported.
            BrokerUnavailable: it was told to stop before it could register once.
        """
        undo_signals = install_signals(self.stop, self.reload)
        try:
            if not await self._begin():
                return 0
            self._set_state("running")
            self._tick()
            self._services = [
                self._serve(self.lane.run()),
                self._serve(self.lane.listen_for_bell()),
                self._serve(self._heartbeat.run()),
                self._serve(self._notes.run()),
            ]
            stop = self._loop.create_task(self._stop_asked.wait())
            await asyncio.wait([stop, *self._services], return_when=asyncio.FIRST_COMPLETED)
            for service in self._services:
                if service.done():
                    service.result()  # raises what broke it
            await self._drain()
            return PARTIAL if self._handed_back else 0
        finally:
            undo_signals()
            await self._leave()

    async def _begin(self) -> bool:
        """Import the handlers and become a member; False where a stop came first, as while an import hangs."""
        stop = self._loop.create_task(self._stop_asked.wait())
        start = self._loop.create_task(self._reloading.start())
        await asyncio.wait([stop, start], return_when=asyncio.FIRST_COMPLETED)
        stop.cancel()
        if not start.done():
            start.cancel()
            await asyncio.wait([start])
            return False
        start.result()  # raises what the import raised
        await self._join()
        self._member.refuse_outsider()
        return bool(self.worker)

    def _serve(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return self._loop.create_task(work)

    def _learn(self, rows: Sequence[dict[str, Any]]) -> None:
        self._member.offer(rows)
        self._children.know(rows)
        self.lane.backoff_of = backoff_of_rows(rows)

    async def _join(self) -> None:
        """Become a member under a fresh id."""
        joined = await self._member.join(self._stop_asked.is_set)
        if joined is None:
            return
        worker, start = joined
        self.worker = worker
        self._heartbeat.renewed(start)
        self.lane.join(worker, self._member.queues)
        if self._control is not None:
            self._control.cancel()
        self._control = self._loop.create_task(listen_for_cancels(self._link, self._keys, worker, self.on_cancelled))
        log.info("worker %s (%s) serves %s", self._member.name, worker, ", ".join(self._member.queues))

    def figures(self) -> Mapping[str, Any]:
        """What ``worker list`` shows of it now."""
        return {
            "state": self._state,
            "busy": self.pool.busy,
            "rounds": self.lane.rounds,
            "stale": self.lane.stale,
            "claim_silence_ms": round(self.lane.silence * 1000),
            "executors": len(self.pool.executors),
        }

    def _set_state(self, state: str) -> None:
        self._state = state
        self._report_state(state)

    # -- signals

    def stop(self) -> None:
        """Stop claiming and finish what runs; asked a second time: hand back what runs, now."""
        if self._stop_asked.is_set():
            self._stop_now.set()
            return
        log.info("stopping: no new tasks, %d running", len(self.pool.started()))
        self._stop_asked.set()

    def reload(self) -> None:
        """Start a new nursery from the code as it is now; executors of the old one leave as they become idle."""
        self._reloading.reload(self._offer)

    async def _offer(self) -> None:
        """Tell the broker what a new nursery can run."""
        await self._member.renew(self.worker, self._stop_asked.is_set)
        self.lane.queues = self._member.queues
        self.lane.wake()
        log.info("reloaded: %d handlers", len(self._member.handlers))

    async def _drain(self) -> None:
        """Let what runs end, up to the limit; then take it back."""
        self._set_state("draining")
        self._heartbeat.beat_now()  # so that others see it at once
        self._suspects.release("not started")
        self.pool.stop("the worker stops")
        self.lane.wake()
        now = self._loop.create_task(self._stop_now.wait())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain / 1000):
                while self.pool.is_at_work and not self._stop_now.is_set():
                    self._ended.clear()
                    ended = self._loop.create_task(self._ended.wait())
                    await asyncio.wait([ended, now], return_when=asyncio.FIRST_COMPLETED)
        if self.pool.hand_back_all():
            self._handed_back = True
            log.warning("handing back %d running tasks", len(self.pool.started()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                while self._held:
                    self._ended.clear()
                    self.lane.wake()
                    await self._ended.wait()
        if self._held:
            self._handed_back = True
            log.error("leaving while the broker has not taken the end of %d tasks", len(self._held))

    async def _leave(self) -> None:
        self._set_state("stopped")
        if self._ticker is not None:
            self._ticker.cancel()
        for task in (*self._services, self._control, self._joining):
            if task is not None:
                task.cancel()
        self._reloading.stop()
        nursery = self.pool.births.nursery
        self.pool.close()
        if nursery is not None:
            await nursery.wait_closed()
        if self.worker:
            with contextlib.suppress(TqctlError):
                await self._notes.flush()
                await self._link.call(deregister(self._keys, self.worker))

    def _tick(self) -> None:
        # First, so that an error below costs one look and not every later one.
        self._ticker = self._loop.call_later(TICK, self._tick)
        now = self._loop.time()
        self._heartbeat.check()
        self._watch.look(now)
        self._release_stale(now)
        if now >= self._nudge_at or self.untold():
            # Each second also without a reason: no wake-up that was forgotten may leave a worker deaf.
            self.lane.wake()
        if now >= self._nudge_at:
            self._nudge_at = now + _NUDGE_SECONDS
            self._watch.look_at_sizes()
            self._watch.retire_idle(now)
        self._reloading.replace_lost(self._go_on)

    def _go_on(self) -> None:
        self.pool.dispatch()
        self.lane.wake()

    def _release_stale(self, now: float) -> None:
        """Give back what was claimed ahead and finds no place."""
        pool = self.pool
        if now - pool.waits_since() > _PATIENCE and not pool.has_places:
            pool.pace.rate = 0.0
            pool.release_ready("no free place")

    # -- the lane's questions

    def wanted(self) -> int:
        """How many tasks to claim now."""
        if self._stop_asked.is_set() or not self._is_trusted or self.pool.births.nursery is None:
            return 0
        return max(self.pool.wanted() - (self._suspects.waiting is not None), 0)

    def wants_suspect(self) -> bool:
        """Whether a task under suspicion could be run alone now."""
        return self._suspects.is_wanted

    def untold(self) -> list[Held]:
        """Started tasks that the broker has to hear of: those that take long, and suspects before they start."""
        since = self._loop.time() - TELL_AFTER
        tasks = self._suspects.untold(self._loop.time())
        for executor in self.pool.executors.values():
            tasks += [held for held in executor.running.values() if not held.is_told and held.started_at <= since]
        return tasks

    def told(self, tasks: Sequence[Held]) -> None:
        """The broker knows that *tasks* have started: suspects may run."""
        for held in tasks:
            held.is_told = True
            if held.is_suspect:
                self._suspects.told(held, may_start=self._held.get(held.id) is held and not self._stop_asked.is_set())

    def take(self, claimed: Sequence[Claimed]) -> None:
        """Take tasks that the lane claimed."""
        now = self._loop.time()
        ready = []
        for task in claimed:
            try:
                held = _open(task, now)
            except (ValueError, TypeError, LookupError) as error:
                held = Held(task.id, task.token, [], "", task.failures, task.attempts + 1, task.queue, now)
                self._held[task.id] = held
                self.on_ended(refuse(held, f"the envelope cannot be read: {error}"))
                continue
            row = held.row
            self._held[task.id] = held
            if held.handler not in self._member.handlers or row[frames.LAYOUT] != ENVELOPE_LAYOUT:
                self.on_ended(Ended(held, Outcome.RELEASED, NOT_MINE_MS, reason=f"{self._member.name} cannot run it"))
            elif task.is_cancel_requested or self._stop_asked.is_set():
                self.on_ended(Ended(held, Outcome.RELEASED, reason="not started"))
            elif held.is_suspect:
                self._suspects.add(held)
            else:
                ready.append(held)
        self.pool.add(ready)

    def on_heard(self) -> None:
        """The broker answers the lane again: say so."""
        self._heartbeat.beat_now()

    def settle(self, ended: Ended, code: int) -> None:
        """The broker has taken, or refused, the end of a task."""
        if self._held.get(ended.held.id) is ended.held:
            del self._held[ended.held.id]
        if self._stop_asked.is_set():
            self._ended.set()

    # -- the pool's news

    def on_ended(self, ended: Ended) -> None:
        """A task is no longer here: tell the broker, unless it was lost to others."""
        ended.held.is_over = True
        if ended.held.doom == LOST:
            if self._held.get(ended.held.id) is ended.held:
                del self._held[ended.held.id]
        else:
            self.lane.outbox.append(ended)
            self.lane.wake()
        if self._stop_asked.is_set():
            self._ended.set()

    def on_free(self) -> None:
        """A place may have become free."""
        self.lane.wake()

    def on_note(self, held: Held, progress: tuple[float, str] | None, lines: bytes) -> None:
        """A running task says something."""
        self._notes.add(held, progress, lines)

    def on_submit(self, held: Held, call: dict[str, Any], answer: Answer) -> None:
        """A running task submits a child."""
        self._children.add(held, call, answer)

    # -- the heartbeat's news

    def holdings(self) -> tuple[dict[str, str], int]:
        """The token of everything that is here, ends that the broker has not taken included; the last round in it."""
        return {held.id: held.token for held in self._held.values()}, self.lane.answered

    def on_cancelled(self, ids: Sequence[str]) -> None:
        """Somebody asked for these tasks to be cancelled."""
        for task_id in ids:
            held = self._held.get(task_id)
            if held is not None and not held.doom and not held.is_over:
                log.info("cancelling %s", task_id)
                self.pool.doom(held, frames.CANCELLED)

    def on_lost(self, tasks: Mapping[str, str]) -> None:
        """Others own these tasks, by id and token, now: stop them and say nothing of them."""
        for task_id, token in tasks.items():
            held = self._held.get(task_id)
            # An end on its way is no longer held there either.
            if held is not None and held.token == token and not held.is_over:
                self._lose(held)

    def _lose(self, held: Held) -> None:
        log.warning("%s was lost to another worker", held.id)
        if held is self._suspects.waiting:
            self._suspects.release("lost", doom=LOST)
        else:
            self.pool.doom(held, LOST)

    def on_unknown(self) -> asyncio.Task[None]:
        """The lease was reaped: stop everything, join under a new id. Ends are still offered with their tokens."""
        self.lane.disown()
        self.on_lost(self.holdings()[0])
        self._is_trusted = False
        self._joining = self._loop.create_task(self._join())
        return self._joining

    def on_distrust(self) -> None:
        """The lease may have ended: nothing may run on it any more; what ran is offered back, uncounted."""
        self._is_trusted = False
        self._suspects.release("not started")
        self.pool.stop("the lease could not be renewed")
        self.pool.hand_back_all(but_overlapping=True)

    def on_renewed(self, fence_at: float) -> None:
        """The lease was renewed: the nurseries hear until when executors may run, should this loop stand still."""
        self.pool.births.trust(fence_at)

    def on_trust(self) -> None:
        """The lease stands."""
        self._is_trusted = True
        if not self._stop_asked.is_set():
            self.pool.resume()
        self.lane.wake()


def _open(task: Claimed, now: float) -> Held:
    """What this worker keeps of a claimed *task*; raises whatever an envelope provokes that is none."""
    row = unpack(task.envelope)
    return Held(
        task.id,
        task.token,
        row,
        row[frames.HANDLER],
        task.failures,
        task.attempts + 1,
        task.queue,
        now,
        row[frames.TIMEOUT] / 1000,
        task.is_suspect,
    )
