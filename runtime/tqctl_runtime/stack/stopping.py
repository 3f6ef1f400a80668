"""``down``: stop everything of a context that is registered on this machine, then its private server."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tqctl_runtime.broker import embedded
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.locks import check_private
from tqctl_runtime.config import mask_url
from tqctl_runtime.core.errors import UsageError
from tqctl_runtime.observe import registry

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.observe.registry import ProcessInfo

_COORDINATOR_SECONDS = 15.0
_MARGIN_SECONDS = 15.0
#: Between two signals of one kind: the kernel keeps only one that was not taken yet.
_SIGNAL_GAP = 0.3
_KILL_SECONDS = 5.0
_POLL = 0.05


@dataclass(slots=True)
class Stopped:
    """What ``down`` did. *killed* would not end by itself; *broker* tells whether a private server was stopped."""

    processes: list[ProcessInfo] = field(default_factory=list)
    killed: list[ProcessInfo] = field(default_factory=list)
    broker: bool = False
    data_deleted: bool = False


def down(settings: Settings, *, force: bool = False, delete_data: bool = False) -> Stopped:
    """Stop workers (drained, or handing back at once with *force*), coordinators and the private server.

    With *delete_data* everything that an embedded context owns is removed afterwards.

    Raises:
        UsageError: *delete_data* for a context that uses a Redis or a database of its own.
        BrokerUnavailable: another ``down`` runs, or the private server would not end.
    """
    if delete_data and (settings.redis_url is not None or settings.database_url is not None):
        raise UsageError(
            "only the data of an embedded context is deleted",
            hint=f"after tqctl down, by hand: {'; '.join(_by_hand(settings))}",
        )
    done = Stopped()
    if not settings.context_home.is_dir():
        return done
    check_private(settings.context_home)
    with embedded.going_down(settings):
        done.processes = registry.living(settings)
        _stop_processes(settings, done, force=force)
        if settings.redis_url is None:
            done.broker = embedded.shutdown(settings)
        registry.sweep(settings)
        if delete_data:
            _delete(settings.context_home)
            done.data_deleted = True
    return done


def _by_hand(settings: Settings) -> list[str]:
    """Commands that delete the namespace and the record of *settings*; passwords are masked."""
    steps = []
    if settings.redis_url is not None:
        ask = shlex.join(["redis-cli", "-u", re.sub("^valkey", "redis", mask_url(settings.redis_url))])
        pattern = shlex.quote(f"{Keys(settings.namespace).prefix}*")
        steps.append(f"{ask} --scan --pattern {pattern} | tr '\\n' '\\0' | xargs -0 {ask} unlink")
    url = settings.record_url
    if url.startswith("sqlite:///"):
        file = Path(url.removeprefix("sqlite:///")).expanduser()
        steps.append(shlex.join(["rm", "-f", *(f"{file}{end}" for end in ("", "-wal", "-shm"))]))
    else:
        found = urlsplit(url)
        server = mask_url(found._replace(path="/postgres", query="", fragment="").geturl())
        steps.append(shlex.join(["dropdb", f"--maintenance-db={server}", found.path.removeprefix("/")]))
    return steps


def _delete(folder: Path) -> None:
    # Moved away first: a start that waits for its lock here could put files into a folder that is being emptied.
    doomed = folder.with_name(f"{folder.name}.deleted-{os.getpid()}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _stop_processes(settings: Settings, done: Stopped, *, force: bool) -> None:
    drain = (settings.drain + settings.grace) / 1000 + _MARGIN_SECONDS
    # A child of up is stopped by its parent: a signal from us too would count as its second.
    first = [info for info in done.processes if info.role in {"up", "worker"} and not info.parent]
    rest = [info for info in done.processes if info not in first and not info.parent]
    limit = _MARGIN_SECONDS if force else drain + _COORDINATOR_SECONDS

    def left() -> list[ProcessInfo]:
        # Also what was started meanwhile, and what gave up its registration but is still ending.
        known = {(info.pid, info.began): info for info in [*done.processes, *registry.living(settings)]}
        return [info for info in known.values() if info.is_alive]

    def busy() -> list[ProcessInfo]:
        return [info for info in left() if info.role in {"up", "worker"} or info.parent]

    _stop(first, busy, done, seconds=limit, force=force)
    _stop(rest, left, done, seconds=_COORDINATOR_SECONDS, force=force)


def _stop(
    targets: list[ProcessInfo],
    left: Callable[[], list[ProcessInfo]],
    done: Stopped,
    *,
    seconds: float,
    force: bool,
) -> None:
    for info in targets:
        info.send(signal.SIGTERM)
    if force:
        time.sleep(_SIGNAL_GAP)
        for info in targets:
            info.send(signal.SIGTERM)
    if _wait(left, seconds):
        return
    for info in left():
        if info.send(signal.SIGKILL):
            done.killed.append(info)
    _wait(left, _KILL_SECONDS)


def _wait(left: Callable[[], list[ProcessInfo]], seconds: float) -> bool:
    give_up = time.monotonic() + seconds
    while left():
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL)
    return True
