"""Queues, workers, coordinators and handlers: what the broker says of them, with names and figures made readable."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tqctl_runtime.broker.views import LiveQueue, LiveWorker, Overview
from tqctl_runtime.core.clock import iso
from tqctl_runtime.core.states import State
from tqctl_runtime.inspector.models import CoordinatorInfo, Pause, QueueInfo, WorkerInfo
from tqctl_runtime.record.read import WorkerRecord

#: Counts of the record by queue and state.
Counts = Mapping[str, Mapping[State, int]]
#: What a queue is counted by: few rows of an index each, unlike the final states.
COUNTED = (State.SCHEDULED, State.QUEUED, State.RUNNING, State.RETRYING)


def live_queues(overview: Overview) -> dict[str, LiveQueue]:
    """By name the queues that are paused, where something stands in line, or that a live worker serves."""
    served = {name: LiveQueue(name, 0, 0, None, None) for w in live_workers(overview) for name in w.queues}
    return served | {item.name: item for item in overview.queues if item.pause or item.ready or item.suspects}


def queues(overview: Overview, counts: Counts | None) -> list[QueueInfo]:
    """The live queues and those of the record's *counts*, which are of what does not stand in line."""
    workers, found = live_workers(overview), live_queues(overview)
    names = sorted({*found, *(counts or ())})
    return [
        _queue(
            found.get(name) or LiveQueue(name, 0, 0, None, None),
            workers,
            None if counts is None else counts.get(name, {}),
        )
        for name in names
    ]


def _queue(item: LiveQueue, workers: Iterable[WorkerInfo], counts: Mapping[State, int] | None) -> QueueInfo:
    return QueueInfo(
        name=item.name,
        queued=item.ready + item.suspects,
        suspects=item.suspects,
        head=item.head,
        pause=pause_of(item.pause),
        workers=[worker.name for worker in workers if item.name in worker.queues],
        scheduled=_count(counts, State.SCHEDULED),
        retrying=_count(counts, State.RETRYING),
        running=_count(counts, State.RUNNING),
    )


def recorded_queues(counts: Counts, pauses: Mapping[str, Mapping[str, Any]]) -> list[QueueInfo]:
    """The queues as the record knows them."""
    names = sorted({*counts, *pauses})
    return [
        QueueInfo(
            name=name,
            queued=counts.get(name, {}).get(State.QUEUED, 0),
            pause=pause_of(pauses.get(name)),
            scheduled=_count(counts.get(name), State.SCHEDULED),
            retrying=_count(counts.get(name), State.RETRYING),
            running=_count(counts.get(name), State.RUNNING),
        )
        for name in names
    ]


def _count(counts: Mapping[State, int] | None, state: State) -> int | None:
    return None if counts is None else counts.get(state, 0)


def pause_of(row: Mapping[str, Any] | None) -> Pause | None:
    """A pause as the broker and the record keep it."""
    if not row:
        return None
    return Pause(iso(row.get("since")), iso(row.get("until")), row.get("reason") or "", row.get("who") or "")


#: What the kernel says of a role's process: (role, host, process id) → a state, None where it says nothing.
Kernel = Callable[[str, object, object], str | None]


def workers(overview: Overview, kernel: Kernel) -> list[WorkerInfo]:
    """All registered workers by name."""
    found = (_worker(item, item.state(overview.now), kernel) for item in overview.workers)
    return sorted(found, key=lambda worker: (worker.name, worker.id))


def live_workers(overview: Overview) -> list[WorkerInfo]:
    """The workers whose lease holds."""
    live = [item for item in overview.workers if item.lease_until > overview.now]
    return workers(overview._replace(workers=live), lambda *_: None)


def _worker(item: LiveWorker, state: str, kernel: Kernel) -> WorkerInfo:
    info, figures = item.info, dict(item.figures)
    figures.pop("state", None)
    return WorkerInfo(
        id=item.id,
        name=str(info.get("name") or item.id),
        host=str(info.get("host") or ""),
        pid=info.get("pid"),
        version=str(info.get("version") or ""),
        state=kernel("worker", info.get("host"), info.get("pid")) or state,
        started_at=iso(info.get("started_at")),
        queues=list(info.get("queues") or ()),
        concurrency=int(info.get("concurrency") or 0),
        processes=int(info.get("processes") or 0),
        handlers=list(info.get("handlers") or ()),
        running=item.held,
        lease_until=iso(item.lease_until),
        figures=figures,
        lacks=dict(info.get("lacks") or {}),
        seen_at=iso(item.seen_at),
    )


def recorded_worker(known: WorkerRecord) -> WorkerInfo:
    """A worker that is no longer registered; ``gone`` where it left in order, or its end is not recorded yet."""
    info = known.info
    return WorkerInfo(
        id=known.id,
        name=known.name or known.id,
        host=known.host or "",
        pid=info.get("pid"),
        version=str(info.get("version") or ""),
        state="lost" if known.state == "lost" else "gone",
        started_at=known.started_at,
        queues=list(info.get("queues") or ()),
        concurrency=int(info.get("concurrency") or 0),
        processes=int(info.get("processes") or 0),
        handlers=list(info.get("handlers") or ()),
        running=0,
        lease_until=None,
        lacks=dict(info.get("lacks") or {}),
        ended_at=None if known.state == "live" else known.changed_at,
    )


def coordinators(overview: Overview, kernel: Kernel) -> list[CoordinatorInfo]:
    """All live coordinators, the leader first."""
    terms = {lead.holder: lead.term for lead in overview.leaders.values() if lead.until > overview.now}
    found = [
        CoordinatorInfo(
            id=name,
            name=str(info.get("name") or name),
            host=str(info.get("host") or ""),
            pid=info.get("pid"),
            version=str(info.get("version") or ""),
            started_at=iso(info.get("started_at")),
            is_leader=name in terms,
            term=terms.get(name, 0),
            roles=dict(info.get("roles") or {}),
            state=kernel("coordinator", info.get("host"), info.get("pid")) or overview.coordinator_state(name),
            seen_at=iso(info["seen_at"]),
        )
        for name, info in overview.coordinators.items()
    ]
    return sorted(found, key=lambda c: (not c.is_leader, c.name, c.id))


def with_workers(row: Mapping[str, Any], overview: Overview | None) -> dict[str, Any]:
    """Catalogue *row* with ``workers``, the live ones that offer the handler, and ``lacking``.

    These have it and do not offer it: name of the worker → settings that the handler needs and that are not set there.
    """
    live = [] if overview is None else live_workers(overview)
    name = row["name"]
    return {
        **row,
        "workers": [worker.name for worker in live if name in worker.handlers],
        "lacking": {worker.name: worker.lacks[name] for worker in live if name in worker.lacks},
    }
