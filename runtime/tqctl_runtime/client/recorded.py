"""What only the record can tell a client: how a task ended that Redis has forgotten."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from tqctl_runtime.client.outcomes import Ended
from tqctl_runtime.core.errors import ConfigError, RecordUnavailable
from tqctl_runtime.core.states import FINAL

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record import Store


class EndReader:
    """Reads ends of tasks from the record; opens it, and imports what that takes, at the first need."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store: Store | None = None
        self._turn = threading.Lock()
        self._pid = os.getpid()

    def read(self, task_id: str) -> Ended | None:
        """How *task_id* ended; None where the record does not know it, or not its end.

        Raises:
            RecordUnavailable: the record cannot be reached from here.
        """
        self._after_fork()
        with self._turn:
            try:
                task = self._open().lookup.task(task_id)
            except (RecordUnavailable, ConfigError) as error:
                raise RecordUnavailable(
                    f"the end of task {task_id} is only in the record, which this client cannot read: {error}",
                    hint="set TQCTL_DATABASE_URL, or submit with watched=True and wait within a minute of the end",
                ) from error
        return None if task is None or task.state not in FINAL else Ended.of_task(task)

    def close(self) -> None:
        """Close the record."""
        self._after_fork()
        with self._turn:
            store, self._store = self._store, None
            if store is not None:
                store.close()

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            # The parent still uses the connection, and its lock may be held by a thread that is not here.
            self._pid = os.getpid()
            self._turn = threading.Lock()
            self._store = None

    def _open(self) -> Store:
        if self._store is None:
            from tqctl_runtime.record import open_store

            self._store = open_store(self._settings, read_only=True)
        return self._store
