"""Built-in handlers: where each function is, and the catalogue row by which it can be submitted before a worker runs.

Executors import a module only when its handler first runs; a test holds the rows to the functions.
"""

from __future__ import annotations

from typing import Any

BUILTINS: dict[str, str] = {
    "echo": "tqctl_runtime.handlers.echo:echo",
    "shell": "tqctl_runtime.handlers.shell:shell",
    "sleep": "tqctl_runtime.handlers.testing:sleep",
    "fail": "tqctl_runtime.handlers.testing:fail",
    "compute": "tqctl_runtime.handlers.compute:compute",
}

#: Offered only where whoever can submit may run commands anyway: the private broker, or by ``--allow-shell``.
GUARDED = frozenset({"shell"})

#: name → (parameters, takes any, first line of its description)
_TABLE: dict[str, tuple[list[list[str | None]], bool, str]] = {
    "echo": ([], True, "Return the payload."),
    "sleep": ([["seconds", "float", "1.0"]], False, "Sleep that long."),
    "fail": (
        [["mode", "str", '"error"'], ["times", "int", "0"], ["message", "str", '"this task fails on purpose"']],
        False,
        "Fail: error, exit, segv, hang or stubborn; with times=N only the first N attempts do.",
    ),
    "compute": (
        [["what", "str", '"primes"'], ["n", "int", "10000"]],
        False,
        "Count the primes up to n, or compute the n-th Fibonacci number.",
    ),
}


def builtin_rows() -> dict[str, dict[str, Any]]:
    """The catalogue rows of the built-ins that every worker offers, by name."""
    return {name: _row(name) for name in _TABLE}


def builtin_row(name: str) -> dict[str, Any] | None:
    """The catalogue row of the built-in *name*; None where not every worker offers it."""
    return _row(name) if name in _TABLE else None


def _row(name: str) -> dict[str, Any]:
    parameters, takes_any, doc = _TABLE[name]
    return {
        "name": name,
        "queue": "default",
        "priority": 5,
        "timeout_s": None,
        "max_retries": 5,
        "backoff": ["exponential", 1.0, 3600.0, 0.2, []],
        "is_async": False,
        "argv": False,
        "needs": [],
        "overlap_ok": False,
        "parameters": parameters,
        "takes_any": takes_any,
        "doc": doc,
    }
