"""Time, and the grammar in which people write it.

Durations are ``timedelta`` in Python and whole milliseconds on the wire; instants are aware and UTC.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

from tqctl_runtime.core.errors import UsageError

_UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_CLOCK = re.compile(r"(?:(today|tomorrow)\s+)?(\d{1,2}):(\d{2})(?::(\d{2}))?\Z")
_LONGEST_MS = 100 * 365 * 86_400_000
#: CLOCK_BOOTTIME counts while the machine sleeps, which a lease on a server does too.
_BOOTTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now_ms() -> int:
    """Milliseconds since 1970 by this machine's wall clock."""
    return time.time_ns() // 1_000_000


def boot_seconds() -> float:
    """Seconds of a clock that never jumps and goes on while the machine sleeps."""
    return time.clock_gettime(_BOOTTIME)


def instant(milliseconds: int | None) -> datetime | None:
    """The aware UTC instant of *milliseconds* since 1970; 0 and None mean none."""
    if not milliseconds:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def iso(milliseconds: int | None) -> str | None:
    """RFC 3339 in UTC with milliseconds, as JSON output shows instants; 0 and None mean none."""
    moment = instant(milliseconds)
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def to_ms(duration: timedelta | float | int) -> int:
    """Whole milliseconds of a ``timedelta`` or of a number of seconds."""
    seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
    return round(seconds * 1000)


def parse_duration_ms(text: str) -> int:
    """Milliseconds of ``30s``, ``5m``, ``1h30m``, ``250ms``, ``2d``; ``0`` needs no unit.

    Raises:
        UsageError: not a duration, or longer than a hundred years.
    """
    compact = text.strip().lower()
    if compact == "0":
        return 0
    total = 0.0
    position = 0
    for match in _PART.finditer(compact):
        if match.start() != position:
            break
        total += float(match[1]) * _UNITS[match[2]]
        position = match.end()
    if not compact or position != len(compact):
        raise UsageError(f"{text!r} is not a duration", hint="write it like 250ms, 30s, 5m, 2h or 7d")
    if total > _LONGEST_MS:
        raise UsageError(f"{text!r} is longer than a hundred years")
    return round(total)


def format_duration(milliseconds: int | float | None) -> str:
    """A short duration for people: ``350ms``, ``4.2s``, ``3m12s``, ``2h5m``, ``3d4h``; a dash for None."""
    if milliseconds is None:
        return "-"
    if milliseconds < 0:
        return "-" + format_duration(-milliseconds)
    # The bounds are where rounding would show a whole next unit: 1000ms, 60s.
    if milliseconds < 999.5:
        return f"{milliseconds:.0f}ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f}s".replace(".0s", "s")
    whole = max(int(seconds), 60)
    for size, unit, small, small_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            rest = whole % size // small
            return f"{whole // size}{unit}" + (f"{rest}{small_unit}" if rest else "")
    raise AssertionError("unreachable: 60 s or more always fits a unit")


def parse_instant(text: str, *, now: datetime) -> datetime:
    """The aware UTC instant that a person means by *text*.

    Accepts ISO 8601, ``HH:MM``, ``today HH:MM``, ``tomorrow HH:MM``, ``+10m``, ``-1h`` and a bare duration (in the
    past). Without an offset the zone of *now* is meant; a bare ``HH:MM`` that is already past means tomorrow.

    Raises:
        UsageError: none of these.
    """
    compact = text.strip()
    if compact == "now":
        return now.astimezone(UTC)
    if compact[:1] in "+-":
        delta = timedelta(milliseconds=parse_duration_ms(compact[1:]))
        return (now + delta if compact[0] == "+" else now - delta).astimezone(UTC)
    clock = _CLOCK.match(compact.lower())
    if clock:
        return _clock_instant(clock, now, text)
    if _PART.match(compact.lower()) and not re.match(r"\d{4}-", compact):
        return (now - timedelta(milliseconds=parse_duration_ms(compact))).astimezone(UTC)
    try:
        moment = datetime.fromisoformat(compact)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a time", hint="write it like 2026-12-24T18:00, 18:00, tomorrow 09:00, +10m or -1h"
        ) from None
    if moment.tzinfo is None:
        moment = _localise(moment, now)
    return moment.astimezone(UTC)


def _localise(naive: datetime, now: datetime) -> datetime:
    """*naive* in the zone of *now*.

    Zones change their offset over the year: where *now* is this system's local time, its rule for that day counts.
    """
    if now.tzinfo is not UTC and now.utcoffset() == now.astimezone().utcoffset():
        return naive.astimezone()
    return naive.replace(tzinfo=now.tzinfo)


def _clock_instant(clock: re.Match[str], now: datetime, text: str) -> datetime:
    try:
        naive = datetime(now.year, now.month, now.day, int(clock[2]), int(clock[3]), int(clock[4] or 0))  # noqa: DTZ001  its zone comes last
    except ValueError:
        raise UsageError(f"{text!r} is not a time of day", hint="hours are 0-23, minutes 0-59") from None
    if clock[1] == "tomorrow" or (clock[1] is None and _localise(naive, now) <= now):
        naive += timedelta(days=1)
    return _localise(naive, now).astimezone(UTC)
