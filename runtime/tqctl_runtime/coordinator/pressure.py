"""Back-pressure: the leader writes each second at which marks submits and claims are refused."""

from __future__ import annotations

from tqctl_runtime.broker.leader_calls import is_memory_short, server_info, set_marks
from tqctl_runtime.coordinator.roles import Tools
from tqctl_runtime.observe.logging import get_logger

INTERVAL = 1.0
_log = get_logger("pressure")


class Pressure:
    """Writes the marks of the settings and whether memory is short."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._was_short = False

    def run_once(self) -> int:
        """Look at the server's memory and write the marks; nothing is ever left to do at once.

        Raises:
            LeaseLost: the term is over.
        """
        tools, settings = self._tools, self._tools.settings
        is_short = is_memory_short(tools.wire.call_idempotent(server_info("memory")))
        if is_short != self._was_short:
            _log.warning("memory is short: submits answer busy" if is_short else "memory suffices again")
            self._was_short = is_short
        end = tools.wire.call_idempotent(
            set_marks(
                tools.keys,
                term=tools.term,
                busy_rows=settings.busy_rows,
                busy_bytes=settings.busy_bytes,
                stop_rows=settings.stop_rows,
                stop_bytes=settings.stop_bytes,
                is_memory_short=is_short,
            )
        )
        tools.recoveries.saw_journal(end)
        return 0
