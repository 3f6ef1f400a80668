"""Defaults of handlers as a client knows them: rows of the catalogue, kept for a few seconds."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from tqctl_runtime.client.shapes import Shape
from tqctl_runtime.core.errors import UsageError

if TYPE_CHECKING:
    from tqctl_runtime.core.handler import HandlerSpec, Registry

#: How long a catalogue row is believed, in seconds: a worker with other defaults may start at any time.
ROW_SECONDS = 5.0


class Declared(Protocol):
    """A handler that was declared in this process."""

    @property
    def spec(self) -> HandlerSpec:
        """Its declaration."""


class Shapes:
    """The shapes that one client made, by handler name or by declaration."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._by_name: dict[str, tuple[Shape, float]] = {}
        self._declared: dict[str, tuple[HandlerSpec, Shape]] = {}

    def find(self, name: str) -> Shape | None:
        """The shape of handler *name* while its row is fresh."""
        known = self._by_name.get(name)
        return known[0] if known is not None and time.monotonic() < known[1] else None

    def remember(self, name: str, row: Mapping[str, Any]) -> Shape:
        """The shape of catalogue *row*."""
        known = self._by_name.get(name)
        # The same row again: its templates stay good.
        shape = known[0] if known is not None and known[0].row == row else Shape(name, row, self._limit)
        self._by_name[name] = (shape, time.monotonic() + ROW_SECONDS)
        return shape

    def of_spec(self, spec: HandlerSpec) -> Shape:
        """The shape of a handler that was declared in this process."""
        known = self._declared.get(spec.name)
        if known is None or known[0] is not spec:
            known = self._declared[spec.name] = (spec, Shape(spec.name, spec.to_row(), self._limit))
        return known[1]

    def local(self, handler: str | Declared) -> Shape:
        """The shape of *handler* by what this process knows alone."""
        if not isinstance(handler, str):
            return self.of_spec(handler.spec)
        spec = registry().find(handler)
        return self.unknown(handler) if spec is None else self.of_spec(spec)

    def known(self, handler: str | Declared) -> Shape:
        """The shape of *handler* by its declaration or the last row that was seen, fresh or not."""
        if not isinstance(handler, str):
            return self.of_spec(handler.spec)
        row = self._by_name.get(handler)
        return self.unknown(handler) if row is None else row[0]

    def child(
        self, item: Any, options: Mapping[str, Any]
    ) -> tuple[Shape, Mapping[str, Any] | bytes, Mapping[str, Any]]:
        """Shape, payload and options of an item of ``submit_many`` inside of a running handler.

        Raises:
            UsageError: it is a submission, whose id the supervisor could not derive.
        """
        if not isinstance(item, tuple):
            raise UsageError("inside of a running handler an item is (handler, payload)")
        own = item[2] if len(item) == 3 else {}
        return self.local(item[0]), item[1], {**options, **own}

    def unknown(self, name: str) -> Shape:
        """The shape of a handler of which nothing is known."""
        return Shape(name, None, self._limit)


def registry() -> Registry:
    """The handlers declared in this process."""
    from tqctl_runtime.core import handler

    return handler.registry
