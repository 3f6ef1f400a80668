"""The broker answers and its namespace is open."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.checks.finding import Finding, ok, problem
from tqctl_runtime.checks.pairing import SETTINGS_HINT
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.checks.situation import DOUBTFUL


def check(scene: Scene) -> Iterator[Finding]:
    """Connection and gate."""
    if scene.wire is None:
        error = scene.broker_error
        assert error is not None
        yield problem(error.message, error.hint or "tqctl up --detach")
        return
    if scene.disk_error is not None:
        yield problem(scene.disk_error.message, scene.disk_error.hint or "look for free disk space: df -h")
    address = BrokerAddress.of(scene.settings).display
    if scene.opened is None:
        # Another Redis than the record's: whatever is started here ends at once.
        is_doubtful = scene.standing is not None and scene.standing.situation in DOUBTFUL
        yield problem(
            f"namespace {scene.settings.namespace!r} at {address} is not open",
            SETTINGS_HINT if is_doubtful else "tqctl up --detach, or: tqctl coordinator start",
        )
        return
    yield ok(f"{address} answers, namespace {scene.settings.namespace!r} is open in epoch {scene.opened[0]}")
