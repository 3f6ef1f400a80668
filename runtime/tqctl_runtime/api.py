"""Declaring handlers: ``@handler`` and the object it makes, which is the function with ``submit`` beside it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack, cast, overload

from tqctl_runtime.core.current import current_task
from tqctl_runtime.core.errors import ConfigError, PayloadError, UsageError
from tqctl_runtime.core.handler import HandlerSpec, describe, registry, source_place
from tqctl_runtime.core.needs import parse_needs
from tqctl_runtime.core.retry import DEFAULT_BACKOFF, DEFAULT_MAX_RETRIES, Backoff
from tqctl_runtime.core.submission import DEFAULT_PRIORITY, DEFAULT_QUEUE, parse_priority

if TYPE_CHECKING:
    from tqctl_runtime.client import Client
    from tqctl_runtime.client.options import Options

P = ParamSpec("P")
R = TypeVar("R")
Errors = type[BaseException] | Iterable[type[BaseException]]


class Handler(Generic[P, R]):
    """A function that workers can run. Calling it runs it here; ``submit`` queues it with the same arguments."""

    def __init__(self, spec: HandlerSpec) -> None:
        self.spec = spec
        self._signature = inspect.signature(spec.function)
        functools.update_wrapper(self, spec.function)

    @property
    def name(self) -> str:
        """The name by which it is submitted."""
        return self.spec.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here and now."""
        return cast("R", self.spec.function(*args, **kwargs))

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Queue a task with these arguments; returns its id. Errors as ``Client.submit``.

        Raises:
            PayloadError: the arguments do not fit the function.
        """
        return default_client().submit(self, self.payload(*args, **kwargs))

    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """As :meth:`submit`, while the event loop goes on: in an async handler ``submit`` holds up its neighbours."""
        return await default_client().submit_async(self, self.payload(*args, **kwargs))

    def options(self, **options: Unpack[Options]) -> Bound[P]:
        """The same handler with options for its tasks: ``fn.options(delay=60).submit(...)``."""
        return Bound(self, options)

    def payload(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """The payload that these arguments mean.

        Raises:
            PayloadError: they do not fit the function.
        """
        if not args:
            return self.spec.bind(kwargs)
        try:
            payload = dict(self._signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise PayloadError(f"{self.name}: {error}") from None
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                payload.update(payload.pop(parameter.name, {}))
        return self.spec.bind(payload)

    def __repr__(self) -> str:
        return f"<handler {self.name} at {self.spec.where}>"


class Bound(Generic[P]):
    """A handler with options for its tasks."""

    def __init__(self, handler: Handler[P, Any], options: Options) -> None:
        self._handler = handler
        self._options = options

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Queue a task with these arguments and options; returns its id."""
        payload = self._handler.payload(*args, **kwargs)
        return default_client().submit(self._handler, payload, **self._options)

    async def submit_async(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """As :meth:`submit`, while the event loop goes on."""
        payload = self._handler.payload(*args, **kwargs)
        return await default_client().submit_async(self._handler, payload, **self._options)


@overload
def handler(name: Callable[P, R], /) -> Handler[P, R]: ...


@overload
def handler(
    name: str | None = None,
    *,
    queue: str = DEFAULT_QUEUE,
    priority: int | str = DEFAULT_PRIORITY,
    timeout: timedelta | float | None = None,
    max_retries: int = DEFAULT_MAX_RETRIES,
    backoff: Backoff | timedelta | float | Iterable[timedelta | float] = DEFAULT_BACKOFF,
    retry_on: Errors = (Exception,),
    never_retry_on: Errors = (),
    needs: str | Iterable[str] = (),
    overlap_ok: bool = False,
) -> Callable[[Callable[P, R]], Handler[P, R]]: ...


def handler(
    name: Callable[..., Any] | str | None = None,
    *,
    queue: str = DEFAULT_QUEUE,
    priority: int | str = DEFAULT_PRIORITY,
    timeout: timedelta | float | None = None,
    max_retries: int = DEFAULT_MAX_RETRIES,
    backoff: Backoff | timedelta | float | Iterable[timedelta | float] = DEFAULT_BACKOFF,
    retry_on: Errors = (Exception,),
    never_retry_on: Errors = (),
    needs: str | Iterable[str] = (),
    overlap_ok: bool = False,
) -> Any:
    """Make a plain or async function a handler, called *name* or as the function is.

    Durations are ``timedelta`` or seconds. *timeout* bounds one attempt. *backoff* is a ``Backoff``, the base of an
    exponential one, or the delays themselves. An error is retried when it is one of *retry_on* and none of
    *never_retry_on*. *needs* names what ``current_task().needs`` holds: ``"db"`` (the record's URL), ``"smtp"`` (the
    mail server's); such handlers run in executors of their own and no other executor sees the values. An attempt is
    killed when its worker's lease can no longer be renewed, since another worker may take the task then; with
    *overlap_ok* it runs on, and its result counts if nobody took the task.

    Raises:
        ConfigError: the function cannot be filled by name, another handler has its name, or a need is not known.
        UsageError: an option is not valid.
    """

    def declare(function: Callable[..., Any]) -> Handler[..., Any]:
        if isinstance(function, type):
            raise ConfigError(f"@handler needs a function, not {function!r}")
        parameters, takes_any = describe(function)
        called = name if isinstance(name, str) else function.__name__
        where = source_place(function)
        spec = HandlerSpec(
            name=called,
            function=function,
            queue=queue,
            priority=parse_priority(priority),
            timeout=_seconds("timeout", timeout),
            max_retries=max_retries,
            backoff=_backoff(backoff),
            retry_on=_errors("retry_on", retry_on),
            never_retry_on=_errors("never_retry_on", never_retry_on),
            is_async=inspect.iscoroutinefunction(function),
            argv=False,
            needs=parse_needs(needs, whose=f"{called!r} at {where}"),
            overlap_ok=overlap_ok,
            parameters=parameters,
            takes_any=takes_any,
            doc=(inspect.getdoc(function) or "").partition("\n")[0],
            where=where,
        )
        registry.add(spec)
        return Handler(spec)

    return declare(name) if callable(name) else declare


def _seconds(what: str, value: timedelta | float | None) -> float | None:
    if value is None:
        return None
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if seconds < 0:
        raise UsageError(f"{what} must be a timedelta or seconds, 0 or more, not {value!r}")
    return float(seconds) or None


def _backoff(value: Backoff | timedelta | float | Iterable[timedelta | float]) -> Backoff:
    if isinstance(value, Backoff):
        return value
    if isinstance(value, Iterable):
        return Backoff("list", delays=tuple(_seconds("backoff", item) or 0.0 for item in value))
    return Backoff(base=_seconds("backoff", value) or 0.0)


def _errors(what: str, value: Errors) -> tuple[type[BaseException], ...]:
    kinds = (value,) if isinstance(value, type) else tuple(value)
    for kind in kinds:
        if not issubclass(kind, BaseException):
            raise UsageError(f"{what} holds {kind!r}, which is no exception class")
    return kinds


class _Default:
    client: Client | None = None


def default_client() -> Client:
    """The client behind ``fn.submit``: one a process, by the settings that held when it was first needed."""
    if _Default.client is None:
        from tqctl_runtime.client import Client

        _Default.client = Client()
    return _Default.client


def use_client(client: Client | None) -> None:
    """Make *client* the one behind ``fn.submit``; None: a new one from the settings when it is next needed."""
    _Default.client = client


__all__ = ["Backoff", "Bound", "Handler", "current_task", "default_client", "handler", "use_client"]
