"""tqctl with faults in its own client: ``python hooked.py worker start …``, told by ``TQ_CHAOS_HOOKS`` (JSON).

``{"faults": SEED, "rate": 0.05}`` lets that share of all calls fail in one of four ways: refused before it is sent,
carried out and then answered by an error, late, or carried out twice. ``{"deaf": FILE}`` keeps a worker's heartbeats
from being sent while FILE exists.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any, Literal

from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import BrokerTimeout, BrokerUnavailable

HOOKS = "TQ_CHAOS_HOOKS"
Fault = Literal["before", "after", "late", "twice"]
_KINDS: tuple[Fault, ...] = ("before", "after", "late", "twice")
_LONGEST_DELAY = 0.2


class Dice:
    """Chooses a fault for a call, or none. *thrown* counts the faults by kind."""

    def __init__(self, seed: object, rate: float) -> None:
        self._rng = random.Random(f"{seed}")
        self._rate = rate
        self.thrown = dict.fromkeys(_KINDS, 0)

    def throw(self) -> Fault | None:
        """A fault, or None."""
        if self._rng.random() >= self._rate:
            return None
        kind = self._rng.choice(_KINDS)
        self.thrown[kind] += 1
        return kind

    def delay(self) -> float:
        """Seconds for a late call."""
        return self._rng.uniform(0, _LONGEST_DELAY)

    def coin(self) -> bool:
        """Yes or no."""
        return self._rng.random() < 0.5


def lost(name: str) -> BrokerUnavailable:
    """The error of a call that was not sent."""
    return BrokerUnavailable(f"injected: {name} was not sent")


def unanswered(name: str) -> BrokerTimeout:
    """The error of a call that was carried out."""
    return BrokerTimeout(f"injected: {name} was carried out, its answer is lost")


def infect_wire(target: Wire | type[Wire], dice: Dice) -> None:
    """Let calls over *target*, one connection or all, meet faults."""
    send = target.call

    def call(*args: Any) -> Any:
        name, kind = args[-1].name, dice.throw()
        if kind == "before":
            raise lost(name)
        if kind == "late":
            time.sleep(dice.delay())
        reply = send(*args)
        if kind == "after":
            raise unanswered(name)
        if kind == "twice":
            again = send(*args)
            return again if dice.coin() else reply
        return reply

    target.call = call  # type: ignore[assignment]


def infect_links(dice: Dice) -> None:
    """Let the calls of all asynchronous connections meet faults."""
    send: Any = Link.call

    async def call(self: Link, wanted: Any) -> Any:
        kind = dice.throw()
        if kind == "before":
            raise lost(wanted.name)
        if kind == "late":
            await asyncio.sleep(dice.delay())
        reply = await send(self, wanted)
        if kind == "after":
            raise unanswered(wanted.name)
        if kind == "twice":
            again = await send(self, wanted)
            return again if dice.coin() else reply
        return reply

    Link.call = call  # type: ignore[assignment]


def make_deaf(file: Path) -> None:
    """Keep heartbeats from being sent while *file* exists."""
    send: Any = Link.call

    async def call(self: Link, wanted: Any) -> Any:
        while wanted.name == "heartbeat" and file.exists():
            await asyncio.sleep(0.02)
        return await send(self, wanted)

    Link.call = call  # type: ignore[assignment]


def main() -> int:
    """Install what the environment says and be tqctl."""
    hooks = json.loads(os.environ[HOOKS])
    if "faults" in hooks:
        # Each process its own sequence; the same one for the same start.
        dice = Dice(f"{hooks['faults']} {sys.argv[1:]} {hooks.get('number')}", hooks["rate"])
        infect_wire(Wire, dice)
        infect_links(dice)
    if "deaf" in hooks:
        make_deaf(Path(hooks["deaf"]))
    from tqctl.__main__ import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
