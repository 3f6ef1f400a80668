"""What a parent tells a child process at its start, and what the child tells back.

Orders travel over standard input, never over the command line or the environment: settings hold secrets.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from tqctl_runtime.core import errors
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.settings import SETTING_FIELDS, Settings

#: Exit codes of a child by the kind of its error; the parent shows the error itself.
EXIT_CONFIG, EXIT_UNAVAILABLE, EXIT_ERROR = 78, 69, 1


@dataclass(frozen=True, slots=True)
class Order:
    """Be *role* under *name*; tell how it went through the inherited descriptor *answer*.

    *parent* is the process whose end ends the child too, 0 for none.
    """

    role: str
    name: str
    settings: Settings
    log: Path | None
    parent: int
    answer: int

    def to_bytes(self) -> bytes:
        """The form for standard input."""
        values = {field.name: getattr(self.settings, field.name) for field in fields(Settings)}
        values["home"] = str(values["home"])
        rest = {"role": self.role, "name": self.name, "parent": self.parent, "answer": self.answer}
        return json.dumps({"settings": values, "log": str(self.log or ""), **rest}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Order:
        """The reverse of :meth:`to_bytes`."""
        row: dict[str, Any] = json.loads(data)
        given = row.pop("settings")
        settings = Settings(**{name: _value(name, value) for name, value in given.items()})
        log = row.pop("log")
        return cls(settings=settings, log=Path(log) if log else None, **row)


def _value(name: str, value: Any) -> Any:
    kind = SETTING_FIELDS[name].metadata["kind"]
    if kind == "path":
        return Path(value)
    return tuple(value) if kind == "list" else value


class Answer:
    """The child's end: says once how its start went."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """The start worked."""
        self._send({"ready": True})

    def failed(self, error: BaseException) -> None:
        """The start did not work, or the process ends by an error before it was ready."""
        if isinstance(error, TqctlError):
            self._send({"code": error.code, "message": error.message, "hint": error.hint})
        else:
            self._send({"code": "error", "message": f"{type(error).__name__}: {error}", "hint": None})

    def _send(self, row: dict[str, Any]) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            os.write(descriptor, json.dumps(row).encode() + b"\n")
        except BrokenPipeError:
            pass  # nobody waits any more
        os.close(descriptor)


def read_answer(line: bytes) -> TqctlError | None:
    """What a child said: None for ready, else its error."""
    row = json.loads(line)
    if row.get("ready"):
        return None
    # A kind without a code of its own is told as its base.
    kinds = {kind.code: kind for kind in _kinds(TqctlError) if "code" in vars(kind)}
    kind = kinds.get(row["code"], TqctlError)
    try:
        return kind(row["message"], hint=row["hint"])
    except TypeError:
        return TqctlError(row["message"], hint=row["hint"])


def exit_code(error: BaseException) -> int:
    """The exit code of a child that ends by *error*."""
    if isinstance(error, errors.ConfigError | errors.StoresDiffer):
        return EXIT_CONFIG
    return EXIT_UNAVAILABLE if isinstance(error, errors.Unavailable) else EXIT_ERROR


def _kinds(base: type[TqctlError]) -> list[type[TqctlError]]:
    found = [base]
    for kind in base.__subclasses__():
        found += _kinds(kind)
    return found
