"""The record is not far behind."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.broker.lag import lag_of, oldest_missing
from tqctl_runtime.checks.coordinator import leader_is_still
from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene

#: Rows that a recorder works off within a second.
_ROWS = 20_000


def check(scene: Scene) -> Iterator[Finding]:
    """How far it is, why nothing is recorded where that is so, and the marks of back-pressure that are reached."""
    overview = scene.overview
    if overview is None:
        yield skipped("no open namespace")
        return
    oldest = scene.wire.call(oldest_missing(scene.keys, overview)) if scene.wire and overview.lag_rows > 0 else 0
    lag = lag_of(overview, oldest)
    behind = lag.behind or "nothing behind"
    still = leader_is_still(scene.settings, overview)
    if still is not None:
        yield problem(f"{still.message}; {behind}", still.hint)
    elif lag.cause is not None:
        yield problem(f"nothing is recorded: {lag.cause}; {behind}", "tqctl status --logs coordinator")
    elif lag.rows > _ROWS:
        yield problem(f"{behind}: the recorder cannot keep up", "look at the load of the database")
    else:
        yield ok(behind)
    for line in lag.pressure:
        yield problem(line, "look at the checks record, coordinator and memory")
