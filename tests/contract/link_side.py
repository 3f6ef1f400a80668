"""Calls for the contract of the two clients, and a link behind the face of a wire."""

from __future__ import annotations

import asyncio
import secrets
from hashlib import sha1
from typing import Any

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.scripts import Script

KEY = "{tq:wire-and-link}:key"


def plain(*words: Any, timeout: float = 5.0) -> Call[Any]:
    return Call("plain", words, lambda reply: reply, timeout=timeout)


def script(source: str, *args: Any, timeout: float = 5.0) -> Call[Any]:
    return Call(
        "script", args, lambda reply: reply, Script("script", source, sha1(source.encode()).hexdigest()), KEY, timeout
    )


def unseen_script(*args: Any) -> Call[Any]:
    """A script that no server has in its cache; it returns its first argument."""
    return script(f"-- {secrets.token_hex(8)}\nreturn ARGV[1]", *args)


class AsyncioWire:
    """A link behind the face of a wire, so that one test holds both to the same contract."""

    def __init__(self, address: BrokerAddress, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._link = self._runner.run(self._make(address, options))

    async def _make(self, address: BrokerAddress, options: dict[str, Any]) -> Link:
        return Link(address, **options)

    def call(self, call: Call[Any]) -> Any:
        return self._runner.run(self._link.call(call))

    def call_idempotent(self, call: Call[Any], *, patience: float = 10.0) -> Any:
        return self._runner.run(self._link.call_idempotent(call, patience=patience))

    def close(self) -> None:
        self._runner.run(self._link.aclose())
        self._runner.close()
