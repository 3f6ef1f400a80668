"""The private server as one start sees it: joined, or started here and stopped again when the start fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from tqctl_runtime.broker import embedded
from tqctl_runtime.core.errors import Unavailable
from tqctl_runtime.observe import registry

if TYPE_CHECKING:
    from tqctl_runtime.broker.address import BrokerAddress
    from tqctl_runtime.core.settings import Settings


def join(settings: Settings) -> tuple[BrokerAddress, bool]:
    """The broker's address, and whether this call started the private server.

    Raises:
        ConfigError: the folder is not safe, or there is no server to start.
        BrokerUnavailable: it did not start in time.
    """
    started: list[bool] = []
    address = embedded.ensure_started(settings, on_start=lambda: started.append(True))
    return address, bool(started)


def stop_unless_used(settings: Settings, tell: Callable[[str], None]) -> None:
    """Stop the private server; where other processes of the context live, or it does not stop, *tell* says so."""
    others = [info for info in registry.living(settings) if info.pid != os.getpid()]
    if others:
        tell(f"the private server stays: {', '.join(info.name for info in others)} use it")
        return
    try:
        embedded.shutdown(settings)
    except Unavailable as error:
        tell(f"the private server does not stop: {error.message}")
