"""The nursery: a small single-threaded process that imported the handlers once and forks executors from itself.

It speaks with the supervisor by packets, holds no address of any server, and tells how each of its children ended. Run
it as ``python -P -m tqctl_runtime.worker.nursery DESCRIPTOR CONFIG`` (JSON); with ``"become"`` in CONFIG it turns into
an executor itself.
"""

from __future__ import annotations

import gc
import json
import math
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tqctl_runtime.core.clock import boot_seconds
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.handler import registry
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.apps import load_all
from tqctl_runtime.worker.executor import Outfit, serve_sync
from tqctl_runtime.worker.hygiene import die_with_parent, kill_group, outlive_parent, reset_signals
from tqctl_runtime.worker.streams import PipeCapture, Router, configure_logging, install_routers

SYNC = "sync"
ASYNC = "async"
#: Rows of the catalogue in one packet: a packet must fit a socket buffer.
_ROWS_AT_ONCE = 25
_TEXT_LIMIT = 60_000
_LONGEST_SLEEP_MS = 1_000


@dataclass(slots=True)
class Child:
    """An executor: its number, its pid, whether it ends with the trust, and whether it was killed at that end."""

    number: int
    pid: int
    is_fenced: bool
    was_fenced: bool = False


class Nursery:
    """Forks executors when asked, and reaps them."""

    def __init__(self, sock: socket.socket, config: dict[str, Any], routers: tuple[Router, Router]) -> None:
        self._socket = sock
        self._config = config
        self._routers = routers
        self._children: dict[int, Child] = {}  # by pidfd
        self._trust = math.inf
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)
        self._spawns = count_threads() > 1

    def serve(self) -> None:
        """Tell what can be run, then do what the supervisor asks until it closes its end or ends."""
        outlive_parent()  # from here on the end of the pair tells, and there are groups to kill before we go
        if os.getppid() != self._config["parent"]:
            return
        try:
            self._serve()
        except (BrokenPipeError, ConnectionResetError):
            pass
        for child in self._children.values():
            kill_group(child.pid)

    def _serve(self) -> None:
        rows = [spec.to_row() for spec in registry.specs()]
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            frames.send_packet(self._socket, (frames.ROWS, rows[start : start + _ROWS_AT_ONCE]))
        frames.send_packet(self._socket, (frames.READY, self._spawns))
        while True:
            for fd, _ in self._poll.poll(self._time_left_ms()):
                if fd in self._children:
                    self._reap(fd)
                elif not self._serve_one():
                    return

    def _time_left_ms(self) -> int | None:
        """How long to sleep, None for ever; at the end of the trust, kill what may not run on.

        A supervisor that is alive kills them a little earlier; one that is stopped, or whose loop is blocked, cannot.
        """
        if self._trust == math.inf or not any(child.is_fenced for child in self._children.values()):
            return None
        left = self._trust - boot_seconds()
        if left > 0:
            # Sleep does not count the time a machine is suspended, the lease does.
            return min(math.ceil(left * 1000), _LONGEST_SLEEP_MS)
        for child in self._children.values():
            if child.is_fenced:
                child.is_fenced, child.was_fenced = False, True
                os.kill(child.pid, signal.SIGKILL)  # it may not have made its group yet
                kill_group(child.pid)
        return None

    def _serve_one(self) -> bool:
        packet = frames.receive_packet(self._socket)
        if packet is None:
            return False
        message, fds = packet
        if message[0] == frames.TRUST:
            self._trust = message[1]
            return True
        _, number, kind, folder, is_fenced = message
        pid = self._spawn(kind, folder, fds) if self._spawns else self._fork(kind, folder, fds)
        for fd in fds:
            os.close(fd)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = Child(number, pid, is_fenced)
        self._poll.register(pidfd, select.POLLIN)
        frames.send_packet(self._socket, (frames.BORN, number, pid), (pidfd,))
        return True

    def _fork(self, kind: str, folder: str, fds: list[int]) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            self._socket.close()
            for pidfd in self._children:
                os.close(pidfd)
            become_executor(kind, folder, fds, parent, self._config, self._routers)
        finally:
            os._exit(70)

    def _spawn(self, kind: str, folder: str, fds: list[int]) -> int:
        """A fresh interpreter, since threads that importing left do not survive a fork and their locks do."""
        for fd in fds:
            os.set_inheritable(fd, True)
        become = {"kind": kind, "folder": folder, "fds": fds}
        config = json.dumps({**self._config, "parent": os.getpid(), "become": become})
        command = [sys.executable, "-P", "-m", "tqctl_runtime.worker.nursery", "-1", config]
        return os.posix_spawn(sys.executable, command, os.environ)

    def _reap(self, pidfd: int) -> None:
        child = self._children.pop(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        kill_group(child.pid)  # before it is reaped: until then the number of its group cannot be given to anybody else
        _, status = os.waitpid(child.pid, 0)
        self._poll.unregister(pidfd)
        os.close(pidfd)
        code = os.waitstatus_to_exitcode(status)
        frames.send_packet(self._socket, (frames.DIED, child.number, code, child.was_fenced))


def count_threads() -> int:
    """Threads of this process, those of C libraries included."""
    try:
        return sum(1 for _ in Path("/proc/self/task").iterdir())
    except OSError:
        import threading

        return threading.active_count()


def become_executor(
    kind: str, folder: str, fds: list[int], parent: int, config: dict[str, Any], routers: tuple[Router, Router]
) -> NoReturn:
    """Turn this process, a child of *parent*, into an executor that works over *fds*."""
    os.setpgid(0, 0)
    reset_signals()
    die_with_parent(parent)
    stream = frames.Stream(socket.socket(fileno=fds[0]))
    tickets = fds[2] if kind == SYNC else -1
    outfit = Outfit(stream, tickets, fds[1], folder, config["result_limit"], config["log_limit"])
    if kind == SYNC:
        serve_sync(outfit, PipeCapture(fds[3], fds[4], routers, config["log_limit"]))
    from tqctl_runtime.worker.executor_async import serve_async

    serve_async(outfit)


def main(arguments: list[str]) -> None:
    """Serve as the nursery of the supervisor at the other end of the descriptor ``arguments[0]``."""
    config = json.loads(arguments[1])
    become = config.get("become")
    parent = config["parent"]
    if become is None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # who stops a worker means its supervisor, which then closes the pair
        die_with_parent(parent)
    routers = install_routers()
    sock = None if become else socket.socket(fileno=int(arguments[0]))
    try:
        load_all(config["apps"], with_guarded=config["with_guarded"])
    except TqctlError as error:
        if sock is not None:
            frames.send_packet(sock, (frames.REFUSED, error.message[-_TEXT_LIMIT:], error.hint))
        sys.exit(78)
    configure_logging()
    gc.collect()
    gc.freeze()  # what was imported is shared by all forks: no collection may touch its pages
    if sock is None:
        become_executor(become["kind"], become["folder"], become["fds"], parent, config, routers)
    Nursery(sock, config, routers).serve()


if __name__ == "__main__":
    main(sys.argv[1:])
