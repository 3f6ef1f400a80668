"""A TCP proxy that can be slow, silent or broken: partitions and half-open links without root."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Literal, Self
from urllib.parse import urlsplit, urlunsplit

Direction = Literal["up", "down"]
BOTH: tuple[Direction, Direction] = ("up", "down")


class Proxy:
    """Forwards a loopback port to the server of *url*; ``up`` is towards the server.

    Use it as a context manager. Every method may be called from any thread at any time.
    """

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._flows: dict[Direction, threading.Event] = {"up": threading.Event(), "down": threading.Event()}
        self._open = threading.Event()
        self._delay = 0.0
        self._never = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._stranded: set[socket.socket] = set()
        self._closed = False
        self.accepted = 0
        self.resume()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The server's URL with our port in place of its own; the same after :meth:`retarget`."""
        port = self._listener.getsockname()[1]
        credentials = self._target.netloc.rpartition("@")[0]
        netloc = f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}"
        return urlunsplit(self._target._replace(netloc=netloc))

    def pause(self, *directions: Direction) -> None:
        """Hold all bytes in *directions* (both if none is named); connections stay open: a half-open link."""
        for direction in directions or BOTH:
            self._flows[direction].clear()

    def resume(self) -> None:
        """Let held bytes go on, and new connections in."""
        self._open.set()
        for flow in self._flows.values():
            flow.set()

    def delay(self, seconds: float) -> None:
        """Hold each chunk of bytes that long, in both directions."""
        self._delay = seconds

    def strand(self) -> None:
        """Lose all bytes of the connections that are open now and tell neither end; new ones are served."""
        with self._lock:
            self._stranded |= self._sockets

    def cut(self) -> None:
        """Reset every open connection; bytes that are held are lost. New connections are served."""
        with self._lock:
            doomed, self._sockets = self._sockets, set()
        for end in doomed:
            with contextlib.suppress(OSError):
                # Linger 0 turns close into a reset, as a crashed peer's kernel answers.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def refuse(self) -> None:
        """Reset open and new connections until :meth:`resume`."""
        self._open.clear()
        self.cut()

    def retarget(self, url: str) -> None:
        """Serve new connections by the server of *url*; open ones are reset."""
        self._target = urlsplit(url)
        self.cut()

    def close(self) -> None:
        """Stop for good."""
        self._closed = True
        self.resume()
        with contextlib.suppress(OSError):
            # Wakes the accepting thread, which closing alone does not.
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._open.is_set():
                near.close()
                continue
            try:
                far = socket.create_connection(
                    (self._target.hostname or "127.0.0.1", self._target.port or 0), timeout=5
                )
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self.accepted += 1
            with self._lock:
                self._sockets |= {near, far}
            for direction, source, sink in (("up", near, far), ("down", far, near)):
                threading.Thread(target=self._pump, args=(direction, source, sink), daemon=True).start()

    def _pump(self, direction: Direction, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if self._delay:
                    self._never.wait(self._delay)
                self._flows[direction].wait()
                if source not in self._sockets:
                    return
                if source in self._stranded:
                    continue
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # The other end is gone: nothing that arrives from now on may be kept waiting for it.
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
