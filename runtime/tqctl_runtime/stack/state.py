"""What runs of a context: the processes on this machine and the live figures of its namespace."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tqctl_runtime.broker import embedded
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.lag import Lag, lag_of, oldest_missing
from tqctl_runtime.broker.leader_calls import pairing, server_info
from tqctl_runtime.broker.views import Overview, overview
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import BrokerUnavailable
from tqctl_runtime.observe import registry
from tqctl_runtime.observe.registry import ProcessInfo

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings


@dataclass(frozen=True, slots=True)
class BrokerInfo:
    """The server: *kind* is ``valkey`` or ``redis``; *memory* and *memory_limit* are bytes, a limit of 0 is none."""

    address: str
    kind: str
    version: str
    is_private: bool
    uptime_s: int
    memory: int
    memory_limit: int
    clients: int


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A context at one moment. *overview* and *lag* are None while the namespace is not open.

    *processes* are those that live, and the children of a living ``up`` that somebody else stopped.
    """

    context: str
    namespace: str
    broker: BrokerInfo
    processes: list[ProcessInfo]
    overview: Overview | None
    lag: Lag | None


def status(settings: Settings) -> StackStatus:
    """Look at the context; makes nothing on disk.

    Raises:
        BrokerUnavailable: the broker does not run or cannot be reached.
    """
    processes = registry.living(settings)
    address = BrokerAddress.of(settings)
    if settings.redis_url is None and not embedded.is_running(settings):
        runs = ", ".join(f"{info.name} (pid {info.pid})" for info in processes)
        raise BrokerUnavailable(
            "the private server does not run" + (f", but: {runs}" if runs else ""), hint="tqctl up --detach"
        )
    keys = Keys(settings.namespace)
    with Wire(address) as wire:
        info = wire.call(server_info())
        opened = wire.call(pairing(keys))
        figures = wire.call(overview(keys)) if opened is not None else None
        lag = None
        if figures is not None:
            lag = lag_of(figures, wire.call(oldest_missing(keys, figures)) if figures.lag_rows > 0 else 0)
    broker = _broker(settings, address, info)
    if settings.redis_url is None:
        processes = [_server_process(settings, broker), *processes]
    processes += registry.stopped(settings)
    return StackStatus(settings.context, settings.namespace, broker, processes, figures, lag)


def _broker(settings: Settings, address: BrokerAddress, info: dict[str, str]) -> BrokerInfo:
    is_valkey = info.get("server_name") == "valkey" or "valkey_version" in info
    return BrokerInfo(
        address=address.display,
        kind="valkey" if is_valkey else "redis",
        version=info.get("valkey_version") or info.get("redis_version", ""),
        is_private=settings.redis_url is None,
        uptime_s=int(info.get("uptime_in_seconds", "0")),
        memory=int(info.get("used_memory", "0")),
        memory_limit=int(info.get("maxmemory", "0")),
        clients=int(info.get("connected_clients", "0")),
    )


def _server_process(settings: Settings, broker: BrokerInfo) -> ProcessInfo:
    since = int(time.time() - broker.uptime_s) * 1000
    pid = embedded.server_pid(settings) or 0
    log = str(embedded.log_path(settings))
    return ProcessInfo("broker", broker.kind, pid, since, registry.READY, broker.version, log)
