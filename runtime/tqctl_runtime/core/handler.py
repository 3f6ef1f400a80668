"""Handlers: what a worker can run and how it is declared."""

from __future__ import annotations

import difflib
import inspect
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tqctl_runtime.core.errors import ConfigError, PayloadError, UnknownHandler
from tqctl_runtime.core.ids import is_name
from tqctl_runtime.core.retry import DEFAULT_BACKOFF, DEFAULT_MAX_RETRIES, Backoff
from tqctl_runtime.core.submission import DEFAULT_PRIORITY, DEFAULT_QUEUE

_SIMPLE = {int: "int", float: "float", bool: "bool", str: "str"}


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a handler as the catalogue keeps it.

    *type* is ``int``, ``float``, ``bool``, ``str`` or ``json``; *default* is JSON text, None where it is required.
    """

    name: str
    type: str
    default: str | None

    @property
    def is_required(self) -> bool:
        """Whether a payload without it is refused."""
        return self.default is None


@dataclass(frozen=True, slots=True)
class HandlerSpec:
    """A registered handler: the function and the defaults of its tasks. *timeout* is seconds, None for no limit.

    *needs* are names of :data:`~tqctl_runtime.core.needs.KNOWN_NEEDS`. With *overlap_ok* an attempt runs on while the
    worker's lease cannot be renewed, so that another may start meanwhile.
    """

    name: str
    function: Callable[..., Any]
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    timeout: float | None = None
    max_retries: int = DEFAULT_MAX_RETRIES
    backoff: Backoff = DEFAULT_BACKOFF
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    never_retry_on: tuple[type[BaseException], ...] = ()
    is_async: bool = False
    argv: bool = False
    needs: tuple[str, ...] = ()
    overlap_ok: bool = False
    parameters: tuple[Parameter, ...] = ()
    takes_any: bool = False
    doc: str = ""
    where: str = ""

    def to_row(self) -> dict[str, Any]:
        """The catalogue row: JSON types only, keys as ``docs/architecture.md`` lists them."""
        return {
            "name": self.name,
            "queue": self.queue,
            "priority": self.priority,
            "timeout_s": self.timeout,
            "max_retries": self.max_retries,
            "backoff": self.backoff.to_wire(),
            "is_async": self.is_async,
            "argv": self.argv,
            "needs": list(self.needs),
            "overlap_ok": self.overlap_ok,
            "parameters": [[p.name, p.type, p.default] for p in self.parameters],
            "takes_any": self.takes_any,
            "doc": self.doc,
        }

    def bind(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """The keyword arguments for the function.

        Raises:
            PayloadError: a required parameter is missing, one is unknown or has another simple type.
        """
        known = {p.name: p for p in self.parameters}
        unknown = [] if self.takes_any else [key for key in payload if key not in known]
        if unknown:
            raise PayloadError(f"{self.name} has no parameter {', '.join(unknown)}", hint=self.example())
        missing = [p.name for p in self.parameters if p.is_required and p.name not in payload]
        if missing:
            raise PayloadError(f"{self.name} needs {', '.join(missing)}", hint=self.example())
        for key, value in payload.items():
            if key in known and not _fits(value, known[key]):
                raise PayloadError(f"{self.name}: {key} must be {known[key].type}, not {type(value).__name__}")
        return dict(payload)

    def example(self) -> str:
        """A command line that submits this handler."""
        return example_line(self.to_row())


def _fits(value: object, parameter: Parameter) -> bool:
    if value is None:
        return parameter.default == "null" or parameter.type == "json"
    match parameter.type:
        case "int":
            return isinstance(value, int) and not isinstance(value, bool)
        case "float":
            return isinstance(value, int | float) and not isinstance(value, bool)
        case "bool":
            return isinstance(value, bool)
        case "str":
            return isinstance(value, str)
    return True


def example_line(row: Mapping[str, Any]) -> str:
    """A command line that submits the handler of catalogue *row*, with one value for each required parameter."""
    if row.get("argv"):
        return f"tqctl submit {row['name']} -- COMMAND ARG..."
    samples = {"int": "1", "float": "1.5", "bool": "true", "str": "text"}
    parts = [f"tqctl submit {row['name']}"]
    for name, kind, default in row["parameters"]:
        if default is None:
            parts.append(f"-p {name}={samples[kind]}" if kind in samples else f"-p '{name}:=[]'")
    return " ".join(parts)


def describe(function: Callable[..., Any]) -> tuple[tuple[Parameter, ...], bool]:
    """The parameters of *function* by its signature, and whether it takes any keyword.

    Raises:
        ConfigError: it has positional-only or ``*args`` parameters, which a payload cannot fill.
    """
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  annotations of users may name anything; the row then says "json"
        hints = {}
    parameters: list[Parameter] = []
    takes_any = False
    for name, item in inspect.signature(function).parameters.items():
        if item.kind is item.VAR_KEYWORD:
            takes_any = True
            continue
        if item.kind in (item.POSITIONAL_ONLY, item.VAR_POSITIONAL):
            raise ConfigError(f"handler {function.__qualname__}: {name} cannot be filled by name")
        kind = _type_word(hints.get(name))
        default = None if item.default is item.empty else _json_default(item.default)
        parameters.append(Parameter(name, kind, default))
    return tuple(parameters), takes_any


def _type_word(hint: object) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        if len(members) != 1:
            return "json"
        hint = members[0]
    return _SIMPLE.get(hint, "json") if isinstance(hint, type) else "json"


def _json_default(value: object) -> str:
    try:
        return json.dumps(value)
    except (TypeError, ValueError):
        return json.dumps(repr(value))


class Registry:
    """Handlers by name. Two of one name are refused with both places, since only one could ever run."""

    def __init__(self) -> None:
        self._specs: dict[str, HandlerSpec] = {}

    def add(self, spec: HandlerSpec) -> None:
        """Register *spec*; the same function twice (a module imported again) is one.

        Raises:
            ConfigError: the name is not valid, or another function has it.
        """
        if not is_name(spec.name):
            raise ConfigError(f"{spec.name!r} is not a handler name", hint="1 to 100 of A-Z a-z 0-9 . _ -")
        other = self._specs.get(spec.name)
        if other is not None and other.where != spec.where:
            raise ConfigError(f"two handlers are called {spec.name!r}: {other.where} and {spec.where}")
        self._specs[spec.name] = spec

    def get(self, name: str) -> HandlerSpec:
        """The handler called *name*.

        Raises:
            UnknownHandler: there is none; near matches are in the hint.
        """
        try:
            return self._specs[name]
        except KeyError:
            raise unknown_handler(name, self._specs) from None

    def find(self, name: str) -> HandlerSpec | None:
        """The handler called *name*, or None."""
        return self._specs.get(name)

    def specs(self) -> list[HandlerSpec]:
        """All handlers by name."""
        return [self._specs[name] for name in sorted(self._specs)]

    def clear(self) -> None:
        """Forget all handlers."""
        self._specs.clear()


#: Where ``@handler`` puts what it declares.
registry = Registry()


def unknown_handler(name: str, known: Iterable[str]) -> UnknownHandler:
    """The error for a handler nobody has, with near matches of *known* as hint."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = "did you mean " + " or ".join(near) + "?"
    elif names:
        hint = "known: " + ", ".join(names[:10]) + ("; all: tqctl handler list" if len(names) > 10 else "")
    else:
        hint = "no worker has started yet: tqctl up --detach"
    return UnknownHandler(f"no handler is called {name!r}", hint=hint)


def source_place(function: Callable[..., Any]) -> str:
    """``file:line`` of *function*, as errors about it show."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(function)
