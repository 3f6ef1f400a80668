"""How current a list is, and the line that tells its reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqctl_runtime.core.clock import format_duration
from tqctl_runtime.core.errors import BrokerUnavailable
from tqctl_runtime.inspector.live import CATCH_UP

if TYPE_CHECKING:
    from tqctl_runtime.inspector.live import Live

#: A record that is less behind is as good as current, ms.
_TOLERATED_MS = 1_000


class Freshness:
    """Waits a moment for the record before each list; *remark* says what the list may lack, None where nothing."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.remark: str | None = None

    def check(self, seconds: float = CATCH_UP) -> None:
        """Let the record catch up for *seconds* at most, and find out what is to be told."""
        self.remark = None
        if not (self._live.catch_up(seconds) and self._live.is_recorder_alive()):
            self.remark = self._find_remark()

    def note_absence(self) -> None:
        """Tell that only the record was asked, where that is so."""
        absence = self._live.absence
        self.remark = None if absence is None else f"from the record alone: {absence.message}"

    def _find_remark(self) -> str | None:
        try:
            lag = self._live.lag()
        except BrokerUnavailable as error:
            return f"from the record alone: {error.message}"
        if lag.cause is None and lag.ms <= _TOLERATED_MS:
            return None
        age = f"the record is {format_duration(lag.ms)} behind, {lag.rows:,} changes are missing" if lag.rows else ""
        step = "tqctl coordinator start" if not lag.has_leader else "tqctl doctor"
        return "; ".join(part for part in (lag.cause, age, step if lag.cause else "") if part)
