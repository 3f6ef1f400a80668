"""A task queue that is operated from a terminal.

``from tqctl import handler, Client, current_task, Retry, Cancel``. Names are imported when they are first used, so that
the command line pays only for what a command needs.
"""

from __future__ import annotations

from tqctl._version import __version__

# Not from typing: that import would be a tenth of what --version may take.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from tqctl_runtime.api import Backoff, Handler, handler, use_client
    from tqctl_runtime.client import AsyncClient, Client, PartlySubmitted, Receipt, Unconfirmed
    from tqctl_runtime.core.current import CurrentTask, current_task
    from tqctl_runtime.core.errors import (
        AmbiguousId,
        BrokerTimeout,
        BrokerUnavailable,
        Busy,
        Cancel,
        CancelRequested,
        ConfigError,
        Conflict,
        Interrupted,
        NotAllowed,
        NotFound,
        Partial,
        PayloadError,
        Pending,
        RecordUnavailable,
        Retry,
        TaskCancelled,
        TaskFailed,
        TaskTimedOut,
        TimeLimitReached,
        TqctlError,
        Unavailable,
        UnknownHandler,
        UsageError,
        WaitTimeout,
    )
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.core.states import State

_ERRORS = (
    "AmbiguousId",
    "BrokerTimeout",
    "BrokerUnavailable",
    "Busy",
    "Cancel",
    "CancelRequested",
    "ConfigError",
    "Conflict",
    "Interrupted",
    "NotAllowed",
    "NotFound",
    "Partial",
    "PayloadError",
    "Pending",
    "RecordUnavailable",
    "Retry",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimedOut",
    "TimeLimitReached",
    "TqctlError",
    "Unavailable",
    "UnknownHandler",
    "UsageError",
    "WaitTimeout",
)
_PLACES = {
    "tqctl_runtime.api": ("Backoff", "Handler", "handler", "use_client"),
    "tqctl_runtime.client": ("AsyncClient", "Client", "PartlySubmitted", "Receipt", "Unconfirmed"),
    "tqctl_runtime.core.errors": _ERRORS,
    "tqctl_runtime.core.current": ("CurrentTask", "current_task"),
    "tqctl_runtime.core.settings": ("Settings",),
    "tqctl_runtime.core.states": ("State",),
}
_MODULES = {name: module for module, names in _PLACES.items() for name in names}

__all__ = [
    "AmbiguousId",
    "AsyncClient",
    "Backoff",
    "BrokerTimeout",
    "BrokerUnavailable",
    "Busy",
    "Cancel",
    "CancelRequested",
    "Client",
    "ConfigError",
    "Conflict",
    "CurrentTask",
    "Handler",
    "Interrupted",
    "NotAllowed",
    "NotFound",
    "Partial",
    "PartlySubmitted",
    "PayloadError",
    "Pending",
    "Receipt",
    "RecordUnavailable",
    "Retry",
    "Settings",
    "State",
    "TaskCancelled",
    "TaskFailed",
    "TaskTimedOut",
    "TimeLimitReached",
    "TqctlError",
    "Unavailable",
    "Unconfirmed",
    "UnknownHandler",
    "UsageError",
    "WaitTimeout",
    "__version__",
    "current_task",
    "handler",
    "use_client",
]


def __getattr__(name: str) -> Any:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(module), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
