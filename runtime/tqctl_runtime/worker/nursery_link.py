"""The supervisor's end of a nursery: start it, learn what it can run, have executors forked, hear how they ended."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tqctl_runtime.core.errors import ConfigError, TqctlError
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.hygiene import clean_environment

log = logging.getLogger("tqctl.worker")


@dataclass(slots=True)
class NurseryEvents:
    """Who hears of executors: born (number, pid, pidfd), lost (all), died.

    Died is told with number, exit code or minus a signal, and whether the nursery killed it at the end of the trust.
    """

    born: Callable[[int, int, int], None]
    died: Callable[[int, int, bool], None]
    lost: Callable[[NurseryLink], None]


@dataclass(slots=True)
class NurseryConfig:
    """What a nursery is told at its start. Limits are bytes."""

    apps: Sequence[str]
    with_guarded: bool
    result_limit: int
    log_limit: int
    environment: dict[str, str] = field(default_factory=lambda: clean_environment(os.environ))

    def to_json(self) -> str:
        """The argument of the process."""
        return json.dumps(
            {
                "apps": list(self.apps),
                "with_guarded": self.with_guarded,
                "result_limit": self.result_limit,
                "log_limit": self.log_limit,
                "parent": os.getpid(),
            }
        )


class NurseryLink:
    """One nursery process and the pair that leads to it."""

    def __init__(self, config: NurseryConfig, events: NurseryEvents) -> None:
        self._config = config
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._is_ready = False
        self.rows: list[dict[str, Any]] = []

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._process.pid if self._process else 0

    async def start(self) -> None:
        """Start the process and wait until it has imported everything.

        Raises:
            ConfigError: an app cannot be used; the message holds the user's traceback.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        with theirs:
            command = [sys.executable, "-P", "-m", "tqctl_runtime.worker.nursery", str(theirs.fileno())]
            self._process = subprocess.Popen(  # noqa: ASYNC220  milliseconds, at a start or a reload
                [*command, self._config.to_json()],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=self._config.environment,
                process_group=0,
            )
        self._socket = ours
        self._loop.add_reader(ours.fileno(), self._on_readable)
        try:
            await self._ready
        except BaseException:
            self.close()
            raise

    def fork(self, number: int, kind: str, folder: str, fds: Sequence[int], *, is_fenced: bool) -> None:
        """Have an executor forked that works over *fds*; *is_fenced*: it is killed at the end of the trust."""
        self._send((frames.FORK, number, kind, folder, is_fenced), fds)

    def trust(self, until: float) -> None:
        """Tell until when the lease may be relied on, by ``boot_seconds``."""
        self._send((frames.TRUST, until))

    def _send(self, message: Sequence[Any], fds: Sequence[int] = ()) -> None:
        if self._socket is None:
            return  # it was lost; its executors have been told to the pool
        try:
            frames.send_packet(self._socket, message, fds)
        except (BlockingIOError, BrokenPipeError, ConnectionResetError) as error:
            log.error("the nursery does not answer: %s", error)
            self._lose()

    def close(self) -> None:
        """Let the process end: it kills what is left of its executors' groups first."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._process is not None and not self._is_ready:
            self._process.kill()  # it imports: it would not look at its pair for as long as that takes
        if self._process is not None:
            # A thread, since the loop must not wait; the process ends by itself once its pair is closed.
            self._loop.run_in_executor(None, self._process.wait)

    async def wait_closed(self) -> None:
        """Wait until the process is gone, and with it every executor of it."""
        self.close()
        if self._process is not None:
            await self._loop.run_in_executor(None, self._process.wait)

    def _on_readable(self) -> None:
        assert self._socket is not None
        while self._socket is not None:
            try:
                packet = frames.receive_packet(self._socket)
            except BlockingIOError:
                return
            except (ConnectionResetError, BrokenPipeError):
                packet = None
            if packet is None:
                self._lose()
                return
            self._handle(*packet)

    def _handle(self, message: list[Any], fds: list[int]) -> None:
        match message[0]:
            case frames.BORN:
                self._events.born(message[1], message[2], fds[0])
            case frames.DIED:
                self._events.died(message[1], message[2], message[3])
            case frames.ROWS:
                self.rows.extend(message[1])
            case frames.READY:
                if message[1]:
                    log.warning("importing the apps left threads running: executors are started afresh, not forked")
                self._is_ready = True
                self._ready.set_result(None)
            case frames.REFUSED:
                self._fail(ConfigError(message[1], hint=message[2]))

    def _fail(self, error: TqctlError) -> None:
        if not self._ready.done():
            self._ready.set_exception(error)

    def _lose(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if not self._ready.done():
            code = self._process.wait() if self._process else None
            self._fail(ConfigError(f"importing the apps ended the process: exit code {code}"))
            return
        self._events.lost(self)
