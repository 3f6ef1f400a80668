"""A small file system that can be filled; needs root."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import MissingServerError


@contextlib.contextmanager
def small_file_system(path: Path, megabytes: int) -> Iterator[Path]:
    """A file system of that size at the new folder *path*.

    Raises:
        MissingServerError: nobody lets us mount one.
    """
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=777", "tmpfs", str(path)]
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise MissingServerError(f"a small file system ({error})") from None
    if done.returncode:
        raise MissingServerError(f"root, to mount a small file system ({done.stderr.strip()})")
    try:
        yield path
    finally:
        # Also while somebody who was killed is still on his way out.
        subprocess.run(["umount", "-l", str(path)], check=True)


def fill(folder: Path) -> Path:
    """Fill the file system of *folder* to its last byte; the file that does it."""
    filler = folder / "filler"
    for size in (65_536, 512, 1):
        with contextlib.suppress(OSError), open(filler, "ab", buffering=0) as file:
            while file.write(b"\0" * size):
                pass
    return filler
