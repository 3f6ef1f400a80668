"""One virtual environment for each peer, with pinned versions, built once below the cache folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from tests.bench.processes import run

ROOT = Path(__file__).resolve().parents[2]
_INSTALL_TIMEOUT = 300.0


def default_cache() -> Path:
    """``TQCTL_BENCH_CACHE``, else ``.make/bench`` in the checkout."""
    return Path(os.environ.get("TQCTL_BENCH_CACHE", ROOT / ".make" / "bench"))


def _base_python() -> str:
    return str(getattr(sys, "_base_executable", sys.executable))


def ensure(cache: Path, name: str, requirements: tuple[str, ...]) -> Path:
    """The folder of programs (``bin``) of the environment *name*, rebuilt when its requirements changed.

    Raises:
        BenchError: it could not be built.
    """
    folder = cache / "venvs" / name
    stamp = folder / "requirements.stamp"
    wanted = "\n".join((sys.version, *requirements))
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        run([_base_python(), "-m", "venv", str(folder)], os.environ, _INSTALL_TIMEOUT)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, *requirements], os.environ, _INSTALL_TIMEOUT)
        stamp.write_text(wanted)
    return folder / "bin"
