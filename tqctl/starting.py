"""The settings of processes that a command is about to start."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqctl.session import Session
    from tqctl_runtime.core.settings import Settings


def settings_for_start(session: Session, *, logs_here: bool = True) -> Settings:
    """The settings of a process that is about to run; ``-v`` sets what its log tells, as does ``-q`` one told here.

    With *logs_here* false the log goes to a file, which ``-q`` leaves as it is.
    """
    settings = session.settings
    if session.flags.verbose:
        return replace(settings, log_level="debug")
    if session.flags.quiet and logs_here:
        return replace(settings, log_level="warning")
    return settings
