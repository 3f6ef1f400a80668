"""What runs of a context: its processes, the live figures of its namespace, and what keeps it from its work."""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tqctl_runtime.broker import embedded
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.lag import Lag, lag_of, oldest_missing
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.core.clock import iso
from tqctl_runtime.observe import registry
from tqctl_runtime.observe.registry import ProcessInfo
from tqctl_runtime.stack.trouble import trouble_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tqctl_runtime.broker.views import Overview
    from tqctl_runtime.core.errors import TqctlError
    from tqctl_runtime.core.settings import Settings

#: What the broker knows of a process here and the process does not say of itself.
_UNWELL = frozenset({"late", "silent", "deaf"})


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
class Inhabitant:
    """A process of the context, here or elsewhere. *since* and *seen_at*, its last heartbeat, are RFC 3339 text."""

    role: str
    name: str
    pid: int | None
    since: str | None
    state: str
    version: str
    log: str | None
    host: str | None
    seen_at: str | None = None


@dataclass(frozen=True, slots=True)
class StackStatus:
    """A context at one moment. *broker* is None where it does not answer; *overview* and *lag* also while the namespace
    is not open. *trouble* is what keeps it from its work: None where it is ready.

    *processes* are those of this machine that live, and the children of a living ``up`` that somebody else stopped.
    *inhabitants* are these, then coordinators and workers that the broker knows beside them.
    """

    context: str
    namespace: str
    broker: BrokerInfo | None
    processes: list[ProcessInfo]
    overview: Overview | None
    lag: Lag | None
    inhabitants: list[Inhabitant]
    trouble: TqctlError | None


def status(settings: Settings) -> StackStatus:
    """Look at the context; makes nothing on disk. A server that is away is told as the *trouble*.

    Raises:
        StoresDiffer: processes of another release work there, in a form that this one cannot read.
    """
    processes = registry.living(settings)
    with Scene(settings) as scene:
        broker = figures = lag = None
        if scene.wire is None or scene.info is None:
            trouble = scene.broker_error
        else:
            broker, figures = _broker(settings, scene.info), scene.overview
            if figures is not None:
                is_behind = figures.lag_rows > 0
                lag = lag_of(figures, scene.wire.call(oldest_missing(scene.keys, figures)) if is_behind else 0)
            trouble = trouble_of(scene, lag)
    if settings.redis_url is None and broker is not None:
        processes = [_server_process(settings, broker), *processes]
    processes += registry.stopped(settings)
    inhabitants = _inhabitants(settings, processes, figures)
    return StackStatus(settings.context, settings.namespace, broker, processes, figures, lag, inhabitants, trouble)


def inhabitant(info: ProcessInfo) -> Inhabitant:
    """A process of this machine as it says of itself, unless the kernel knows better."""
    state = registry.SUSPENDED if info.is_suspended else info.state
    return Inhabitant(
        info.role, info.name, info.pid, iso(info.since), state, info.version, info.log or None, platform.node()
    )


def _inhabitants(settings: Settings, processes: list[ProcessInfo], overview: Overview | None) -> list[Inhabitant]:
    known = {} if overview is None else {(item.host, item.pid): item for item in _known(settings, overview)}
    here = [_told(one, known.pop((one.host, one.pid), None)) for one in map(inhabitant, processes)]
    return [*here, *known.values()]


def _told(one: Inhabitant, told: Inhabitant | None) -> Inhabitant:
    """*one* with what the broker is *told* of it."""
    if told is None:
        return one
    is_unwell = told.state in _UNWELL and one.state != registry.SUSPENDED
    return replace(one, seen_at=told.seen_at, state=told.state if is_unwell else one.state)


def _known(settings: Settings, overview: Overview) -> Iterator[Inhabitant]:
    """Coordinators and workers as the broker knows them."""
    told = [
        ("coordinator", name, info, overview.coordinator_state(name), info["seen_at"])
        for name, info in overview.coordinators.items()
    ]
    told += [("worker", item.id, item.info, item.state(overview.now), item.seen_at) for item in overview.workers]
    for role, name, info, state, seen_at in told:
        host, pid = info.get("host"), info.get("pid")
        yield Inhabitant(
            role=role,
            name=str(info.get("name") or name),
            pid=pid,
            since=iso(info.get("started_at")),
            state=registry.kernel_state(settings, role, host, pid) or state,
            version=str(info.get("version") or ""),
            log=None,
            host=host,
            seen_at=iso(seen_at),
        )


def _broker(settings: Settings, info: dict[str, str]) -> BrokerInfo:
    is_valkey = info.get("server_name") == "valkey" or "valkey_version" in info
    return BrokerInfo(
        address=BrokerAddress.of(settings).display,
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
