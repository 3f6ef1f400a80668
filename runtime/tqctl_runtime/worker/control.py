"""What a worker hears from outside: cancel requests from the broker at once, and signals."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Sequence

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link


async def listen_for_cancels(
    link: Link, keys: Keys, worker: str, on_cancelled: Callable[[Sequence[str]], None]
) -> None:
    """Pass on the ids of tasks of *worker* that somebody wants cancelled, for ever.

    What is said while the connection is away is missed here; the next heartbeat tells it.
    """
    async for _, message in link.listen(keys.control_channel(worker)):
        on_cancelled([message.decode("ascii", "replace")])


def install_signals(on_stop: Callable[[], None], on_reload: Callable[[], None]) -> Callable[[], None]:
    """Have TERM and INT call *on_stop* and HUP *on_reload* from the loop; returns what undoes it."""
    loop = asyncio.get_running_loop()
    handlers = {signal.SIGTERM: on_stop, signal.SIGINT: on_stop, signal.SIGHUP: on_reload}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)

    def undo() -> None:
        for number in handlers:
            loop.remove_signal_handler(number)

    return undo
