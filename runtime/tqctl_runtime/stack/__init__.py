"""The whole stack of a context on this machine: start, stop, look.

``up`` starts the private server, a coordinator and workers under one parent, ``down`` stops everything that is
registered, ``status`` tells what runs. A second ``up`` of a context is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqctl_runtime.stack.logs import follow as follow
    from tqctl_runtime.stack.logs import log_files as log_files
    from tqctl_runtime.stack.service import serve as serve
    from tqctl_runtime.stack.state import StackStatus as StackStatus
    from tqctl_runtime.stack.state import status as status
    from tqctl_runtime.stack.stopping import Stopped as Stopped
    from tqctl_runtime.stack.stopping import down as down
    from tqctl_runtime.stack.supervisor import up as up
    from tqctl_runtime.stack.supervisor import up_detached as up_detached

#: No module bears the name of a function: once imported, it would hide it.
_HOMES = {
    "Stopped": "stopping",
    "down": "stopping",
    "follow": "logs",
    "log_files": "logs",
    "serve": "service",
    "StackStatus": "state",
    "status": "state",
    "up": "supervisor",
    "up_detached": "supervisor",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605  the names of the table, none of them loaded before it is used


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
