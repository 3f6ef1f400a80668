"""The sync executor: a forked child that runs one task after another in its main thread."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn

from tqctl_runtime.core.current import NO_NEEDS, set_current_task
from tqctl_runtime.core.needs import Needs
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.attempts import (
    AttemptChannel,
    Ending,
    Row,
    fail,
    find_plan,
    make_stop,
    make_task,
    open_payload,
    succeed,
    take_answer,
)
from tqctl_runtime.worker.streams import PipeCapture

_NOTHING: Ending = (0, 0, b"", "")
#: How long a call to the supervisor may hide that its task is to stop, in milliseconds.
_LOOK_MS = 100


@dataclass(frozen=True, slots=True)
class Outfit:
    """What an executor is given: its ends of the pipes, its folder and its limits in bytes."""

    stream: frames.Stream
    tickets: int
    control: int
    folder: str
    result_limit: int
    log_limit: int


class SyncExecutor:
    """Runs the tasks of frames in their order, each after it took a ticket."""

    def __init__(self, outfit: Outfit, capture: PipeCapture) -> None:
        self._outfit = outfit
        self._stream = outfit.stream
        self._capture = capture
        self._queue: deque[tuple[int, Row]] = deque()
        self._ticket: int | None = None
        self._needs = NO_NEEDS
        self._running = 0
        self._dooms: dict[int, int] = {}
        self._is_talking = False
        self._main = threading.get_ident()
        self._is_copy = False
        os.register_at_fork(after_in_child=self._become_copy)
        self._asking = threading.Lock()
        self._asked = 0
        self._answers: dict[int, tuple[list[str] | None, Any]] = {}

    def run(self) -> None:
        """Serve until the supervisor closes its end."""
        signal.signal(signal.SIGTERM, self._on_term)
        ended, ending = 0, _NOTHING
        while True:
            row = self._next_row()
            if row is None:
                if ended:
                    self._stream.send((frames.STEP, 0, ended, *ending))
                    ended = 0
                if not self._receive():
                    return
                continue
            self._stream.send((frames.STEP, row[0], ended, *ending))
            ended, ending = row[0], self._run_one(row)

    def _become_copy(self) -> None:
        self._is_copy = True

    def _next_row(self) -> Row | None:
        """The next task that may start; None where nothing is here or all that is was revoked."""
        if self._ticket is None:
            if not self._queue:
                return None
            try:
                self._ticket = os.read(self._outfit.tickets, 1)[0]
            except BlockingIOError:
                self._queue.clear()
                return None
            except IndexError:
                os._exit(0)
        # A ticket of a later generation: what is left of earlier ones was revoked.
        while self._queue:
            generation, row = self._queue.popleft()
            if generation == self._ticket:
                self._ticket = None
                return row
        return None

    def _receive(self) -> bool:
        messages = self._stream.receive()
        if messages is None:
            return False
        for message in messages:
            if message[0] == frames.RUN:
                generation = message[1]
                self._queue.extend((generation, row) for row in message[2])
            elif message[0] == frames.ANSWER:
                self._answers[message[1]] = (message[2], message[3])
            elif message[0] == frames.NEEDS:
                self._needs = Needs(message[1])
        return True

    def _run_one(self, row: Row) -> Ending:
        """Run the task of *row*; whatever it raises becomes an ending."""
        channel = AttemptChannel(row[0], self, self._outfit.folder)
        plan = find_plan(row[4][frames.HANDLER])
        self._capture.begin()
        token = set_current_task(make_task(row, channel, self._needs))
        error: BaseException | None = None
        value: object = None
        try:
            arguments = open_payload(row, plan)
            assert plan is not None
            value = self._call(plan.spec.function, arguments, row[0])
        except BaseException as caught:  # noqa: BLE001  whatever it is, it ends this task and not the executor
            self._running = 0
            error = caught
        token.var.reset(token)
        if self._is_copy:
            os._exit(0)  # the handler forked and let its child return: the supervisor must hear one of them only
        log = self._capture.end()
        channel.close()
        doom = self._dooms.get(row[0])
        if doom is not None:
            self._dooms.clear()
        if error is None:
            return succeed(value, log, channel.last_progress, self._outfit.result_limit)
        return fail(error, plan.spec if plan else None, log, channel.last_progress, doom)

    def _call(self, function: Callable[..., object], arguments: dict[str, Any], seq: int) -> object:
        self._running = seq
        try:
            if self._dooms:  # the signal came between the start message and here
                self._stop_if_doomed()
            return function(**arguments)
        finally:
            self._running = 0

    def _on_term(self, _number: int, _frame: FrameType | None) -> None:
        self._dooms.update(frames.read_dooms(self._outfit.control))
        if not self._is_talking:
            self._stop_if_doomed()

    def _stop_if_doomed(self) -> None:
        reason = self._dooms.get(self._running) if self._running else None
        if reason is not None and threading.get_ident() == self._main:
            self._running = 0  # so that it is raised once
            raise make_stop(reason)

    def tell(self, message: Sequence[Any]) -> None:
        """Send *message*, whole: a stop that comes meanwhile is raised after it."""
        if threading.get_ident() != self._main:
            self._stream.send(message)
            return
        self._is_talking = True
        try:
            self._stream.send(message)
        finally:
            self._is_talking = False
        self._stop_if_doomed()

    def ask(self, seq: int, call: Mapping[str, Any]) -> Any:
        """Send a child task's fields and wait for its id."""
        with self._asking:
            self._asked += 1
            request = self._asked
            self.tell((frames.SUBMIT, seq, request, dict(call)))
            waiting = select.poll()
            waiting.register(self._stream.fileno(), select.POLLIN)
            while request not in self._answers:
                self._stop_if_doomed()
                if waiting.poll(_LOOK_MS):
                    self._receive_whole()
            return take_answer(self._answers.pop(request))

    async def ask_async(self, seq: int, call: Mapping[str, Any]) -> Any:
        """As :meth:`ask`, for handlers that run a loop of their own: a thread waits."""
        import asyncio

        return await asyncio.to_thread(self.ask, seq, call)

    def _receive_whole(self) -> None:
        is_main = threading.get_ident() == self._main
        self._is_talking = is_main
        try:
            if not self._receive():
                os._exit(0)
        finally:
            if is_main:
                self._is_talking = False

    def find_doom(self, seq: int) -> int | None:
        """Why the task was asked to stop, or None."""
        return self._dooms.get(seq)


def serve_sync(outfit: Outfit, capture: PipeCapture) -> NoReturn:
    """Run a sync executor until its supervisor is gone, then leave without the parent's exit code."""
    try:
        SyncExecutor(outfit, capture).run()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  a forked child must never run on into its parent's code
        sys.excepthook(*sys.exc_info())
        os._exit(70)
    os._exit(0)
