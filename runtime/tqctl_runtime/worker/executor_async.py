"""The async executor: one forked child whose event loop runs all async tasks of a worker."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import itertools
import os
import select
import signal
import sys
import sysconfig
import threading
from collections.abc import Mapping, Sequence
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
from tqctl_runtime.worker.executor import Outfit
from tqctl_runtime.worker.streams import HeadTail, sink

#: An error as [code, message], or None, and the value.
_Answer = tuple[list[str] | None, Any]

_LOOK_MS = 100
#: How long live output is gathered before it is pushed, in seconds, and how much of it at once, in bytes.
_PUSH_AFTER = 0.2
_PUSH_BYTES = 16_384

_ASYNCIO = os.path.dirname(asyncio.__file__) + os.sep
_OWN_CODE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_STDLIB = sysconfig.get_path("stdlib") + os.sep

_running: contextvars.ContextVar[int] = contextvars.ContextVar("tqctl_running_seq", default=0)


class AsyncAttempt:
    """A running async task: its asyncio task, its log and why it must stop, if it must."""

    def __init__(self, executor: AsyncExecutor, row: Row, log_limit: int) -> None:
        self.seq: int = row[0]
        self.task: asyncio.Task[None] | None = None
        self.doom: int | None = None
        self._executor = executor
        self._kept = HeadTail(log_limit)
        self._live = bytearray()
        self._is_live = False

    def write_log(self, text: str) -> None:
        """Take the next text of the attempt's output, from any thread of it."""
        data = text.encode("utf-8", "backslashreplace")
        self._kept.feed(data)
        if not self._live:
            self._executor.call_later(_PUSH_AFTER, self.push)
        self._live += data
        if len(self._live) > 2 * _PUSH_BYTES:
            del self._live[:-_PUSH_BYTES]

    def push(self) -> None:
        """Send what was written lately to those who follow."""
        if self._live and self.task is not None and not self.task.done():
            self._is_live = True
            self._executor.tell((frames.LINES, self.seq, bytes(self._live[-_PUSH_BYTES:])))
        self._live.clear()

    def take_log(self) -> tuple[bytes, int]:
        """(log, bytes dropped) of the whole attempt; those who follow get the rest of it."""
        if self._is_live:
            self.push()
        self._live.clear()
        return self._kept.take() if self._kept.total else (b"", 0)


