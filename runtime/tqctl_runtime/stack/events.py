"""What ``up`` recovered from, told to the record: beside its work, and again until SQL takes it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.observe.logging import get_logger

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.health import RecoveryNote

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
#: Events that wait at most; nobody reads more of a stack that restarts all the time.
_WAITING = 100
_log = get_logger("up")


class EventWriter:
    """Writes recovery events in a thread that lives while there are some. :meth:`note` never waits."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._waiting: deque[RecoveryNote] = deque(maxlen=_WAITING)
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def note(self, kind: str, subject: str, message: str) -> None:
        """Keep an event of now."""
        from tqctl_runtime.record.health import RecoveryNote

        with self._lock:
            self._waiting.append(RecoveryNote(kind, subject, message, None, now_ms()))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="events", daemon=True)
                self._thread.start()

    def close(self, seconds: float) -> None:
        """Stop after one more try, which may take *seconds*."""
        self._stop.set()
        thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            with self._lock:
                waiting = list(self._waiting)
                if not waiting:
                    self._thread = None
                    return
            try:
                self._write(waiting)
            except Exception as error:  # noqa: BLE001  an event is never worth a failure
                _log.debug("events wait for the record", error=str(error))
                if self._stop.wait(pause):
                    return
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                with self._lock:
                    for item in waiting:
                        if self._waiting and self._waiting[0] is item:
                            self._waiting.popleft()

    def _write(self, waiting: list[RecoveryNote]) -> None:
        from tqctl_runtime.record import open_store

        with open_store(self._settings) as store:
            store.health.note_all(waiting)
