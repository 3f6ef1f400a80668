"""The promoter: what is due becomes queued, what was not started in time expires."""

from __future__ import annotations

from tqctl_runtime.broker.leader_calls import promote
from tqctl_runtime.coordinator.roles import Tools

#: Seconds a due task may wait for this role.
INTERVAL = 0.2
_CHUNK = 500


class Promoter:
    """Moves due tasks in chunks."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def run_once(self, now: int = 0) -> int:
        """Look at one chunk of due and late tasks; *now* (ms) stands in for the server's clock in tests.

        Raises:
            LeaseLost: the term is over.
        """
        tools = self._tools
        _, looked_at = tools.wire.call_idempotent(promote(tools.keys, term=tools.term, limit=_CHUNK, now=now))
        return looked_at
