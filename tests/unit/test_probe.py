"""Signs of life: what files and systemd are told, with a clock of the test's own and a real datagram socket."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tqctl_runtime.observe import notify, probe
from tqctl_runtime.observe.notify import Notifier
from tqctl_runtime.observe.probe import Probe
from tqctl_runtime.observe.vitals import Vitals


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def vitals(clock: Clock) -> Vitals:
    return Vitals({"claims": 20.0, "heartbeat": 40.0}, clock=clock)


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """Everything that came since the last question."""
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def watched(tmp_path: Path, manager: Manager, vitals: Vitals, clock: Clock) -> Probe:
    """A probe whose watchdog ends after ten seconds."""
    return Probe(tmp_path, "worker-1", vitals, notifier=Notifier(str(tmp_path / "notify"), 10.0), clock=clock)


def shell(folder: Path, file: str) -> bool:
    """The check that the documentation shows."""
    command = f'find "{folder / file}" -mmin -1 | grep -q .'
    return subprocess.run(["sh", "-c", command], stderr=subprocess.DEVNULL, check=False).returncode == 0


def age(path: Path, seconds: float) -> None:
    """Make *path* look as if nobody had touched it for *seconds*."""
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_nothing_that_began_is_late_at_first(vitals: Vitals) -> None:
    assert vitals.is_alive
    assert not vitals.is_ready


def test_a_part_that_does_not_come_round_is_stuck(vitals: Vitals, clock: Clock) -> None:
    vitals.answered("claims")
    vitals.answered("heartbeat")
    clock.now += 21

    assert vitals.stuck == ["claims"]
    assert not vitals.is_alive


def test_a_process_whose_server_is_away_is_alive_and_not_ready(vitals: Vitals, clock: Clock) -> None:
    vitals.answered("claims")
    vitals.answered("heartbeat")
    ready_before = vitals.is_ready
    for _ in range(5):
        clock.now += 15
        vitals.turned("claims")
        vitals.turned("heartbeat")

    assert (ready_before, vitals.is_ready, vitals.is_alive) == (True, False, True)


def test_a_part_that_pauses_says_nothing_of_the_process(vitals: Vitals, clock: Clock) -> None:
    vitals.answered("claims")
    vitals.paused("claims")
    clock.now += 1_000

    assert vitals.is_alive
    assert not vitals.is_ready


def test_files_tell_a_shell_that_a_process_lives_and_is_ready(tmp_path: Path, watched: Probe, vitals: Vitals) -> None:
    watched.pulse()
    before = shell(tmp_path, "worker-1.alive"), shell(tmp_path, "worker-1.ready")
    vitals.answered("claims")
    vitals.answered("heartbeat")
    watched.ready()
    after = shell(tmp_path, "worker-1.alive"), shell(tmp_path, "worker-1.ready")
    watched.stopping()
    stopping = shell(tmp_path, "worker-1.alive"), shell(tmp_path, "worker-1.ready")
    watched.close()

    assert (before, after, stopping) == ((True, False), (True, True), (True, False))
    assert list(tmp_path.glob("worker-1.*")) == []


def test_a_stuck_process_leaves_its_file_untouched(
    tmp_path: Path, watched: Probe, vitals: Vitals, clock: Clock
) -> None:
    vitals.answered("claims")
    watched.pulse()
    age(tmp_path / "worker-1.alive", 61)
    clock.now += 21
    watched.pulse()
    stuck = shell(tmp_path, "worker-1.alive"), probe.read(tmp_path, "worker-1").is_alive
    vitals.answered("claims")
    watched.pulse()

    assert stuck == (False, False)
    assert shell(tmp_path, "worker-1.alive")
    assert probe.read(tmp_path, "worker-1").pid == os.getpid()


def test_systemd_hears_ready_and_stopping_once(watched: Probe, manager: Manager) -> None:
    watched.pulse()
    watched.ready()
    manager_heard = [line for line in manager.heard() if line != notify.WATCHDOG]
    watched.stopping()
    watched.stopping()

    assert manager_heard == ["READY=1"]
    assert [line for line in manager.heard() if line != notify.WATCHDOG] == ["STOPPING=1"]


def test_the_watchdog_is_told_at_half_of_its_time_and_only_while_there_is_progress(
    watched: Probe, manager: Manager, vitals: Vitals, clock: Clock
) -> None:
    told = []
    for _ in range(21):
        vitals.turned("claims")
        watched.pulse()
        told += [clock.now] * len(manager.heard())
        clock.now += 1
    assert [round(b - a) for a, b in itertools.pairwise(told)] == [5, 5, 5, 5]

    clock.now += 30
    watched.pulse()
    assert manager.heard() == []
    vitals.turned("claims")
    watched.pulse()
    assert manager.heard() == ["WATCHDOG=1"]


def test_the_loop_itself_pulses(tmp_path: Path, manager: Manager) -> None:
    async def scenario() -> None:
        beating = Probe(tmp_path, "w", notifier=Notifier(str(tmp_path / "notify"), 0.04))
        with beating.beating(asyncio.get_running_loop()):
            async with asyncio.timeout(20):
                while len(heard) < 3:
                    await asyncio.sleep(0)
                    heard.extend(manager.heard())

    heard: list[str] = []
    asyncio.run(scenario())
    assert set(heard) == {"WATCHDOG=1"}


def test_the_variables_of_systemd_are_taken_out_of_the_environment(tmp_path: Path, manager: Manager) -> None:
    given = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2500000", "WATCHDOG_PID": str(os.getpid())}
    environ = {**given, "PATH": "/bin"}

    notifier = Notifier.take(environ)

    assert environ == {"PATH": "/bin"}
    assert notifier.watchdog == 2.5
    assert notifier.send(notify.READY)
    assert manager.heard() == ["READY=1"]
    assert Notifier.take({**given, "WATCHDOG_PID": "1"}).watchdog == 0.0


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1234"])
def test_without_a_socket_nothing_is_told_and_nothing_fails(address: str) -> None:
    notifier = Notifier.take({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})

    assert not notifier.send(notify.READY)


def test_a_manager_that_is_gone_or_does_not_read_holds_nobody_up(tmp_path: Path, manager: Manager) -> None:
    notifier = Notifier(str(tmp_path / "notify"), 1.0)
    while notifier.send(notify.WATCHDOG):
        pass
    manager.close()

    assert not notifier.send(notify.WATCHDOG)


def test_an_abstract_socket_is_reached(tmp_path: Path) -> None:
    name = f"tqctl-test-{os.getpid()}"
    manager = Manager("\0" + name)

    assert Notifier("@" + name).send(notify.STOPPING)

    assert manager.heard() == ["STOPPING=1"]
    manager.close()


def test_a_name_becomes_a_file_of_the_folder_whatever_is_in_it(tmp_path: Path) -> None:
    alive, ready = probe.files(tmp_path, "../a b/c")

    assert alive.parent == ready.parent == tmp_path


def test_what_killed_processes_left_is_swept_after_an_hour(tmp_path: Path) -> None:
    for name in ("old", "new"):
        Probe(tmp_path, name).ready()
    for suffix in (".alive", ".ready"):
        age(tmp_path / f"old{suffix}", 3_700)

    probe.sweep(tmp_path)

    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.alive", "new.ready"]


def test_a_folder_that_is_gone_fails_the_probe_and_not_the_process(tmp_path: Path) -> None:
    gone = Probe(tmp_path / "gone", "w")

    gone.ready()

    assert probe.read(tmp_path / "gone", "w") == probe.Sign("w", None, False, False, None)


def test_a_killed_process_is_not_alive_however_fresh_its_file(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    Probe(tmp_path, "w").ready()
    before = probe.read(tmp_path, "w")
    (tmp_path / "w.alive").write_text(f"{ended.pid}\n")

    after = probe.read(tmp_path, "w")

    assert (before.is_alive, before.is_ready) == (True, True)
    assert (after.is_alive, after.is_ready, after.pid) == (False, False, ended.pid)


def test_a_process_that_follows_a_killed_one_under_its_name_is_alive(tmp_path: Path, vitals: Vitals) -> None:
    killed = subprocess.Popen(["true"])
    killed.wait()
    alive, ready = probe.files(tmp_path, "worker-1")
    for path in (alive, ready):
        path.write_text(f"{killed.pid}\n")

    follower = Probe(tmp_path, "worker-1", vitals)
    follower.pulse()

    sign = probe.read(tmp_path, "worker-1")
    assert (sign.pid, sign.is_alive, sign.is_ready) == (os.getpid(), True, False)


def test_a_process_that_stands_still_is_not_ready_long_before_it_counts_as_dead(
    tmp_path: Path, watched: Probe, vitals: Vitals
) -> None:
    vitals.answered("claims")
    vitals.answered("heartbeat")
    watched.ready()
    at = time.time() - probe.READY_SECONDS - 1
    for path in probe.files(tmp_path, "worker-1"):
        os.utime(path, (at, at))

    sign = probe.read(tmp_path, "worker-1")
    assert (sign.is_alive, sign.is_ready) == (True, False)
