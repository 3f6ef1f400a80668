"""The log files of a context's processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tqctl_runtime.core.errors import NotFound

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

_POLL = 0.2
_BROKER = "valkey"


def log_files(settings: Settings, role: str | None = None) -> list[Path]:
    """The present log file of each process that ever ran, or of those whose role or name is *role*.

    Raises:
        NotFound: no process of that role or name has a log.
    """
    folder = settings.context_home / "logs"
    found = sorted(folder.glob("*.log"))
    if role is None:
        return found
    wanted = _BROKER if role == "broker" else role
    fitting = [path for path in found if path.stem == wanted or path.stem.rpartition("-")[0] == wanted]
    if not fitting:
        names = ", ".join(path.stem for path in found)
        raise NotFound(f"no log of {role!r} in {folder}", hint=f"there are: {names}" if names else "tqctl up --detach")
    return fitting


def follow(paths: Sequence[Path], *, lines: int = 20) -> Iterator[tuple[str, str]]:
    """(name, line) for the last *lines* of each file and then for what is added, for ever; close it to stop."""
    tails = [_Tail(path, lines) for path in paths]
    try:
        while True:
            told = False
            for tail in tails:
                for line in tail.read():
                    told = True
                    yield tail.name, line
            if not told:
                time.sleep(_POLL)
    finally:
        for tail in tails:
            tail.close()


class _Tail:
    """One file that is read as it grows, also over its rotation."""

    def __init__(self, path: Path, lines: int) -> None:
        self.name = path.stem
        self._path = path
        self._rest = b""
        self._file: BinaryIO | None = None
        self._open()
        self._skip_to_last(lines)

    def read(self) -> list[str]:
        """The whole lines that were added."""
        if self._file is None:
            self._open()
            if self._file is None:
                return []
        data = self._file.read()
        if not data and self._was_replaced():
            self.close()
            return []
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self) -> None:
        try:
            self._file = open(self._path, "rb")  # noqa: SIM115  closed by close()
        except OSError:
            self._file = None

    def _skip_to_last(self, lines: int) -> None:
        if self._file is None:
            return
        data = self._file.read()
        kept = data.splitlines(keepends=True)[-lines:] if lines else []
        self._file.seek(len(data) - sum(map(len, kept)))

    def _was_replaced(self) -> bool:
        assert self._file is not None
        try:
            return os.fstat(self._file.fileno()).st_ino != self._path.stat().st_ino
        except OSError:
            return False
