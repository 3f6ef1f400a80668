"""The record is not far behind."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.core.clock import format_duration

#: Rows that a recorder works off within a second.
_ROWS = 20_000


def check(scene: Scene) -> Iterator[Finding]:
    """Rows that are decided but not recorded, and the recorder's last sign."""
    overview = scene.overview
    if overview is None:
        yield skipped("no open namespace")
        return
    rows = f"{overview.lag_rows:,} rows not recorded yet"
    if not overview.is_recorder_alive:
        last = overview.watermark.at
        since = f"for {format_duration(overview.now - last)}" if last else "ever"
        yield problem(f"no recorder gave a sign {since}; {rows}", "tqctl status --logs coordinator")
    elif overview.lag_rows > _ROWS:
        yield problem(f"{rows}: the recorder cannot keep up", "look at the load of the database")
    else:
        yield ok(rows)
