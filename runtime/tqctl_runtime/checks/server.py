"""The server is new enough."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene

#: Script flags came with Redis 7.0; every Valkey has them.
_OLDEST = (7, 0)
#: The first releases of each line without the Lua flaws CVE-2025-49844, -46817 and -46818.
_MENDED = {
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}


def check(scene: Scene) -> Iterator[Finding]:
    """Kind and version."""
    if scene.info is None:
        yield skipped("no broker")
        return
    kind = "valkey" if "valkey_version" in scene.info else "redis"
    text = scene.info.get(f"{kind}_version", "")
    version = _numbers(text)
    name = f"{kind.capitalize()} {text}"
    if version[:2] < _OLDEST:
        yield problem(f"{name} is too old", "tqctl needs Redis 7.0 or later, or Valkey")
        return
    if _is_mended(kind, version):
        yield ok(name)
    else:
        floor = ", ".join(f"{a}.{b}.{c}" for (a, b), c in _MENDED[kind].items())
        yield ok(f"{name}; known Lua flaws are mended from {floor} on, or by your distribution's own patch")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in text.split("."))


def _is_mended(kind: str, version: tuple[int, ...]) -> bool:
    lines = _MENDED[kind]
    line = version[:2]
    if line in lines:
        return version[2:3] >= (lines[line],)
    return line > max(lines)
