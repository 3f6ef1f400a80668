"""What the record knows beside tasks: the catalogue, workers, settings, events, the quarantine."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, false, or_, select

from tqctl_runtime.core.clock import iso
from tqctl_runtime.core.ids import TAIL_MINIMUM
from tqctl_runtime.record.queries.names import EVENTS, HANDLERS, SETTINGS, WORKERS
from tqctl_runtime.record.read import Event, WorkerRecord


def events(connection: Connection, subject: str, limit: int) -> list[Event]:
    """What was decided about *subject*, in order."""
    c = EVENTS.c
    order = (c.at, c.version, c.epoch, c.stream_id, c.position)
    rows = connection.execute(select(EVENTS).where(c.subject == subject).order_by(*order).limit(limit))
    return [Event(iso(r.at), r.kind, r.subject, r.state, r.reason or None, r.who or None) for r in rows]


def handlers(connection: Connection) -> dict[str, dict[str, Any]]:
    """The catalogue rows by name."""
    rows = connection.execute(select(HANDLERS.c.name, HANDLERS.c.row).order_by(HANDLERS.c.name))
    return {row.name: json.loads(row.row) for row in rows}


def workers(connection: Connection, limit: int, word: str | None = None) -> list[WorkerRecord]:
    """Workers, the latest change first; those alone that *word* means: an id, its end or a name."""
    c = WORKERS.c
    wanted = select(WORKERS).order_by(c.changed_at.desc(), c.id.desc()).limit(limit)
    if word is not None:
        tail = c.id.endswith(word.upper(), autoescape=True) if len(word) >= TAIL_MINIMUM else false()
        wanted = wanted.where(or_(c.id == word, c.name == word, tail))
    rows = connection.execute(wanted)
    return [
        WorkerRecord(
            r.id, r.state, r.name, r.host, iso(r.started_at), iso(r.changed_at), json.loads(r.info) if r.info else {}
        )
        for r in rows
    ]


def settings(connection: Connection, section: str) -> dict[str, Any]:
    """The settings of *section* by key."""
    c = SETTINGS.c
    rows = connection.execute(select(c.key, c.value).where(c.section == section).order_by(c.key))
    return {row.key: json.loads(row.value) for row in rows}