class AsyncExecutor:
    """Runs each task of a frame at once, side by side."""

    def __init__(self, outfit: Outfit) -> None:
        self._outfit = outfit
        self._stream = outfit.stream
        self._loop = asyncio.new_event_loop()
        self._main = threading.get_ident()
        self._attempts: dict[int, AsyncAttempt] = {}
        self._needs = NO_NEEDS
        self._requests = itertools.count(1)  # one step of the interpreter, so that threads share it
        self._answers: dict[int, _Answer] = {}
        self._waiting: dict[int, concurrent.futures.Future[_Answer]] = {}

    def run(self) -> None:
        """Serve until the supervisor closes its end."""
        asyncio.set_event_loop(self._loop)
        signal.signal(signal.SIGTERM, self._on_term)
        self._loop.add_reader(self._stream.fileno(), self._on_readable)
        self._loop.run_forever()

    def _on_readable(self) -> None:
        messages = self._stream.receive()
        if messages is None:
            os._exit(0)
        for message in messages:
            self._handle(message)

    def _handle(self, message: list[Any]) -> None:
        match message[0]:
            case frames.RUN:
                for row in message[2]:
                    attempt = AsyncAttempt(self, row, self._outfit.log_limit)
                    self._attempts[attempt.seq] = attempt
                    attempt.task = self._loop.create_task(self._run_one(attempt, row))
            case frames.CANCEL:
                self._stop(message[1], message[2])
            case frames.ANSWER:
                waiting = self._waiting.pop(message[1], None)
                if waiting is None:
                    self._answers[message[1]] = (message[2], message[3])
                elif waiting.set_running_or_notify_cancel():  # else its handler has stopped to wait for it
                    waiting.set_result((message[2], message[3]))
            case frames.NEEDS:
                self._needs = Needs(message[1])

    def _stop(self, seq: int, reason: int) -> None:
        attempt = self._attempts.get(seq)
        if attempt is None:
            return
        self.tell((frames.ACK, seq))
        if attempt.doom is None:
            attempt.doom = reason
            if attempt.task is not None:
                attempt.task.cancel()

    async def _run_one(self, attempt: AsyncAttempt, row: Row) -> None:
        """Run the task of *row*; whatever it raises becomes an ending."""
        seq = attempt.seq
        self.tell((frames.STEP, seq, 0, 0, 0, b"", ""))
        channel = AttemptChannel(seq, self, self._outfit.folder)
        plan = find_plan(row[4][frames.HANDLER])
        set_current_task(make_task(row, channel, self._needs))
        sink.set(attempt)
        _running.set(seq)
        error: BaseException | None = None
        value: object = None
        try:
            arguments = open_payload(row, plan)
            assert plan is not None
            value = await plan.spec.function(**arguments)
        except BaseException as caught:  # noqa: BLE001  CancelledError too: it ends this attempt and nothing else
            error = caught
        _running.set(0)
        log = attempt.take_log()
        channel.close()
        ending: Ending
        if error is None:
            ending = succeed(value, log, channel.last_progress, self._outfit.result_limit)
        else:
            ending = fail(error, plan.spec if plan else None, log, channel.last_progress, attempt.doom)
        del self._attempts[seq]
        self.tell((frames.STEP, 0, seq, *ending))

    def _on_term(self, _number: int, frame: FrameType | None) -> None:
        """Stop a handler that keeps the loop from reading: raised in its own code, never inside asyncio."""
        for seq, reason in frames.read_dooms(self._outfit.control):
            attempt = self._attempts.get(seq)
            if attempt is not None and seq == _running.get() and _is_users(frame):
                attempt.doom = reason
                raise make_stop(reason)

    def call_later(self, seconds: float, callback: Any) -> None:
        """Have the loop call *callback*; from any thread."""
        if threading.get_ident() == self._main:
            self._loop.call_later(seconds, callback)
        else:
            self._loop.call_soon_threadsafe(self._loop.call_later, seconds, callback)

    def tell(self, message: Sequence[Any]) -> None:
        """Send *message*, whole: no stop is raised in this file."""
        self._stream.send(message)

    def ask(self, seq: int, call: Mapping[str, Any]) -> Any:
        """Send a child task's fields and wait for its id; the loop waits too, unless a thread of the handler asks."""
        if threading.get_ident() != self._main:
            return take_answer(self._send_call(seq, call).result())
        request = next(self._requests)
        self.tell((frames.SUBMIT, seq, request, dict(call)))
        waiting = select.poll()
        waiting.register(self._stream.fileno(), select.POLLIN)
        while request not in self._answers:
            if waiting.poll(_LOOK_MS):
                self._receive_for(seq)
        return take_answer(self._answers.pop(request))

    async def ask_async(self, seq: int, call: Mapping[str, Any]) -> Any:
        """Send a child task's fields and wait for its id; the loop goes on, also one of the handler's own."""
        return take_answer(await asyncio.wrap_future(self._send_call(seq, call)))

    def _send_call(self, seq: int, call: Mapping[str, Any]) -> concurrent.futures.Future[_Answer]:
        future: concurrent.futures.Future[_Answer] = concurrent.futures.Future()
        request = next(self._requests)
        self._waiting[request] = future
        self.tell((frames.SUBMIT, seq, request, dict(call)))
        return future

    def _receive_for(self, seq: int) -> None:
        messages = self._stream.receive()
        if messages is None:
            os._exit(0)
        stop: int | None = None
        for message in messages:
            if message[0] == frames.ANSWER and message[1] not in self._waiting:
                self._answers[message[1]] = (message[2], message[3])
            elif message[0] == frames.CANCEL and message[1] == seq:
                stop = message[2]
            else:
                self._loop.call_soon(self._handle, message, context=contextvars.Context())
        if stop is not None:
            self._attempts[seq].doom = stop
            self.tell((frames.ACK, seq))
            raise make_stop(stop)

    def find_doom(self, seq: int) -> int | None:
        """Why the task was asked to stop, or None."""
        attempt = self._attempts.get(seq)
        return None if attempt is None else attempt.doom


def _is_users(frame: FrameType | None) -> bool:
    """Whether the code at *frame* is the user's, or the standard library called by the user and not by asyncio."""
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith((_ASYNCIO, _OWN_CODE)):
            return False
        if not name.startswith(_STDLIB) or "site-packages" in name or "dist-packages" in name:
            # Frozen modules of the import system are named so; an import broken in its middle stays broken.
            return not name.startswith("<frozen ")
        frame = frame.f_back
    return False


def serve_async(outfit: Outfit) -> NoReturn:
    """Run an async executor until its supervisor is gone, then leave without the parent's exit code."""
    try:
        AsyncExecutor(outfit).run()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(0)
    except BaseException:  # noqa: BLE001  a forked child must never run on into its parent's code
        sys.excepthook(*sys.exc_info())
        os._exit(70)
    os._exit(0)
