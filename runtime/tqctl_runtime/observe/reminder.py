"""How often a process says that it still waits for the same thing."""

from __future__ import annotations

_FIRST, _LONGEST = 1.0, 30.0


class Reminder:
    """Says a thing at once, then again after 1, 2, 4 … seconds, in the end each 30 s."""

    def __init__(self) -> None:
        self._said = ""
        self._again_at = 0.0
        self._pause = _FIRST

    def is_due(self, message: str, now: float) -> bool:
        """Whether *message* is to be said at *now*, seconds of a clock that never jumps; a new one always is."""
        if message != self._said:
            self._said, self._pause = message, _FIRST
        elif now < self._again_at:
            return False
        self._again_at = now + self._pause
        self._pause = min(self._pause * 2, _LONGEST)
        return True
