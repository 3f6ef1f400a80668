"""``doctor``: looks at everything a context stands on, now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqctl_runtime.checks import Finding, Scene, look

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings


def run_checks(settings: Settings) -> list[Finding]:
    """One finding at least for each check: level ``ok``, ``problem``, or ``skipped`` where it could not look.

    Makes nothing on disk and changes nothing.
    """
    with Scene(settings) as scene:
        return look(scene)
