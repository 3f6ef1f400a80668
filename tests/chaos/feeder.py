"""A client in a thread that goes on submitting while the world is hurt, and knows what was acknowledged."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from tests.chaos.stage import PATIENCE
from tqctl_runtime.client import Client
from tqctl_runtime.client.receipts import Durability, Unconfirmed
from tqctl_runtime.core.errors import Busy, Pending, Unavailable

#: (handler, payload, options) of one task.
Wanted = tuple[str, dict[str, Any], dict[str, Any]]
_PAUSE = 0.05


class Feeder:
    """Submits *wanted* in calls of *at_once*, as far as it is allowed; a call of doubtful outcome is sent again."""

    def __init__(self, client: Client, wanted: Sequence[Wanted], *, at_once: int = 20, durability: str = "accepted"):
        self._client = client
        self._wanted = wanted
        self._at_once = at_once
        self._durability: Durability = durability  # type: ignore[assignment]
        self._allowed = 0
        self._more = threading.Condition()
        self._is_over = False
        self._error: BaseException | None = None
        self.acknowledged: list[str] = []
        #: Calls that were refused as busy, and calls of doubtful outcome.
        self.busy = self.doubtful = self.failed = 0
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self.allow(0)
        self._thread.join(timeout=30)

    def allow(self, count: int) -> None:
        """Let the first *count* tasks be submitted."""
        with self._more:
            self._allowed = max(self._allowed, count)
            self._more.notify_all()

    def finish(self, *, only_allowed: bool = False) -> list[str]:
        """Submit all that is left, or that was allowed; the ids of everything, each acknowledged."""
        with self._more:
            self._wanted = self._wanted[: self._allowed] if only_allowed else self._wanted
        self.allow(len(self._wanted))
        self._thread.join(timeout=PATIENCE)
        if self._error is not None:
            raise self._error
        assert not self._thread.is_alive(), f"the feeder hangs at {len(self.acknowledged)} of {len(self._wanted)}"
        return self.acknowledged

    def _run(self) -> None:
        try:
            while not self._is_over and len(self.acknowledged) < len(self._wanted):
                done = len(self.acknowledged)
                with self._more:
                    self._more.wait_for(partial(self._may_go_on, done))
                end = min(self._allowed, done + self._at_once)
                if end > done:
                    self._send(self._wanted[done:end])
        except BaseException as error:  # noqa: BLE001  told by finish()
            self._error = error

    def _may_go_on(self, done: int) -> bool:
        return self._is_over or self._allowed > done or done >= len(self._wanted)

    def _send(self, part: Sequence[Wanted]) -> None:
        wishes = [self._client.prepare(name, payload, **options) for name, payload, options in part]
        while not self._is_over:
            try:
                self._client.send(wishes, durability=self._durability)
            except Busy:
                self.busy += 1
            except (Unconfirmed, Pending):
                self.doubtful += 1
            except Unavailable:
                self.failed += 1
            else:
                self.acknowledged += [wish.id for wish in wishes]
                return
            with self._more:
                self._more.wait(_PAUSE)
