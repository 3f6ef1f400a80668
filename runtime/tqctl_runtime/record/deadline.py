"""Ends waits for a server that says nothing: psycopg would wait for ever, and a leader must not."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

#: Seconds between two looks at the clock.
_PULSE = 0.5


class Deadline:
    """Shuts the socket of a connection down when work on it takes longer than *seconds*.

    *fileno* gives the socket while there is a connection. A thread looks at the clock while there is work.
    """

    def __init__(self, seconds: float, fileno: Callable[[], int | None]) -> None:
        self.seconds = seconds
        self._fileno = fileno
        self._until: float | None = None
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """The time for everything inside; what runs inside of that shares it."""
        if self._until is not None:
            yield
            return
        self._until = time.monotonic() + self.seconds
        self._start()
        try:
            yield
        finally:
            self._until = None

    def close(self) -> None:
        """Stop looking."""
        thread, self._thread = self._thread, None
        self._closed = True
        self._wake.set()
        if thread is not None:
            thread.join()

    def _start(self) -> None:
        if self._thread is None:
            self._closed = False
            self._wake.clear()
            self._thread = threading.Thread(target=self._watch, name="sql deadline", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._wake.wait(min(_PULSE, self.seconds)) and not self._closed:
            until = self._until
            if until is not None and time.monotonic() > until:
                self._break()

    def _break(self) -> None:
        number = self._fileno()
        if number is None:
            return
        # A copy: the connection's own descriptor stays its owner's to close.
        with suppress(OSError), socket.socket(fileno=os.dup(number)) as end:
            end.shutdown(socket.SHUT_RDWR)
