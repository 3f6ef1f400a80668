"""Log files of a context: where they are, and how they stay small."""

from __future__ import annotations

import os
from pathlib import Path

#: A log file is put aside when it has grown to this many bytes; this many old ones are kept.
ROTATE_BYTES = 10 * 2**20
ROTATE_KEEP = 3


def rotate(path: Path, *, limit: int = ROTATE_BYTES, keep: int = ROTATE_KEEP) -> bool:
    """Move *path* to ``path.1`` (and the older ones up) once it has *limit* bytes; tells whether it did.

    Only for writers that open the file by name again, or that write to it after this call.
    """
    try:
        if path.stat().st_size < limit:
            return False
    except OSError:
        return False
    for number in range(keep - 1, 0, -1):
        older = path.with_name(f"{path.name}.{number}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number + 1}"))
    path.replace(path.with_name(f"{path.name}.1"))
    return True


def tail(path: Path, lines: int = 20, *, most: int = 65_536) -> str:
    """The last *lines* of *path*, at most *most* bytes of it; empty where it does not exist."""
    try:
        with open(path, "rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - most))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
