"""Real processes show from outside that they live and are ready, and tell systemd: on both pairs, by a real socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import Environment
from tests.support.servers import RedisServer
from tests.support.wait import wait_until
from tqctl_runtime.observe.probe import Sign, read

_SLOW = pytest.mark.slow  # whole processes start and stop


class Manager:
    """The service manager's end of the socket: what each process said, by its id as the kernel tells it."""

    def __init__(self, folder: Path) -> None:
        self.address = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(str(self.address))
        self._socket.setblocking(False)
        self._heard: dict[int, list[str]] = {}

    def heard(self, process: subprocess.Popen[str]) -> list[str]:
        """All that *process* said so far."""
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
            except BlockingIOError:
                return self._heard.get(process.pid, [])
            pid = int.from_bytes(extra[0][2][:4], "little")
            self._heard.setdefault(pid, []).extend(data.decode().splitlines())

    def speakers(self) -> set[int]:
        """The processes that ever said something."""
        return set(self._heard)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path)
    yield made
    made.close()


@pytest.fixture
def own_pair(own_redis: RedisServer, sqlite_url: str, tmp_path: Path) -> Iterator[Environment]:
    """A broker of the test's own; what was started on it is killed afterwards."""
    made = Environment("own", tmp_path, own_redis.url, sqlite_url)
    yield made
    made.kill_all()


def start(pair: Environment, manager: Manager, *words: str) -> subprocess.Popen[str]:
    env = {"NOTIFY_SOCKET": str(manager.address), "WATCHDOG_USEC": "1000000"}
    return pair.start(*words, env=env)


def sign(pair: Environment, name: str) -> Sign:
    return read(pair.home / "tqctl" / "default" / "run", name)


@_SLOW
def test_systemd_hears_of_a_worker_and_a_coordinator_and_of_nobody_else(pair: Environment, manager: Manager) -> None:
    (pair.home / "tasks.py").write_text(
        "import os\nfrom tqctl import handler\n"
        "@handler\ndef watched() -> list[str]:\n"
        "    return [name for name in os.environ if name.startswith(('NOTIFY_', 'WATCHDOG_'))]\n"
    )
    coordinator = start(pair, manager, "coordinator", "start", "--name", "c1")
    worker = start(pair, manager, "worker", "start", "--name", "w1", "--lease", "3s", "--app", "tasks.py")

    for process in (coordinator, worker):
        wait_until(lambda p=process: "READY=1" in manager.heard(p), "it is ready")  # type: ignore[misc]
        wait_until(lambda p=process: manager.heard(p).count("WATCHDOG=1") > 2, "its watchdog")  # type: ignore[misc]
    wait_until(lambda: sign(pair, "w1").is_ready and sign(pair, "c1").is_ready, "both are ready")
    assert sign(pair, "w1").pid == worker.pid
    assert json.loads(pair.run("submit", "watched", "--wait").stdout) == []
    for process in (worker, coordinator):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert manager.heard(worker).count("READY=1") == manager.heard(coordinator).count("READY=1") == 1
    assert manager.heard(worker).count("STOPPING=1") == manager.heard(coordinator).count("STOPPING=1") == 1
    assert manager.speakers() == {worker.pid, coordinator.pid}
    assert sign(pair, "w1").age_s is sign(pair, "c1").age_s is None


@_SLOW
def test_a_worker_and_a_coordinator_without_their_broker_are_alive_and_not_ready(
    own_redis: RedisServer, own_pair: Environment, manager: Manager
) -> None:
    pair = own_pair
    coordinator = pair.start("coordinator", "start", "--name", "c1")
    worker = start(pair, manager, "worker", "start", "--name", "w1", "--lease", "3s")
    wait_until(lambda: sign(pair, "w1").is_ready and sign(pair, "c1").is_ready, "both are ready")

    assert own_redis.process is not None
    own_redis.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: not sign(pair, "w1").is_ready, "it is not ready")
        said = manager.heard(worker).count("WATCHDOG=1")
        wait_until(lambda: manager.heard(worker).count("WATCHDOG=1") > said + 2, "its watchdog goes on")
        assert sign(pair, "w1").is_alive
        wait_until(lambda: not sign(pair, "c1").is_ready, "the coordinator is not ready")
        assert sign(pair, "c1").is_alive
    finally:
        own_redis.process.send_signal(signal.SIGCONT)
    wait_until(lambda: sign(pair, "w1").is_ready, "it is ready again")
    assert coordinator.poll() is None


@_SLOW
def test_a_suspended_worker_lets_its_watchdog_run_out(pair: Environment, manager: Manager) -> None:
    coordinator = pair.start("coordinator", "start")
    worker = start(pair, manager, "worker", "start", "--name", "w1", "--lease", "3s")
    wait_until(lambda: sign(pair, "w1").is_ready, "the worker is ready")

    worker.send_signal(signal.SIGSTOP)
    path = pair.home / "tqctl" / "default" / "run" / "w1.alive"
    os.utime(path, (1, 1))

    assert not sign(pair, "w1").is_alive
    probed = pair.run("health", "probe", "w1")
    assert probed.returncode == 20
    assert "not alive: w1" in probed.stderr
    worker.send_signal(signal.SIGCONT)
    wait_until(lambda: sign(pair, "w1").is_ready, "it goes on")
    assert pair.run("health", "probe", "w1", "--ready").returncode == 0
    assert pair.run("health", "probe", "w2").returncode == 3
    for process in (worker, coordinator):
        process.send_signal(signal.SIGKILL)
        process.wait()
