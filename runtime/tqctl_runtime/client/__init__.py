"""Clients: submit tasks and wait for them, blocking (``Client``) or in an event loop (``AsyncClient``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tqctl_runtime.client.receipts import Durability, PartlySubmitted, Receipt, Unconfirmed
from tqctl_runtime.client.sync import Client

if TYPE_CHECKING:
    from tqctl_runtime.client.asynchronous import AsyncClient

__all__ = ["AsyncClient", "Client", "Durability", "PartlySubmitted", "Receipt", "Unconfirmed"]


def __getattr__(name: str) -> Any:
    if name == "AsyncClient":  # asyncio and redis-py would double the start of a submit from the shell
        from tqctl_runtime.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
