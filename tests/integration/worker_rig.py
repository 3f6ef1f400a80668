"""A pool of executors without a broker, for tests: real processes, an owner that writes down what it hears."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.serializer import unpack
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.worker.crew import Limits
from tqctl_runtime.worker.ends import Ended
from tqctl_runtime.worker.executor_link import Held
from tqctl_runtime.worker.nursery_link import NurseryConfig, NurseryLink
from tqctl_runtime.worker.pool import Pool
from tqctl_runtime.worker.watch import TICK, Watch

APP = str(Path(__file__).with_name("worker_app.py"))


class Rig:
    """Use as a context manager; everything happens inside :meth:`until`."""

    def __init__(
        self,
        folder: Path,
        *,
        apps: Iterable[str] = (APP,),
        guarded: bool = True,
        secrets: Mapping[str, str] | None = None,
        **limits: Any,
    ) -> None:
        self.ended: list[Ended] = []
        self.notes: list[tuple[Held, tuple[float, str] | None, bytes]] = []
        self.calls: list[tuple[Held, dict[str, Any]]] = []
        self.answer: tuple[Any, Any] = (None, "tsk_child")
        self.answers_at_once = True
        self._unanswered: list[Callable[[Any, Any], None]] = []
        self._folder = folder
        self._apps = tuple(apps)
        self._guarded = guarded
        self._secrets = secrets or {}
        values: dict[str, Any] = {"concurrency": 4, "processes": 4, "grace": 0.5, "log_limit": 4096} | limits
        self._limits = Limits(**values)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Self:
        try:
            self._loop.run_until_complete(self._start())
        except BaseException:
            self._loop.close()
            raise
        return self

    async def _start(self) -> None:
        self.pool = Pool(self._limits, self, str(self._folder / "executors"), self._secrets)
        self._watch = Watch(self.pool, self)
        await self.fresh_nursery()
        self._ticker = asyncio.create_task(self._tick())

    async def fresh_nursery(self) -> None:
        config = NurseryConfig(self._apps, self._guarded, 1_000_000, self._limits.log_limit)
        self.nursery = NurseryLink(config, self.pool.births.events)
        await self.nursery.start()
        self.pool.adopt(self.nursery)

    def reload(self) -> None:
        """Adopt a new nursery, as HUP does."""
        self._loop.run_until_complete(self.fresh_nursery())

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            self._watch.look(self._loop.time())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _stop(self) -> None:
        self._ticker.cancel()
        self.pool.close()
        await self.nursery.wait_closed()

    # -- what tests do

    def held(self, handler: str, payload: dict[str, Any] | None = None, **fields: Any) -> Held:
        """A claimed task of *handler*; *fields* are of :class:`Held`."""
        submission = build_submission(handler, payload or {})
        row = unpack(submission.envelope())
        return Held(submission.id, "token", row, handler, 0, 1, "default", time.monotonic(), **fields)

    def add(self, handler: str, payload: dict[str, Any] | None = None, **fields: Any) -> Held:
        """Give the pool one task."""
        held = self.held(handler, payload, **fields)
        self._soon(lambda: self.pool.add([held]))
        return held

    def add_many(self, tasks: list[Held]) -> None:
        """Give the pool several tasks at once."""
        self._soon(lambda: self.pool.add(tasks))

    def add_alone(self, held: Held) -> None:
        """Give the pool a suspect."""
        self._soon(lambda: self.pool.run_alone(held))

    def doom(self, held: Held, reason: int) -> None:
        """Have *held* stopped."""
        self._soon(lambda: self.pool.doom(held, reason))

    def _soon(self, action: Callable[[], object]) -> None:
        self._loop.call_soon(action)

    def until(self, predicate: Callable[[], Any], description: str, seconds: float = 25.0) -> Any:
        """Let everything go on until *predicate* is true; its value."""
        return self._loop.run_until_complete(self._until(predicate, description, seconds))

    async def _until(self, predicate: Callable[[], Any], description: str, seconds: float) -> Any:
        end = self._loop.time() + seconds
        while self._loop.time() < end:
            await asyncio.sleep(0.005)
            value = predicate()
            if value:
                return value
        raise AssertionError(f"waited {seconds:g} s for: {description}; ended so far: {self.ended}")

    def wait(self, *tasks: Held) -> list[Ended]:
        """The ends of *tasks*, in their order."""
        names = ", ".join(held.handler for held in tasks)
        self.until(lambda: all(self.find(held) for held in tasks), f"the end of {names}")
        return [end for held in tasks if (end := self.find(held))]

    def find(self, held: Held) -> Ended | None:
        """How *held* ended, or None."""
        return next((ended for ended in self.ended if ended.held is held), None)

    def run(self, handler: str, payload: dict[str, Any] | None = None, **fields: Any) -> tuple[Ended, Detail]:
        """Run one task to its end."""
        (ended,) = self.wait(self.add(handler, payload, **fields))
        return ended, Detail.from_bytes(ended.detail)

    # -- the pool's owner

    def on_ended(self, ended: Ended) -> None:
        ended.held.is_over = True
        self.ended.append(ended)

    def on_note(self, held: Held, progress: tuple[float, str] | None, lines: bytes) -> None:
        self.notes.append((held, progress, lines))

    def on_submit(self, held: Held, call: dict[str, Any], answer: Callable[[Any, Any], None]) -> None:
        self.calls.append((held, call))
        self._unanswered.append(answer)
        if self.answers_at_once:
            self.answer_all()

    def answer_all(self) -> None:
        """Answer every submit that waits."""
        for answer in self._unanswered:
            answer(*self.answer)
        self._unanswered.clear()

    def on_free(self) -> None:
        """Nothing to claim from."""


def is_alive(pid: int) -> bool:
    """Whether process *pid* runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
