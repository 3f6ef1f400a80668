"""The folder of the context: ours alone."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.broker.locks import check_private
from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.core.errors import ConfigError


def check(scene: Scene) -> Iterator[Finding]:
    """Owner and mode of the folder."""
    home = scene.settings.context_home
    if not home.exists():
        yield skipped(f"{home} does not exist yet")
        return
    try:
        check_private(home)
    except ConfigError as error:
        yield problem(error.message, error.hint or "set TQCTL_HOME")
        return
    yield ok(f"{home} is private")
