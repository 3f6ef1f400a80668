"""``up``: the parent of everything a context runs on this machine."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from tqctl_runtime.broker import embedded
from tqctl_runtime.broker.locks import is_locked, private_folder, try_lock
from tqctl_runtime.core.errors import Conflict, TqctlError, Unavailable
from tqctl_runtime.observe import registry
from tqctl_runtime.observe.files import rotate, tail
from tqctl_runtime.observe.logging import get_logger
from tqctl_runtime.observe.probe import Probe, probed, sweep
from tqctl_runtime.observe.vitals import Vitals
from tqctl_runtime.stack import private
from tqctl_runtime.stack.child import Child
from tqctl_runtime.stack.events import EventWriter

if TYPE_CHECKING:
    from types import FrameType

    from tqctl_runtime.core.settings import Settings

#: Seconds the coordinator, then the workers, get to be ready.
READY_TIMEOUT = 30.0
#: Seconds a failed start gets to stop what it began.
_UNDO_TIMEOUT = 20.0
#: Seconds a coordinator gets to drain the journal and end.
_COORDINATOR_TIMEOUT = 15.0
#: Seconds beyond drain and grace in which a worker hands back and ends.
_WORKER_MARGIN = 5.0
_HURRY_TIMEOUT = 8.0
#: Seconds that events get to be written before everything stops.
_EVENTS_TIMEOUT = 2.0
_TICK = 0.25
_BROKER_CHECK = 1.0
_FORCED = 7
_log = get_logger("up")

Tell = Callable[[str], None]


def up(settings: Settings, *, on_event: Tell | None = None) -> int:
    """Run the stack in the foreground until INT or TERM, then stop it whole; returns the exit code.

    *on_event* hears a line for each thing that happens.

    Raises:
        Conflict: the stack of this context runs already.
        TqctlError: something could not be started; everything was stopped again.
    """
    return Supervisor(settings, on_event=on_event, stops_broker=True).run(lambda: None)


def up_detached(settings: Settings) -> list[registry.ProcessInfo]:
    """Start the stack in the background; returns what runs once broker, record, leader and every worker are ready.

    Raises:
        Conflict: the stack of this context runs already.
        TqctlError: something could not be started; everything was stopped again.
    """
    private_folder(settings.context_home)
    _refuse_second(settings)
    log = private_folder(settings.context_home / "logs") / "up.log"
    parent = Child("up", "up", settings, log, detached=True)
    parent.start()
    try:
        if not _wait_answers([parent], READY_TIMEOUT * 2 + _UNDO_TIMEOUT):
            raise Unavailable("the stack was not ready in time", hint=f"its log: {log}")
    except BaseException:
        _end([parent], time.monotonic() + _UNDO_TIMEOUT)
        raise
    if parent.process is not None:
        # It goes on by itself; a caller that stays must not be left with its remains.
        threading.Thread(target=parent.process.wait, name="up", daemon=True).start()
    return registry.living(settings)


class Supervisor:
    """Starts the children, starts them again when they crash, stops them in order."""

    def __init__(
        self, settings: Settings, *, log: Path | None = None, on_event: Tell | None = None, stops_broker: bool = False
    ) -> None:
        self._settings = settings
        self._log = log
        self._tell = on_event or _log.info
        self._warn = on_event or _log.warning
        self._stops_broker = stops_broker
        self._started_broker = False
        self._next_broker_check = 0.0
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._reload = threading.Event()
        self._events = EventWriter(settings)
        logs = settings.context_home / "logs"
        self._coordinator = Child("coordinator", "coordinator", settings, logs / "coordinator.log")
        names = [f"worker-{number}" for number in range(1, settings.workers + 1)]
        self._workers = [Child("worker", name, settings, logs / f"{name}.log") for name in names]

    def run(self, ready: Callable[[], None]) -> int:
        """Everything from the start to the end; calls *ready* once all are ready. Returns the exit code."""
        private_folder(self._settings.context_home)
        private_folder(registry.folder(self._settings))
        private_folder(self._settings.context_home / "logs")
        with ExitStack() as held:
            _hold_place(held, self._settings)
            registry.sweep(self._settings)
            sweep(registry.folder(self._settings))
            me = held.enter_context(registry.registered(self._settings, role="up", name="up", log=self._log))
            # Each child's watchdog is this parent, which starts it again.
            probe = held.enter_context(probed(self._settings, "up", Vitals()))
            self._handle_signals(held)
            try:
                self._start()
            except BaseException:
                self._undo()
                raise
            if not self._stop.is_set():
                me.say(registry.READY)
                probe.ready()
                ready()
                self._watch(probe)
            me.say(registry.STOPPING)
            probe.stopping()
            return self._end()

    def _handle_signals(self, held: ExitStack) -> None:
        def handle(_number: int, _frame: FrameType | None) -> None:
            if self._stop.is_set():
                self._hurry.set()
            self._stop.set()

        def reload(_number: int, _frame: FrameType | None) -> None:
            self._reload.set()

        # A closed terminal ends what ran in it; a stack in the background has none, there it means edited code.
        on_hangup = handle if self._stops_broker else reload
        for number, handler in ((signal.SIGTERM, handle), (signal.SIGINT, handle), (signal.SIGHUP, on_hangup)):
            held.callback(signal.signal, number, signal.signal(number, handler))

    def _start(self) -> None:
        address, self._started_broker = private.join(self._settings)
        self._tell(f"broker {'started' if self._started_broker else 'joined'} at {address.display}")
        self._start_ready([self._coordinator])
        self._start_ready(self._workers)

    def _start_ready(self, children: Sequence[Child]) -> None:
        for child in children:
            child.start()
        if not _wait_answers(children, READY_TIMEOUT, self._stop) and not self._stop.is_set():
            late = next(child for child in children if not child.answered(0))
            raise Unavailable(
                f"{late.name} was not ready within {READY_TIMEOUT:g} s; it said last:\n{tail(late.log, 3)}",
                hint=f"its log: {late.log}",
            )
        for child in children:
            self._tell(f"{child.name} ready (pid {child.pid})")

    def _watch(self, probe: Probe) -> None:
        """Until we are told to stop: start again what crashed."""
        ended: set[str] = set()
        while not self._stop.wait(_TICK):
            probe.pulse()
            self._check_broker()
            if self._reload.is_set():
                self._reload.clear()
                for child in self._workers:
                    child.send(signal.SIGHUP)
            for child in [self._coordinator, *self._workers]:
                if child.is_alive:
                    ended.discard(child.name)
                    self._hear(child)
                    continue
                if child.name not in ended:
                    ended.add(child.name)
                    self._note_end(child)
                if child.is_due():
                    end = _name_code(child.process.returncode) if child.process else "an error"
                    child.start()
                    self._tell(f"{child.name} started again (pid {child.pid})")
                    self._events.note("restart", child.name, f"started again after it ended with {end}")

    def _hear(self, child: Child) -> None:
        try:
            child.answered(0)
        except TqctlError as error:
            self._tell(f"{child.name} cannot start: {error.message}")

    def _note_end(self, child: Child) -> None:
        code = child.process.returncode if child.process else 0
        if code in {0, _FORCED}:
            child.is_wanted = False
            registry.note_stopped(self._settings, role=child.role, name=child.name, pid=child.pid, log=child.log)
            self._warn(f"{child.name} was stopped by somebody else and stays stopped; back: {registry.COMES_BACK}")
        else:
            self._tell(f"{child.name} ended with {_name_code(code)}; it is started again")

    def _check_broker(self) -> None:
        now = time.monotonic()
        if self._settings.redis_url is not None or now < self._next_broker_check:
            return
        self._next_broker_check = now + _BROKER_CHECK
        rotate(embedded.log_path(self._settings))  # it opens the file anew for each line
        # Whether it lives, not whether it answers: one that hangs would hold us up too, and cannot be started again.
        is_there = embedded.server_pid(self._settings) is not None
        if is_there or is_locked(embedded.folder(self._settings) / "down.lock"):
            return
        try:
            embedded.ensure_started(self._settings, on_start=self._on_broker_started)
        except TqctlError as error:
            self._tell(f"the private server is gone: {error.message}")

    def _on_broker_started(self) -> None:
        self._tell("the private server was gone and is started again")
        self._events.note("restart", "broker", "the private server was gone and was started again")

    def _undo(self) -> None:
        """After a failed start: stop what began, at once, the private server too if it was ours."""
        self._stop.set()
        self._hurry.set()
        _end([*self._workers, self._coordinator], time.monotonic() + _UNDO_TIMEOUT)
        if self._started_broker:
            private.stop_unless_used(self._settings, self._tell)

    def _end(self) -> int:
        """Workers drained, then the coordinator with an empty journal, then the private server where we stop it."""
        settings = self._settings
        self._tell("stopping")
        self._events.close(_EVENTS_TIMEOUT)
        drain = settings.drain / 1000 + settings.grace / 1000 + _WORKER_MARGIN
        killed = _end(self._workers, time.monotonic() + drain, self._hurry)
        killed += _end([self._coordinator], time.monotonic() + _COORDINATOR_TIMEOUT, self._hurry)
        codes = {child.process.returncode for child in self._workers if child.process}
        for child in killed:
            self._tell(f"{child.name} had to be killed")
        if self._stops_broker and settings.redis_url is None:
            private.stop_unless_used(settings, self._tell)
        self._tell("stopped")
        return _FORCED if killed or _FORCED in codes else 0


def _hold_place(held: ExitStack, settings: Settings) -> None:
    """Take the one place of an ``up`` in this context; the kernel frees it with us."""
    descriptor = os.open(registry.folder(settings) / "up.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    held.callback(os.close, descriptor)
    if not try_lock(descriptor):
        raise _runs_already(settings)


def _refuse_second(settings: Settings) -> None:
    if is_locked(registry.folder(settings) / "up.lock"):
        raise _runs_already(settings)


def _runs_already(settings: Settings) -> Conflict:
    runs = ", ".join(f"{info.name} (pid {info.pid}, {info.state})" for info in registry.living(settings))
    return Conflict(
        f"the stack of context {settings.context!r} runs already: {runs}", hint="tqctl status; to stop it: tqctl down"
    )


def _wait_answers(children: Sequence[Child], seconds: float, stop: threading.Event | None = None) -> bool:
    """Wait until all said that they are ready; False after *seconds* or when *stop* was set.

    Raises:
        TqctlError: the first error that one of them said.
    """
    give_up = time.monotonic() + seconds
    waiting = list(children)
    while waiting:
        if time.monotonic() > give_up or (stop is not None and stop.is_set()):
            return False
        waiting = [child for child in waiting if not child.answered(0.05)]
    return True


def _end(children: Sequence[Child], deadline: float, hurry: threading.Event | None = None) -> list[Child]:
    """TERM, a second TERM in a hurry or at the deadline, KILL in the end; returns those that were killed."""
    for child in children:
        child.is_wanted = False
        child.send(signal.SIGTERM)
    if _wait_ended(children, deadline, hurry):
        return []
    for child in children:
        child.send(signal.SIGTERM)
    if _wait_ended(children, time.monotonic() + _HURRY_TIMEOUT):
        return []
    killed = [child for child in children if child.is_alive]
    for child in killed:
        child.send(signal.SIGKILL)
        if child.process is not None:
            child.process.wait()
    return killed


def _wait_ended(children: Sequence[Child], deadline: float, hurry: threading.Event | None = None) -> bool:
    pulse = threading.Event()
    while any(child.is_alive for child in children):
        if time.monotonic() > deadline or (hurry is not None and hurry.is_set()):
            return False
        pulse.wait(0.05)
    return True


def _name_code(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
