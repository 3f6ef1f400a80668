"""Every system that is measured, in the order of the table."""

from __future__ import annotations

from tests.bench.systems.base import System
from tests.bench.systems.floors import Floor, Interpreter
from tests.bench.systems.peers import Dramatiq, Huey, Pgqueuer, Rq
from tests.bench.systems.tqctl import Tqctl


def all_systems() -> list[System]:
    """New objects: ours on both pairs, the peers, the floors."""
    return [
        Tqctl("embedded"),
        Tqctl("servers"),
        Huey(),
        Dramatiq(),
        Pgqueuer(),
        Rq(),
        Floor("single"),
        Floor("lua"),
        Interpreter(),
    ]
