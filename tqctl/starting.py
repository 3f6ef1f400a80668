"""The settings of processes that a command is about to start."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqctl.session import Session
    from tqctl_runtime.core.settings import Settings


def settings_for_start(session: Session) -> Settings:
    """The settings of a process that is about to run; ``-v`` and ``-q`` set what its log tells."""
    settings = session.settings
    if session.flags.verbose:
        return replace(settings, log_level="debug")
    if session.flags.quiet:
        return replace(settings, log_level="warning")
    return settings
