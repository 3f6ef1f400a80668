"""Built-in handlers: name → where the function is. Executors import a module only when its handler first runs."""

from __future__ import annotations

BUILTINS: dict[str, str] = {
    "echo": "tqctl_runtime.handlers.echo:echo",
    "shell": "tqctl_runtime.handlers.shell:shell",
    "sleep": "tqctl_runtime.handlers.testing:sleep",
    "fail": "tqctl_runtime.handlers.testing:fail",
    "compute": "tqctl_runtime.handlers.compute:compute",
}

#: Offered only where whoever can submit may run commands anyway: the private broker, or by ``--allow-shell``.
GUARDED = frozenset({"shell"})
