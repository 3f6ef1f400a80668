"""The file systems that we write to have room."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene

#: Room for a journal at its second mark, and for what the record writes meanwhile.
FREE_BYTES = 1024 * 2**20


def check(scene: Scene) -> Iterator[Finding]:
    """Free bytes where the context's folder is, and where an SQLite record of another folder is."""
    places = {_existing(scene.settings.context_home): scene.settings.context_home}
    url = scene.settings.database_url or ""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///")).expanduser().parent
        places.setdefault(_existing(path), path)
    for place, wanted in places.items():
        try:
            free = shutil.disk_usage(place).free
        except OSError as error:
            yield skipped(f"{place}: {error.strerror}")
            continue
        text = f"{free / 2**30:.1f} GiB free at {wanted}"
        if free < FREE_BYTES:
            yield problem(f"{text}: journal, record and logs may stop", f"make room: df -h {place}")
        else:
            yield ok(text)


def _existing(path: Path) -> Path:
    """*path*, or the nearest folder above it that is there."""
    return next((place for place in (path, *path.parents) if place.exists()), Path("/"))
