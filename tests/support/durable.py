"""A Redis or Valkey whose port, folder and append-only file stay while it is killed and started."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from tests.support.servers import RedisServer, free_port, start_redis
from tests.support.wait import wait_until

#: With ``everysec`` a write waits in memory while the disk is slow to sync, so that kill -9 alone loses acknowledged
#: writes now and then; what is lost here is to be lost on purpose.
_DURABLE = ("--appendonly", "yes", "--appendfsync", "no")


class DurableRedis:
    """A server of *binary* with its files in *folder*, started at once. Nobody else uses it."""

    def __init__(self, binary: Path, folder: Path, *, options: tuple[str, ...] = ()) -> None:
        self.binary = binary
        self.folder = folder
        self._options = (*_DURABLE, *options)
        self._port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._server = self._start()

    @property
    def url(self) -> str:
        """Its URL, the same after every restart."""
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def is_running(self) -> bool:
        """Whether there is a process."""
        return self._server.process is not None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._server.process is not None
        return self._server.process.pid

    def client(self) -> redis.Redis:
        """A blocking connection, replies as bytes."""
        return self._server.client()

    def command(self, *words: str | int | bytes) -> Any:
        """The reply of one command."""
        with self.client() as client:
            return client.execute_command(*words)

    def listen_on(self, address: str) -> None:
        """Start it again, listening on *address* beside loopback; for networks of a test's own."""
        self._options = (*self._options, "--bind", "127.0.0.1", address, "--protected-mode", "no")
        self.restart()

    def role(self) -> str:
        """Primary, replica, or replica in sync."""
        with self.client() as client:
            info: Any = client.info("replication")
        if info["role"] == "master":
            return "primary"
        return "replica in sync" if info["master_link_status"] == "up" else "replica"

    def kill(self) -> None:
        """Kill it with signal 9."""
        self._server.stop(signal.SIGKILL)

    def start(self) -> None:
        """Start it again from its files, and wait until they are read."""
        self._server = self._start()

    def restart(self) -> None:
        """Kill and start it."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """End it for good."""
        if self.is_running:
            self.kill()

    @contextlib.contextmanager
    def stalled(self) -> Iterator[None]:
        """SIGSTOP inside, SIGCONT after: connections stay, nothing is answered, nothing is dropped."""
        process = self._server.process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def append_file(self) -> Path:
        """The append-only file that grows now."""
        return max((self.folder / "appendonlydir").glob("*.incr.aof"))

    def _start(self) -> RedisServer:
        server = start_redis(self.binary, options=self._options, folder=self.folder, port=self._port)

        def is_loaded() -> bool:
            with server.client() as client:
                info: Any = client.info("persistence")
            return not info["loading"]

        wait_until(is_loaded, "its files are read", timeout=60, ignore=(redis.RedisError,))
        return server
