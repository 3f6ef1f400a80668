"""The log of an attempt: what is kept of it, and the streams that lead stdout and stderr there."""

from __future__ import annotations

import array
import contextvars
import fcntl
import io
import logging
import os
import sys
import termios
from typing import Any, Protocol, TextIO, cast

from tqctl_runtime.core.attempt import clean_text

_READ = 65_536


class HeadTail:
    """The first and the last bytes of a stream, together at most *limit*."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head = bytearray()
        self._tail = bytearray()
        self.total = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self.total += len(data)
        room = self._half - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if data:
            self._tail += data
            if len(self._tail) > 4 * self._half:  # cut rarely: each cut moves the rest
                del self._tail[: -self._half]

    def take(self) -> tuple[bytes, int]:
        """(what is kept with a line where bytes are missing, how many are missing); begins anew."""
        head, tail = bytes(self._head), bytes(self._tail[-self._half :])
        dropped = self.total - len(head) - len(tail)
        self._head.clear()
        self._tail.clear()
        self.total = 0
        return clean_log(head + cut_line(dropped) + tail), dropped


def cut_line(dropped: int) -> bytes:
    """The line that stands in a log where *dropped* bytes are missing; nothing where none are."""
    return f"\n[{dropped} bytes not kept]\n".encode() if dropped else b""


def clean_log(data: bytes) -> bytes:
    """*data* as UTF-8 text that every store can hold."""
    return clean_text(data.decode("utf-8", "replace")).encode() if data else data


class Sink(Protocol):
    """Where the output of one task of the async executor goes."""

    def write_log(self, text: str) -> None:
        """Take the next text."""


#: Set in the context of each async attempt, so that its own sub-tasks write to the same log.
sink: contextvars.ContextVar[Sink | None] = contextvars.ContextVar("tqctl_log_sink", default=None)


class Router(io.TextIOBase):
    """A text stream that writes to the log of the async attempt it is used in, else to *inner*.

    It stands in for ``sys.stdout`` before the user's modules are imported, since logging handlers keep the object.
    """

    def __init__(self, inner: TextIO) -> None:
        super().__init__()
        self.inner = inner
        #: Whether something may stand in the buffers of *inner*.
        self.is_dirty = False

    def write(self, text: str) -> int:
        """Write *text* where it belongs now."""
        target = sink.get()
        if target is None:
            self.is_dirty = True
            return self.inner.write(text)
        target.write_log(text)
        return len(text)

    def flush(self) -> None:
        """Flush *inner*."""
        self.inner.flush()

    def close(self) -> None:
        """Do nothing: the stream belongs to the executor, and the next task needs it."""

    def writable(self) -> bool:
        """Say yes."""
        return True

    def fileno(self) -> int:
        """The descriptor of *inner*."""
        return self.inner.fileno()

    def isatty(self) -> bool:
        """Say no: what is written is kept, not shown."""
        return False

    @property
    def buffer(self) -> Any:
        """The bytes below *inner*."""
        self.is_dirty = True
        return self.inner.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of *inner*."""
        return self.inner.encoding


def install_routers() -> tuple[Router, Router]:
    """Put routers in the place of stdout and stderr of this process."""
    out = sys.stdout if isinstance(sys.stdout, Router) else Router(sys.stdout)
    err = sys.stderr if isinstance(sys.stderr, Router) else Router(sys.stderr)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    return out, err


def configure_logging() -> None:
    """Let records of level INFO reach the log, unless the user's modules set logging up themselves."""
    root = logging.getLogger()
    if not root.handlers:
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")


class PipeCapture:
    """Descriptors 1 and 2 of a sync executor lead into a pipe that executor and supervisor can both read.

    The supervisor reads only while it knows that no other task can start, so bytes never go to the wrong attempt.
    """

    def __init__(self, read_fd: int, write_fd: int, routers: tuple[Router, Router], limit: int) -> None:
        os.dup2(write_fd, 1)
        os.dup2(write_fd, 2)
        os.close(write_fd)
        self._fd = read_fd
        self._routers = routers
        self._out, self._err = routers
        self._limit = limit
        self._waiting = array.array("i", [0])
        self._lead()

    def _lead(self) -> None:
        """Lead Python's streams into the pipe."""
        for fd, router in zip((1, 2), self._routers, strict=True):
            router.inner = _open_text(fd)
            router.is_dirty = False
        sys.stdout, sys.stderr = cast(tuple[TextIO, TextIO], self._routers)

    def begin(self) -> None:
        """Undo what the task before did to ``sys.stdout`` and ``sys.stderr``."""
        if sys.stdout is not self._out or sys.stderr is not self._err:
            self._lead()

    def end(self) -> tuple[bytes, int]:
        """(log, bytes dropped) of what the task wrote and nobody has read yet."""
        if self._out.is_dirty or self._err.is_dirty:
            self._flush()
        waiting = self._waiting
        fcntl.ioctl(self._fd, termios.FIONREAD, waiting)
        if not waiting[0]:
            return b"", 0
        kept = HeadTail(self._limit)
        for chunk in drain(self._fd):
            kept.feed(chunk)
        return kept.take()

    def _flush(self) -> None:
        for router in self._routers:
            if router.inner.closed:
                self._lead()
            router.inner.flush()
            router.is_dirty = False


def _open_text(fd: int) -> TextIO:
    raw = open(fd, "wb", buffering=8192, closefd=False)  # noqa: SIM115  lives as long as the executor
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", line_buffering=True)


def drain(fd: int, at_most: int = 4 * 1_048_576) -> list[bytes]:
    """What the pipe *fd*, which does not block, holds now; up to *at_most* bytes."""
    chunks: list[bytes] = []
    size = 0
    while size < at_most:
        try:
            chunk = os.read(fd, _READ)
        except BlockingIOError:
            break
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return chunks
