"""The grammar in which people write durations and times."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.core.clock import format_duration, instant, iso, parse_duration_ms, parse_instant, to_ms
from tqctl_runtime.core.errors import UsageError

HERE = timezone(timedelta(hours=2))
NOW = datetime(2026, 3, 10, 14, 30, tzinfo=HERE)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    assert "TZ" not in os.environ or os.environ["TZ"] != "Europe/Berlin"
    time.tzset()


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("0", 0),
        ("250ms", 250),
        ("30s", 30_000),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("1w", 604_800_000),
        ("1h30m", 5_400_000),
        ("1.5s", 1_500),
        (" 10S ", 10_000),
        ("1m500ms", 60_500),
    ],
)
def test_durations_are_read(text: str, milliseconds: int) -> None:
    assert parse_duration_ms(text) == milliseconds


@pytest.mark.parametrize(
    "text", ["", " ", "5", "s", "5 m", "-5m", "5x", "1h 30m", "5mm", "1e3s", "NaNs", "∞", "٣s5", "200000d"]
)
def test_what_is_no_duration_is_refused_with_the_text_in_the_message(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_duration_ms(text)
    assert repr(text) in caught.value.message


@given(st.integers(0, 10**7), st.sampled_from(["ms", "s", "m"]))
def test_a_whole_number_of_a_unit_is_exact(count: int, unit: str) -> None:
    assert parse_duration_ms(f"{count}{unit}") == count * {"ms": 1, "s": 1_000, "m": 60_000}[unit]


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (None, "-"),
        (0, "0ms"),
        (350, "350ms"),
        (1_000, "1s"),
        (4_200, "4.2s"),
        (59_940, "59.9s"),
        (192_000, "3m12s"),
        (60_000, "1m"),
        (7_500_000, "2h5m"),
        (273_600_000, "3d4h"),
        (-5_000, "-5s"),
    ],
)
def test_durations_are_shown_short(milliseconds: int | None, text: str) -> None:
    assert format_duration(milliseconds) == text


@given(st.floats(0, 1e12))
def test_no_shown_duration_is_as_long_as_its_next_unit(milliseconds: float) -> None:
    text = format_duration(milliseconds)
    assert text not in {"1000ms", "60s", "60.0s"}


def test_seconds_and_timedeltas_become_milliseconds() -> None:
    assert to_ms(1.5) == 1500
    assert to_ms(timedelta(seconds=2, microseconds=400)) == 2000


def test_instants_are_utc_and_zero_is_none() -> None:
    assert instant(None) is None
    assert instant(0) is None
    assert iso(1_700_000_000_123) == "2023-11-14T22:13:20.123Z"
    assert iso(1_700_000_000_000) == "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-03-10T12:30:00+00:00"),
        ("+10m", "2026-03-10T12:40:00+00:00"),
        ("-1h", "2026-03-10T11:30:00+00:00"),
        ("1h", "2026-03-10T11:30:00+00:00"),
        ("18:00", "2026-03-10T16:00:00+00:00"),
        ("14:30", "2026-03-11T12:30:00+00:00"),
        ("09:15", "2026-03-11T07:15:00+00:00"),
        ("today 09:15", "2026-03-10T07:15:00+00:00"),
        ("tomorrow 09:15:30", "2026-03-11T07:15:30+00:00"),
        ("Tomorrow 18:00", "2026-03-11T16:00:00+00:00"),
        ("2026-12-24T18:00", "2026-12-24T16:00:00+00:00"),
        ("2026-12-24T18:00+01:00", "2026-12-24T17:00:00+00:00"),
        ("2026-12-24T18:00:00Z", "2026-12-24T18:00:00+00:00"),
    ],
)
def test_times_are_read_as_a_person_means_them(text: str, expected: str) -> None:
    moment = parse_instant(text, now=NOW)
    assert moment.isoformat() == expected
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    "text", ["", "soon", "25:00", "12:60", "2026-13-01", "+", "-", "+soon", "yesterday 12:00", "12"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_instant(text, now=NOW)


@pytest.mark.parametrize(("text", "hour"), [("2026-01-15T12:00", 11), ("2026-07-15T12:00", 10)])
@pytest.mark.usefixtures("berlin")
def test_a_local_time_uses_the_offset_of_its_own_day(text: str, hour: int) -> None:
    now = datetime(2026, 3, 10, 14, 30).astimezone()
    assert parse_instant(text, now=now).hour == hour


@pytest.mark.usefixtures("berlin")
def test_tomorrow_across_the_change_to_summer_time_keeps_the_wall_clock() -> None:
    now = datetime(2026, 3, 28, 12, 0).astimezone()
    assert parse_instant("tomorrow 12:00", now=now) == datetime(2026, 3, 29, 10, 0, tzinfo=UTC)
