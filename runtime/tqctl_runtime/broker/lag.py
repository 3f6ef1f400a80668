"""How far the record is behind the broker, why, and what back-pressure comes of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import COORDINATOR, RECORDER, read_journal
from tqctl_runtime.broker.views import Overview
from tqctl_runtime.core.clock import format_duration

#: A transaction of the recorder takes less, also on a slow database, ms.
_STUCK_MS = 15_000


class Lag(NamedTuple):
    """What is decided and not recorded: journal *rows* and *bytes*, and the age of the oldest in *ms*.

    *silent_ms* is since when the recorder gave no sign, None where it does or never did; *stuck_ms* is how long
    rows wait and none is recorded, None where that may be one slow transaction; *trouble* is what the recorder says
    that it cannot work for. *has_leader*: a coordinator leads. Submits are refused where *is_memory_short*, and by
    the first mark where *is_busy*; *is_stopped*: by the second mark no task is claimed. *record* is where the
    leader says that it records to.
    """

    rows: int
    bytes: int
    ms: int
    silent_ms: int | None
    stuck_ms: int | None
    has_leader: bool
    trouble: str | None
    is_memory_short: bool
    is_busy: bool
    is_stopped: bool
    record: str | None = None

    @property
    def behind(self) -> str:
        """How far, as words such as ``1,200 rows (0.4 MiB) behind, the oldest for 12s``; empty where it is not."""
        if self.rows <= 0:
            return ""
        age = f", the oldest for {format_duration(self.ms)}" if self.ms else ""
        rows = "1 row" if self.rows == 1 else f"{self.rows:,} rows"
        return f"{rows} ({self.bytes / 2**20:.1f} MiB) behind{age}"

    @property
    def cause(self) -> str | None:
        """Why nothing is recorded, None where the recorder works."""
        if not self.has_leader:
            return "no coordinator leads"
        if self.trouble is not None:
            return f"the recorder cannot work: {self.trouble}"
        if self.silent_ms is not None:
            return f"the recorder gave no sign for {format_duration(self.silent_ms)}"
        if self.stuck_ms is not None:
            return f"the recorder gives signs of life and has recorded nothing for {format_duration(self.stuck_ms)}"
        return None

    @property
    def pressure(self) -> list[str]:
        """The marks that are reached, and what comes of them; the harder one first."""
        lines = []
        if self.is_stopped:
            lines.append("second mark reached: workers claim nothing until the record has caught up; what runs goes on")
        if self.is_memory_short:
            lines.append("memory of the server is short: submits answer busy (75)")
        if self.is_busy:
            lines.append("first mark reached: submits answer busy (75) until the record has caught up")
        return lines


def oldest_missing(keys: Keys, overview: Overview) -> Call[int]:
    """When the oldest entry that is not recorded was written, ms by the server's clock; 0 where there is none."""
    read = read_journal(keys, overview.recorded_to, count=1)

    def decode(reply: Any) -> int:
        entries = read.decode(reply)
        return int(entries[0].stream_id.partition("-")[0]) if entries else 0

    return Call("oldest_missing", read.args, decode)


def lag_of(overview: Overview, oldest_at: int) -> Lag:
    """The lag in *overview*, whose oldest missing entry was written at *oldest_at* (ms, 0: none)."""
    meta, now = overview.meta, overview.now
    rows, size = max(overview.lag_rows, 0), max(overview.lag_bytes, 0)
    leader = overview.leaders.get(COORDINATOR)
    has_leader = leader is not None and leader.until > now
    info = overview.coordinators.get(leader.holder, {}) if leader is not None else {}
    last = overview.watermark.at
    is_silent = not overview.is_recorder_alive
    waited = min(now - oldest_at, now - overview.moved_at) if rows and oldest_at and overview.moved_at else 0
    is_stuck = waited > _STUCK_MS

    def beyond(mark: str) -> bool:
        wanted_rows, wanted_bytes = meta.get(f"{mark}_rows"), meta.get(f"{mark}_bytes")
        return bool((wanted_rows and rows >= int(wanted_rows)) or (wanted_bytes and size >= int(wanted_bytes)))

    return Lag(
        rows=rows,
        bytes=size,
        ms=max(now - oldest_at, 0) if oldest_at and rows else 0,
        silent_ms=now - last if is_silent and last else None,
        stuck_ms=waited if is_stuck else None,
        has_leader=has_leader,
        # What it said last is old news once it gave a sign of life, unless rows wait all the same.
        trouble=dict(info.get("roles", {})).get(RECORDER) if is_silent or is_stuck else None,
        is_memory_short=meta.get("memory_busy") == "1",
        is_busy=beyond("busy"),
        is_stopped=beyond("stop"),
        record=info.get("record") if has_leader else None,
    )
