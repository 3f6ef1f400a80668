"""How long a submit waits, and what it says meanwhile: for a busy broker, and for the record.

Nothing here may import redis-py, SQL or asyncio; a subprocess test holds the list.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from tqctl_runtime.client.receipts import NoRecorder
from tqctl_runtime.core.errors import Busy, TqctlError

if TYPE_CHECKING:
    from tqctl_runtime.client.receipts import Durability, Posted
    from tqctl_runtime.client.sync import Client
    from tqctl_runtime.core.submission import Submission

#: Seconds that a batch waits for a busy broker each time, unless told otherwise; what is left can be resumed.
OF_A_BATCH = 60.0
#: A recorder gives a sign each second, ms.
_SILENT_MS = 2_500


class Sender(Protocol):
    """What takes tasks: a client, or what stands in for one."""

    def post(self, wishes: Sequence[Submission], *, durability: Durability) -> Posted:
        """Hand over one call of tasks."""

    def confirm(self, posted: Posted, *, is_bulk: bool, waiting: Callable[[], None] | None) -> None:
        """Wait for the record of one call."""


class Patience:
    """Posts to a broker that may be busy, for *seconds* each time, and tells *say* so once.

    *is_asked*: somebody chose the time. Else nobody waits for a recorder before anything was queued.
    """

    def __init__(self, seconds: float, say: Callable[[str], None], *, is_asked: bool) -> None:
        self._seconds = seconds
        self._say = say
        self._needs_no_recorder = is_asked
        self._has_told = False

    def post(self, sender: Sender, wishes: Sequence[Submission], durability: Durability) -> Posted:
        """Post *wishes* as soon as they are taken.

        Raises:
            Busy: they were not within the time.
            TqctlError: as ``Client.post``.
        """
        give_up, is_last = time.monotonic() + self._seconds, self._seconds <= 0
        while True:
            try:
                posted = sender.post(wishes, durability=durability)
                self._needs_no_recorder = True
                return posted
            except Busy as error:
                if is_last or (isinstance(error, NoRecorder) and not self._needs_no_recorder):
                    raise
                self._tell(error)
                left = max(0.0, give_up - time.monotonic())
                is_last = left <= error.retry_after
                time.sleep(min(error.retry_after, left))

    def _tell(self, error: Busy) -> None:
        if not self._has_told:
            from tqctl_runtime.core.clock import format_duration

            self._say(f"{error.message}; trying again for {format_duration(self._seconds * 1000)}")
            self._has_told = True


def patience(block: str | None, default: float, say: Callable[[str], None]) -> Patience:
    """The patience that ``--block`` asks for, of *default* seconds where it does not."""
    if block is None:
        return Patience(default, say, is_asked=False)
    from tqctl_runtime.core.clock import parse_duration_ms

    return Patience(parse_duration_ms(block) / 1000, say, is_asked=True)


def obstacle(client: Client) -> str:
    """What a wait for the record waits for, such as ``it is 1,200 rows (0.4 MiB) behind``."""
    from tqctl.sending import read_overview
    from tqctl_runtime.broker.lag import lag_of
    from tqctl_runtime.core.clock import format_duration

    try:
        overview = read_overview(client)
    except TqctlError as error:
        return error.message
    lag, silent = lag_of(overview, 0), overview.now - overview.watermark.at
    if lag.cause is None and silent > _SILENT_MS:
        return f"its recorder gave no sign for {format_duration(silent)}"
    return lag.cause or (f"it is {lag.behind}" if lag.rows else "it is there now")


def not_recorded(client: Client) -> str:
    """That what was queued is not recorded: why, and the command that helps."""
    from tqctl.sending import read_overview
    from tqctl_runtime.broker.lag import lag_of

    said = "accepted by the broker, not recorded"
    try:
        lag = lag_of(read_overview(client), 0)
    except TqctlError as error:
        return f"{said}: {error.message}"
    if lag.cause is None:
        return f"{said} when it was looked for: its recorder was away and is back; tqctl status"
    return f"{said}: {lag.cause}; {'tqctl doctor' if lag.has_leader else 'start one: tqctl coordinator start'}"
