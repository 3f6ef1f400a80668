"""A child process of ``up``: start it, hear how its start went, stop it, start it again after a pause."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tqctl_runtime.core.errors import TqctlError, Unavailable
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.observe.files import tail
from tqctl_runtime.stack.order import Order, read_answer

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
#: A child that lived this long starts its pauses from the beginning, in seconds.
_SETTLED = 60.0
_LOG_LINES = 20


class Child:
    """One role under one name, over all its restarts. *log* is its file."""

    def __init__(self, role: str, name: str, settings: Settings, log: Path, *, detached: bool = False) -> None:
        self.role = role
        self.name = name
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None
        self.is_wanted = True
        self._settings = settings
        self._detached = detached
        self._pipe = -1
        self._heard = b""
        self._pause = _FIRST_PAUSE
        self._started = 0.0
        self._again_at = 0.0

    @property
    def pid(self) -> int:
        """The process id, 0 where it was never started."""
        return self.process.pid if self.process else 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the process; see :meth:`wait_ready`."""
        self._close_pipe()
        self._pipe, theirs = os.pipe()
        parent = 0 if self._detached else os.getpid()
        order = Order(self.role, self.name, self._settings, self.log, parent, theirs)
        try:
            self.process = subprocess.Popen(
                # -P: the working folder holds users' files, which must not shadow a module of ours.
                [sys.executable, "-P", "-m", "tqctl_runtime.stack.service", self.role, self.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs,),
                # Ctrl-C in a terminal is for the parent, which stops its children in order.
                start_new_session=True,
            )
        finally:
            os.close(theirs)
        self._heard = b""
        self._started = time.monotonic()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(order.to_bytes())
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it ended at once: seen by whoever waits for its answer

    def answered(self, seconds: float) -> bool:
        """Whether it said within *seconds* that it is ready.

        Raises:
            TqctlError: it said why it is not, or ended without a word.
        """
        if self._pipe < 0:
            return True
        readable, _, _ = select.select([self._pipe], [], [], seconds)
        if not readable:
            return False
        data = os.read(self._pipe, 65536)
        self._heard += data
        if data and not self._heard.endswith(b"\n"):
            return False
        self._close_pipe()
        error = read_answer(self._heard) if self._heard else self._silent_end()
        if error is not None:
            if not error.hint or "log" not in error.hint:
                error.hint = (f"{error.hint}; " if error.hint else "") + f"its log: {self.log}"
            raise error
        return True

    def _silent_end(self) -> TqctlError:
        assert self.process is not None
        code = self.process.wait()
        said = tail(self.log, _LOG_LINES)
        return Unavailable(f"{self.name} ended at its start with {code}" + (f":\n{said}" if said else ""))

    def is_due(self) -> bool:
        """Whether an ended child is to be started again now; the first question after its end begins the pause."""
        if not self.is_wanted or self.is_alive:
            return False
        now = time.monotonic()
        if not self._again_at:
            if now - self._started > _SETTLED:
                self._pause = _FIRST_PAUSE
            self._again_at = now + self._pause
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        if now < self._again_at:
            return False
        self._again_at = 0.0
        return True

    def send(self, number: signal.Signals) -> None:
        """Signal it where it runs."""
        if self.process is not None and self.is_alive:
            self.process.send_signal(number)

    def close(self) -> None:
        """Forget an ended child."""
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
