"""What completion scripts ask while a key is pressed: live names, within a budget, and nothing on any error."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.wire import Wire

#: Seconds the broker gets for its answer; a person waits for it with a finger on the key.
BUDGET = 0.15
_MOST = 200


def complete(words: Sequence[str]) -> int:
    """Print the names of kind ``words[0]`` that begin with ``words[1]``, one a line; always returns 0."""
    kind, prefix = words[0] if words else "", words[1] if len(words) > 1 else ""
    try:
        names = sorted({name for name in _NAMES[kind]() if name.startswith(prefix)})[:_MOST]
    except Exception:  # noqa: BLE001  an error message in the middle of somebody's typing helps nobody
        names = []
    sys.stdout.write("".join(f"{name}\n" for name in names if name.isprintable()))
    sys.stdout.flush()
    return 0


def _give_up(_number: int, _frame: object) -> None:
    os._exit(0)


def _contexts() -> Iterable[str]:
    from tqctl_runtime.config import known_contexts

    return known_contexts()


def _live(read: Callable[[Wire, Keys], Iterable[str]]) -> Iterable[str]:
    from tqctl_runtime.broker.address import BrokerAddress
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.config import load_settings

    settings = load_settings()
    signal.signal(signal.SIGALRM, _give_up)
    signal.setitimer(signal.ITIMER_REAL, BUDGET)
    try:
        with Wire(BrokerAddress.of(settings), connect_timeout=BUDGET) as wire:
            return list(read(wire, Keys(settings.namespace)))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _handlers() -> Iterable[str]:
    from tqctl_runtime.broker import calls

    return _live(lambda wire, keys: wire.call(calls.catalogue(keys)))


def _queues() -> Iterable[str]:
    from tqctl_runtime.broker import views

    def read(wire: Wire, keys: Keys) -> Iterable[str]:
        seen = wire.call(views.overview(keys))
        served = (name for worker in seen.workers for name in worker.info.get("queues", ()))
        return [*(queue.name for queue in seen.queues), *served]

    return _live(read)


def _workers() -> Iterable[str]:
    from tqctl_runtime.broker import views

    return _live(lambda wire, keys: [worker.id for worker in wire.call(views.overview(keys)).workers])


def _tasks() -> Iterable[str]:
    from tqctl_runtime.broker import views

    return _live(lambda wire, keys: [queue.head for queue in wire.call(views.overview(keys)).queues if queue.head])


_NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "contexts": _contexts,
    "handlers": _handlers,
    "queues": _queues,
    "workers": _workers,
    "tasks": _tasks,
}
