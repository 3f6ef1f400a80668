"""The health role: runs every check again and again, and keeps what it found and what was recovered from."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqctl_runtime.checks import Scene, look
from tqctl_runtime.checks.finding import OK, PROBLEM, SKIPPED
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.errors import RecordUnavailable
from tqctl_runtime.observe.logging import get_logger
from tqctl_runtime.record.health import Result

if TYPE_CHECKING:
    from tqctl_runtime.checks import Finding
    from tqctl_runtime.coordinator.roles import Tools

#: Seconds between two runs of the checks.
LOOK_SECONDS = 30.0
#: Seconds before the first run: a stack that just starts has no workers yet.
FIRST_LOOK_SECONDS = 10.0
#: A check that was not run for this long begins anew, ms.
GAP_MS = 90_000
#: Runs that wait for SQL at most: an hour of them.
_WAITING = 120
_log = get_logger("health")


class Health:
    """Runs the checks each :data:`LOOK_SECONDS`; what SQL does not take now waits."""

    def __init__(self, tools: Tools, *, first_look: float = FIRST_LOOK_SECONDS) -> None:
        self._tools = tools
        self._waiting: deque[tuple[int, list[Result]]] = deque(maxlen=_WAITING)
        self._next_look = time.monotonic() + first_look
        self._levels: dict[str, str] = {}

    def run_once(self, now: int = 0) -> int:
        """Look where it is time, and write what waits; *now* (ms) stands in for this machine's clock in tests.

        Raises:
            LeaseLost: the term is over.
        """
        if now or time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + LOOK_SECONDS
            self._look(now or now_ms())
        try:
            self._tools.recoveries.flush(self._tools.store)
            while self._waiting:
                at, results = self._waiting[0]
                self._tools.store.health.save(at, results, term=self._tools.term, gap_ms=GAP_MS)
                self._waiting.popleft()
        except RecordUnavailable:
            # The recorder tells of it; what was seen is written when SQL is back.
            return 0
        return 0

    def _look(self, at: int) -> None:
        with Scene(self._tools.settings) as scene:
            results = summarise(look(scene))
        self._waiting.append((at, results))
        for name, level, message, hint in results:
            if level != self._levels.get(name, OK) and PROBLEM in (level, self._levels.get(name)):
                tell = _log.warning if level == PROBLEM else _log.info
                tell("a check changed", check=name, level=level, message=message, hint=hint or None)
            self._levels[name] = level


def summarise(findings: Sequence[Finding]) -> list[Result]:
    """One result for each check: its problems if it has any, else what is well, else why it could not look."""
    by_check: dict[str, list[Finding]] = {}
    for finding in findings:
        by_check.setdefault(finding.check, []).append(finding)
    results = []
    for name, found in by_check.items():
        level = next(level for level in (PROBLEM, OK, SKIPPED) if any(item.level == level for item in found))
        chosen = [item for item in found if item.level == level]
        hint = next((item.hint for item in chosen if item.hint), "")
        results.append(Result(name, level, "; ".join(item.message for item in chosen), hint))
    return results
