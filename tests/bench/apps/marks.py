"""Marks: the shared file in which task bodies note that they ran.

One file serves every system, so all are timed by the same clock. Writing a mark costs half a microsecond.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path

_INSTANT = struct.Struct("<d")
_CELL = _INSTANT.size + 1


class Marks:
    """For each task number: how often its body ran (at most 255) and the monotonic instant of the last time."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self.count = len(self._map) // _CELL
        self._hits = self.count * _INSTANT.size

    @classmethod
    def create(cls, path: Path, count: int) -> Marks:
        """A new file with room for *count* numbers, none marked."""
        path.write_bytes(bytes(count * _CELL))
        return cls(path)

    @classmethod
    def from_environment(cls) -> Marks:
        """The file that ``BENCH_MARKS`` names."""
        return cls(Path(os.environ["BENCH_MARKS"]))

    def hit(self, number: int) -> None:
        """Note that the body of *number* runs now."""
        _INSTANT.pack_into(self._map, number * _INSTANT.size, time.monotonic())
        place = self._hits + number
        if self._map[place] < 255:
            self._map[place] += 1

    def hits(self, number: int) -> int:
        """How often *number* ran."""
        return self._map[self._hits + number]

    def instant(self, number: int) -> float:
        """When *number* ran last; monotonic seconds."""
        return float(_INSTANT.unpack_from(self._map, number * _INSTANT.size)[0])

    def ran(self) -> int:
        """How many numbers ran at least once."""
        return self.count - self._map[self._hits :].count(0)

    def doubled(self) -> int:
        """How many numbers ran more than once."""
        cells = self._map[self._hits :]
        return self.count - cells.count(0) - cells.count(1)

    def span(self) -> tuple[float, float]:
        """The first and the last instant; monotonic seconds.

        Raises:
            ValueError: nothing ran.
        """
        ran = [self.instant(number) for number in range(self.count) if self.hits(number)]
        return min(ran), max(ran)

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()
