"""What supervisor, nursery and executors say to each other: msgpack arrays over a socket pair, one after another.

The first element of each array is one of the constants below; the comment beside it lists the rest.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack

# To an executor.
RUN = 0  # generation, [[seq, id, attempt, queue, envelope row], ...]; one ticket each was written before
CANCEL = 1  # seq, reason: for a task of the async executor
ANSWER = 2  # request, error [code, message] or None, value
NEEDS = 3  # {name: secret}: what the handlers of this executor asked for; once, before any task

# From an executor.
STEP = 0  # started seq or 0, ended seq or 0, outcome code, retry, detail, reason
PROGRESS = 1  # seq, percent, message
LINES = 2  # seq, bytes of the log, for those who follow it
SUBMIT = 3  # seq, request, fields of a child task
ACK = 4  # seq: the loop of the async executor has seen the cancel

# To the nursery.
FORK = 10  # number, kind, folder, whether it ends with the worker's trust; with the executor's five descriptors
TRUST = 11  # until when the lease may be relied on, in seconds of CLOCK_BOOTTIME: what runs then is killed

# From the nursery.
ROWS = 20  # [catalogue row, ...]
READY = 21  # whether it spawns instead of forking
REFUSED = 22  # text to show: the apps cannot be used
BORN = 23  # number, pid; with a pidfd
DIED = 24  # number, wait status: an exit code, or minus a signal; whether the nursery killed it at the end of the trust

#: ``retry`` of a STEP that is not a number of milliseconds.
BY_BACKOFF = -1
NEVER = -2

#: Why a running attempt is to be stopped.
TIME_LIMIT = 1
CANCELLED = 2

#: Positions in the row that ``Submission.envelope`` packs.
LAYOUT, HANDLER, PAYLOAD, TIMEOUT, BACKOFF, TAGS, TENANT, CORRELATION, PARENT = range(9)

_RECEIVE = 262_144
_DOOM = struct.Struct("<IB")
#: More than the descriptors any message carries.
_MAX_FDS = 8

pack = msgpack.Packer(autoreset=True).pack


def new_unpacker() -> msgpack.Unpacker:
    """An unpacker for a stream of frames; its bound is that of msgpack, since both ends are our own."""
    return msgpack.Unpacker(strict_map_key=False, max_buffer_size=0)


def pack_doom(seq: int, reason: int) -> bytes:
    """The entry of a control pipe that names the task *seq* and why it must stop."""
    return _DOOM.pack(seq & 0xFFFFFFFF, reason)


def read_dooms(fd: int) -> Iterator[tuple[int, int]]:
    """(seq, reason) of everything in the control pipe *fd*, which does not block."""
    try:
        data = os.read(fd, _DOOM.size * 64)
    except (BlockingIOError, OSError):
        return
    for start in range(0, len(data) - _DOOM.size + 1, _DOOM.size):
        yield _DOOM.unpack_from(data, start)


class Stream:
    """One end of a socket pair, blocking; for executors."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._unpacker = new_unpacker()
        self._sending = threading.Lock()  # handlers may tell their progress from threads of their own

    def fileno(self) -> int:
        """The descriptor, to wait on."""
        return self._socket.fileno()

    def send(self, message: Sequence[Any]) -> None:
        """Send all of *message*."""
        with self._sending:
            self._socket.sendall(pack(message))

    def receive(self) -> list[Any] | None:
        """Whatever has come, at least one read; an empty list for a part of a message, None at the end."""
        data = self._socket.recv(_RECEIVE)
        if not data:
            return None
        self._unpacker.feed(data)
        return list(self._unpacker)


def send_packet(sock: socket.socket, message: Sequence[Any], fds: Sequence[int] = ()) -> None:
    """Send one packet of a SOCK_SEQPACKET pair, with descriptors."""
    socket.send_fds(sock, [pack(message)], list(fds))


def receive_packet(sock: socket.socket) -> tuple[list[Any], list[int]] | None:
    """The next packet and its descriptors; None at the end."""
    data, fds, flags, _ = socket.recv_fds(sock, _RECEIVE, _MAX_FDS)
    if not data:
        return None
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise OSError("a packet between supervisor and nursery was cut")
    return msgpack.unpackb(data, strict_map_key=False), list(fds)
