"""The supervisor's end of one executor: its pipes, what was sent to it, what it has started."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from tqctl_runtime.worker import frames
from tqctl_runtime.worker.streams import HeadTail, drain

log = logging.getLogger("tqctl.worker")

SYNC = "sync"
ASYNC = "async"

_RECEIVE = 1_048_576
_PIPE_BYTES = 1_048_576
#: With so many tasks before it, what an executor says is read each so many seconds.
_MANY = 16
_GATHER = 0.001


class CrewKey(NamedTuple):
    """What executors have in common that may run the same handlers: their kind, and what these handlers declare."""

    kind: str
    needs: tuple[str, ...] = ()
    overlap_ok: bool = False

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> CrewKey:
        """The key of the handler of catalogue *row*."""
        return cls(ASYNC if row["is_async"] else SYNC, tuple(row["needs"]), row["overlap_ok"])


@dataclass(slots=True, eq=False)
class Held:
    """A task that this worker holds. Instants are seconds of the monotonic clock, 0.0 for not yet."""

    id: str
    token: str
    row: list[Any]
    handler: str
    failures: int
    attempt: int
    queue: str
    claimed_at: float
    timeout_s: float = 0.0
    is_suspect: bool = False
    seq: int = 0
    started_at: float = 0.0
    executor: ExecutorLink | None = None
    doom: int = 0
    kill_at: float = 0.0
    signal_at: float = 0.0
    children: int = 0
    is_told: bool = False
    is_over: bool = False


class PoolEvents(Protocol):
    """Who hears of what an executor says."""

    def on_started(self, executor: ExecutorLink, held: Held) -> None:
        """*held* is about to run; called for tasks that have a time limit or were doomed meanwhile."""

    def on_ended(self, executor: ExecutorLink, steps: list[tuple[Held, list[Any]]], now: float) -> None:
        """Tasks came to an end by themselves: each with the step that told it."""

    def on_read(self, executor: ExecutorLink) -> None:
        """Some messages of *executor* were handled."""

    def on_told(self, executor: ExecutorLink, message: list[Any]) -> None:
        """A message that is no step."""


@dataclass(slots=True)
class _Pipes:
    tickets_read: int = -1
    tickets_write: int = -1
    control_read: int = -1
    control_write: int = -1
    log_read: int = -1
    log_write: int = -1
    theirs: list[int] = field(default_factory=list)

    def close(self) -> None:
        for name in ("tickets_read", "tickets_write", "control_read", "control_write", "log_read", "log_write"):
            fd: int = getattr(self, name)
            if fd >= 0:
                setattr(self, name, -1)
                os.close(fd)


def _pipe() -> tuple[int, int]:
    read, write = os.pipe()
    os.set_blocking(read, False)
    return read, write


class ExecutorLink:
    """One executor process as the supervisor sees it."""

    def __init__(self, number: int, key: CrewKey, folder: str, events: PoolEvents, log_limit: int) -> None:
        self.number = number
        self.key = key
        self.kind = key.kind
        self.folder = folder
        self.pid = 0
        self.pidfd = -1
        #: Sent and not started, in order; started and not ended, by seq.
        self.sent: deque[Held] = deque()
        self.running: dict[int, Held] = {}
        self.done = 0
        self.idle_since = 0.0
        self.busy_since = 0.0
        self.is_retired = False
        self.is_dead = False
        #: Why we killed it: guilty seqs; None while we did not.
        self.guilty: set[int] | None = None
        self.kept = HeadTail(log_limit)
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._generation = 0
        self._last_seq = 0
        self._unpacker = frames.new_unpacker()
        self._out: list[bytes] = []
        self._pipes = _Pipes()
        ours, self._theirs = socket.socketpair()
        ours.setblocking(False)
        self._socket: socket.socket | None = ours
        try:
            self._open_pipes()
        except OSError:
            self._pipes.close()
            self._theirs.close()
            ours.close()
            raise
        self._loop.add_reader(ours.fileno(), self._on_readable)

    def _open_pipes(self) -> None:
        pipes = self._pipes
        pipes.control_read, pipes.control_write = _pipe()
        os.set_blocking(pipes.control_write, False)  # an executor that is stuck reads none of it
        pipes.theirs = [self._theirs.fileno(), pipes.control_read]
        if self.kind == SYNC:
            pipes.tickets_read, pipes.tickets_write = _pipe()
            pipes.log_read, pipes.log_write = _pipe()
            with contextlib.suppress(OSError):  # over the user's share of pipe memory: the usual 64 KiB do
                fcntl.fcntl(pipes.log_write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            pipes.theirs += [pipes.tickets_read, pipes.log_read, pipes.log_write]

    @property
    def descriptors(self) -> Sequence[int]:
        """What the executor gets, in the order it expects."""
        return self._pipes.theirs

    def given_away(self) -> None:
        """Close our copies of what only the executor may hold, so that its end is seen."""
        self._theirs.close()
        if self._pipes.log_write >= 0:
            os.close(self._pipes.log_write)
            self._pipes.log_write = -1

    @property
    def is_idle(self) -> bool:
        """Whether nothing was sent that has not ended."""
        return not self.running and not self.sent

    @property
    def is_usable(self) -> bool:
        """Whether it may get further tasks."""
        return not self.is_retired and not self.is_dead and self.guilty is None

    @property
    def load(self) -> int:
        """Tasks sent that have not ended."""
        return len(self.sent) + len(self.running)

    def send_tasks(self, tasks: Sequence[Held]) -> None:
        """Send a frame; a sync executor gets its tickets first, so that no ticket can mean "revoked"."""
        if self.is_idle:
            self.busy_since = self._loop.time()
        seq = self._last_seq
        rows = []
        for held in tasks:
            seq += 1
            held.seq = seq
            held.executor = self
            rows.append((seq, held.id, held.attempt, held.queue, held.row))
        self._last_seq = seq
        self.sent.extend(tasks)
        if self.kind == SYNC:
            os.write(self._pipes.tickets_write, bytes((self._generation,)) * len(rows))
        self.send((frames.RUN, self._generation, rows))

    def send(self, message: Sequence[Any]) -> None:
        """Send *message*, now or as soon as the executor reads."""
        if self._socket is None:
            return
        data = frames.pack(message)
        if self._out:
            self._out.append(data)
            return
        try:
            count = self._socket.send(data)
        except BlockingIOError:
            count = 0
        except OSError:
            return  # it is dead: the nursery tells how
        if count < len(data):
            self._out.append(data[count:])
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        if self._socket is None:
            return
        try:
            while self._out:
                count = self._socket.send(self._out[0])
                if count < len(self._out[0]):
                    self._out[0] = self._out[0][count:]
                    return
                del self._out[0]
        except BlockingIOError:
            return
        except OSError:
            self._out.clear()
        self._loop.remove_writer(self._socket.fileno())

    def revoke(self) -> list[Held]:
        """Take back every task that has not taken its ticket; they never start here."""
        if self.kind != SYNC or not self.sent:
            return []
        try:
            count = len(os.read(self._pipes.tickets_read, len(self.sent)))
        except BlockingIOError:
            return []
        self._generation = (self._generation + 1) & 0xFF
        taken = [self.sent.pop() for _ in range(count)]
        taken.reverse()
        for held in taken:
            held.executor = None
        return taken

    def _on_readable(self) -> None:
        if self.read():
            self._events.on_read(self)
        if len(self.sent) >= _MANY and self._socket is not None:
            # A wake-up for each of many short tasks would cost more than the tasks: let some gather.
            self._loop.remove_reader(self._socket.fileno())
            self._loop.call_later(_GATHER, self._resume)

    def _resume(self) -> None:
        if self._socket is not None:
            self._loop.add_reader(self._socket.fileno(), self._on_readable)
            self._on_readable()

    def read(self) -> bool:
        """Handle what the executor said; False where there was nothing."""
        if self._socket is None:
            return False
        try:
            data = self._socket.recv(_RECEIVE)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if not data:
            self._close_socket()
            return False
        steps: list[tuple[Held, list[Any]]] = []
        now = self._loop.time()
        try:
            self._take_in(data, now, steps)
        except Exception as error:  # noqa: BLE001  whatever a handler wrote into the socket of its executor
            log.error("executor %d says what makes no sense (%r): it is killed", self.pid, error)
            self._close_socket()
            self._signal(signal.SIGKILL)
        if steps:
            self.done += len(steps)
            self._events.on_ended(self, steps, now)
        return True

    def _take_in(self, data: bytes, now: float, steps: list[tuple[Held, list[Any]]]) -> None:
        """Handle the messages that *data* completes; ends of tasks are added to *steps*."""
        self._unpacker.feed(data)
        sent, running = self.sent, self.running
        for message in self._unpacker:
            if message[0] != frames.STEP:
                self._events.on_told(self, message)
                continue
            if message[2]:
                steps.append((running.pop(message[2]), message))
            begun = message[1]
            if begun:
                held = sent.popleft()
                held.started_at = now
                running[begun] = held
                if held.timeout_s or held.doom:
                    self._events.on_started(self, held)

    def doom(self, held: Held) -> None:
        """Ask *held*, which has started here, to stop: by message where a loop listens, else by signal."""
        if self.kind == ASYNC:
            self.send((frames.CANCEL, held.seq, held.doom))
        else:
            self.signal_doom(held)

    def signal_doom(self, held: Held) -> None:
        """Name *held* in the control pipe, then interrupt whatever the executor does."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(self._pipes.control_write, frames.pack_doom(held.seq, held.doom))
        self._signal(signal.SIGTERM)

    def kill(self, guilty: set[int]) -> None:
        """Kill it because of the tasks *guilty*; the others in it are interrupted, not to blame."""
        self.guilty = guilty if self.guilty is None else self.guilty | guilty
        self._signal(signal.SIGKILL)

    def born(self, pid: int, pidfd: int) -> None:
        """Take note of the process; a kill that was decided before is made good."""
        self.pid, self.pidfd = pid, pidfd
        if self.guilty is not None:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, number)

    def retire(self) -> None:
        """Take no further task; ends as soon as it is idle."""
        self.is_retired = True
        if self.is_idle:
            self._close_socket()

    def read_log(self, at_most: int) -> bytes:
        """What its tasks have written and nobody has read, kept for the record and returned for those who follow."""
        if self._pipes.log_read < 0:
            return b""
        data = b"".join(drain(self._pipes.log_read, at_most))
        if data:
            self.kept.feed(data)
        return data

    def resident_bytes(self) -> int:
        """Its resident memory; 0 where that cannot be known."""
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError, ValueError):
            return 0

    def bury(self) -> None:
        """Read what it said last, then close everything."""
        self.is_dead = True
        while self.read():
            pass
        self._close_socket()
        self.read_log(_PIPE_BYTES * 2)
        self._theirs.close()
        self._pipes.close()
        if self.pidfd >= 0:
            self._loop.remove_reader(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = -1

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
