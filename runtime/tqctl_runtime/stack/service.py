"""One process that stays: its log, its registration, its role, its end.

``python -m tqctl_runtime.stack.service`` is how a parent starts one; its order comes by standard input.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from tqctl_runtime.broker.locks import private_folder
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.observe import registry
from tqctl_runtime.observe.logging import configure, get_logger
from tqctl_runtime.observe.probe import probed
from tqctl_runtime.stack import private
from tqctl_runtime.stack.order import Answer, Order, exit_code

_PR_SET_PDEATHSIG = 1
_log = get_logger("service")


def serve(role: str, settings: Settings, *, name: str | None = None) -> int:
    """Be a ``worker`` or a ``coordinator`` until told to stop, logging to standard error; returns the exit code.

    Starts the private server where the context has one, and stops it again where the start fails.

    Raises:
        TqctlError: the start did not work.
    """
    private_folder(settings.context_home)
    configure(settings, role=role)
    _, has_started = private.join(settings)
    was_ready: list[bool] = []
    try:
        return _be(role, settings, name=name or f"{role}-{os.getpid()}", log=None, ready=lambda: was_ready.append(True))
    finally:
        if has_started and not was_ready:
            private.stop_unless_used(settings, _log.warning)


def main() -> int:
    """Carry out the order on standard input; the exit code says how it ended."""
    order = Order.from_bytes(sys.stdin.buffer.read())
    answer = Answer(order.answer)
    try:
        _detach_input()
        if order.parent:
            end_with(order.parent)
        if order.log is not None:
            private_folder(order.log.parent)
        configure(order.settings, role=order.name, file=order.log)
        if order.role == "up":
            from tqctl_runtime.stack.supervisor import Supervisor

            return Supervisor(order.settings, log=order.log).run(answer.ready)
        return _be(order.role, order.settings, name=order.name, log=order.log, ready=answer.ready, parent=order.parent)
    except TqctlError as error:
        _log.error("ended", error=error.message, hint=error.hint)
        answer.failed(error)
        return exit_code(error)
    except Exception as error:  # noqa: BLE001  a bug must reach both the log and whoever waits for us
        _log.exception("ended by a bug")
        answer.failed(error)
        return exit_code(error)


def _be(
    role: str, settings: Settings, *, name: str, log: Path | None, ready: Callable[[], None], parent: int = 0
) -> int:
    run = _run_coordinator if role == "coordinator" else _run_worker
    with registry.registered(settings, role=role, name=name, log=log, parent=parent) as known:
        return run(settings, name, known, ready)


def _run_coordinator(settings: Settings, name: str, known: registry.Registration, ready: Callable[[], None]) -> int:
    from tqctl_runtime.coordinator.coordinator import run_coordinator, vitals_of

    with probed(settings, name, vitals_of()) as probe:

        def is_ready() -> None:
            known.say(registry.READY)
            probe.ready()
            ready()

        return run_coordinator(settings, is_ready, name=name, probe=probe)


def _run_worker(settings: Settings, name: str, known: registry.Registration, ready: Callable[[], None]) -> int:
    from tqctl_runtime.worker.main import run_worker, vitals_of

    with probed(settings, name, vitals_of(settings)) as probe:

        def on_state(state: str) -> None:
            known.say(_STATES.get(state, state))
            if state == "running":
                probe.ready()
                ready()
            else:
                probe.stopping()

        return run_worker(settings, name=name, version=registry.version(), on_state=on_state, probe=probe)


_STATES = {"running": registry.READY, "draining": registry.STOPPING, "stopped": registry.STOPPING}


def end_with(parent: int) -> None:
    """Have the kernel TERM this process when *parent* ends, however it ends."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        # It ended before the wish was known to the kernel.
        raise SystemExit(0)


def _detach_input() -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


if __name__ == "__main__":
    sys.exit(main())
