"""The light road of ``submit``: the client, joined to a broker that is started where that is allowed.

Nothing here may import redis-py, SQL or asyncio; a subprocess test holds the list.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tqctl_runtime.broker import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tqctl_runtime.broker.views import Overview
    from tqctl_runtime.client.receipts import Durability
    from tqctl_runtime.client.sync import Client
    from tqctl_runtime.core.errors import UnknownHandler
    from tqctl_runtime.core.settings import Settings


@contextmanager
def open_client(settings: Settings, *, on_start: Callable[[str], None] | None = None) -> Iterator[Client]:
    """A client on the broker of *settings*.

    With *on_start* the private one is started when it does not run, and *on_start* is told so.
    """
    from tqctl_runtime.client.sync import Client

    if settings.redis_url is None and on_start is not None:
        from tqctl_runtime.broker.embedded import ensure_started

        down = "tqctl down" if settings.context == "default" else f"tqctl down -c {settings.context}"
        ensure_started(settings, on_start=lambda: on_start(f"started the private server; it goes on until: {down}"))
    with Client(settings) as client:
        yield client


def durability_of(word: str | None) -> Durability:
    """What the flag asks for; without it recorded where somebody records."""
    if word == "accepted":
        return "accepted"
    return "recorded" if word == "recorded" else "auto"


def read_row(client: Client, handler: str) -> Mapping[str, Any] | None:
    """The catalogue row of *handler*."""
    return client.wire.call(calls.catalogue_row(client.keys, handler))


def read_catalogue(client: Client) -> Mapping[str, Mapping[str, Any]]:
    """All catalogue rows by name."""
    client.require_open()
    return client.wire.call(calls.catalogue(client.keys))


def read_overview(client: Client) -> Overview:
    """The live figures."""
    from tqctl_runtime.broker import views

    return client.wire.call(views.overview(client.keys))


def has_worker(overview: Overview, handler: str, queue: str) -> bool:
    """Whether a live worker runs *handler* and serves *queue*."""
    return any(
        handler in worker.info.get("handlers", ()) and queue in worker.info.get("queues", ())
        for worker in overview.workers
        if worker.lease_until > overview.now
    )


def lacking(overview: Overview, handler: str) -> dict[str, list[str]]:
    """Live workers that have *handler* and cannot offer it → the settings that it needs and that are not set there."""
    return {
        worker.info["name"]: worker.info["lacks"][handler]
        for worker in overview.workers
        if worker.lease_until > overview.now and handler in worker.info.get("lacks", ())
    }


def unknown(handler: str, rows: Mapping[str, Mapping[str, Any]]) -> UnknownHandler:
    """The error for a *handler* that is not among the catalogue's *rows*."""
    from tqctl_runtime.core.builtins import GUARDED
    from tqctl_runtime.core.errors import UnknownHandler
    from tqctl_runtime.core.handler import unknown_handler

    if handler in GUARDED and rows:
        hint = f"on a Redis of your own a worker must be told to: tqctl worker start --allow-{handler}"
        return UnknownHandler(f"no worker offers {handler}", hint=hint)
    return unknown_handler(handler, rows)
