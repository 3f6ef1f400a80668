"""tqctl with faults in its own client: ``python hooked.py worker start …``, told by ``TQ_CHAOS_HOOKS`` (JSON).

``{"faults": SEED, "rate": 0.05, "sql_rate": 0.01}`` lets that share of all calls, subscriptions and messages, and of
all statements of the record, fail in one of four ways: refused before it is sent, carried out and then answered by an
error, late, or carried out twice (a statement: answered by an error). The pruner works each half second then,
and results are kept for waiters for one second. ``{"deaf": FILE}`` keeps a worker's heartbeats from being sent while
FILE exists.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from tqctl_runtime.broker.link import Link
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator import recorder, roles
from tqctl_runtime.core.errors import BrokerTimeout, BrokerUnavailable, RecordUnavailable
from tqctl_runtime.record.database import Database

HOOKS = "TQ_CHAOS_HOOKS"
#: What starts this program in the place of tqctl.
COMMAND = [sys.executable, __file__]
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
    """Let calls, commands and subscriptions over *target*, one connection or all, meet faults."""
    for verb in ("call", "command", "subscribe"):
        setattr(target, verb, _infected(getattr(target, verb), dice, is_repeatable=verb != "subscribe"))


def _infected(send: Callable[..., Any], dice: Dice, *, is_repeatable: bool) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        name, kind = _name(args), dice.throw()
        if kind == "before":
            raise lost(name)
        if kind == "late":
            time.sleep(dice.delay())
        reply = send(*args, **options)
        if kind == "after" or (kind == "twice" and not is_repeatable):
            with contextlib.suppress(AttributeError):
                reply.close()
            raise unanswered(name)
        if kind == "twice":
            again = send(*args, **options)
            return again if dice.coin() else reply
        return reply

    return call


def infect_links(dice: Dice) -> None:
    """Let calls and commands over all asynchronous connections meet faults, and what their subscriptions hear."""
    for verb in ("call", "command", "blocking", "_heard"):
        setattr(Link, verb, _infected_async(getattr(Link, verb), dice, is_repeatable=verb in ("call", "command")))


def _infected_async(send: Callable[..., Any], dice: Dice, *, is_repeatable: bool) -> Callable[..., Any]:
    async def call(*args: Any, **options: Any) -> Any:
        name, kind = _name(args), dice.throw()
        if kind == "before":
            raise lost(name)
        if kind == "late":
            await asyncio.sleep(dice.delay())
        reply = await send(*args, **options)
        if kind == "after" or (kind == "twice" and not is_repeatable):
            raise unanswered(name)
        if kind == "twice":
            again = await send(*args, **options)
            return again if dice.coin() else reply
        return reply

    return call


def _name(args: Sequence[Any]) -> str:
    """What is sent, for the message of its fault."""
    return next((str(arg.name) for arg in args if hasattr(arg, "name")), "a command")


def infect_records(dice: Dice) -> None:
    """Let the statements of the record, COMMIT too, meet faults; the connection goes with each, as with a real one."""
    for verb in ("execute", "rows"):
        setattr(Database, verb, _infected_statement(getattr(Database, verb), dice))


def _infected_statement(send: Callable[..., Any], dice: Dice) -> Callable[..., Any]:
    def run(database: Database, statement: str, *values: Any) -> Any:
        kind = dice.throw()
        if kind == "late":
            time.sleep(dice.delay())
        if kind != "before":
            reply = send(database, statement, *values)
        if kind in (None, "late"):
            return reply
        database.disconnect()
        what = "was not sent" if kind == "before" else "was carried out, its answer is lost"
        raise RecordUnavailable(f"injected: {statement.partition(' ')[0]} {what}")

    return run


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
        infect_records(Dice(f"sql {hooks['faults']} {hooks.get('number')}", hooks.get("sql_rate", 0.0)))
        roles.PRUNE_INTERVAL, recorder.WAIT_MS = 0.5, 1_000
    if "deaf" in hooks:
        make_deaf(Path(hooks["deaf"]))
    from tqctl.__main__ import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
