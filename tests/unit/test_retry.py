"""The delays between attempts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.core.errors import UsageError
from tqctl_runtime.core.retry import DEFAULT_BACKOFF, DEFAULT_MAX_RETRIES, MAX_DEATHS, Backoff

TASKS = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=26, max_size=26).map("tsk_".__add__)


def test_the_defaults_are_those_that_users_know() -> None:
    exact = Backoff(jitter=0)
    assert [exact.delay_ms("t", n) for n in range(1, 6)] == [1_000, 2_000, 4_000, 8_000, 16_000]
    assert DEFAULT_MAX_RETRIES == 5
    assert MAX_DEATHS == 3
    assert DEFAULT_BACKOFF.jitter == 0.2


@given(TASKS, st.integers(1, 20))
def test_a_delay_lies_within_the_jitter_and_never_changes(task: str, failures: int) -> None:
    delay = DEFAULT_BACKOFF.delay_ms(task, failures)
    nominal = min(2.0 ** (failures - 1), 3600.0) * 1000
    assert 0.8 * nominal - 1 <= delay <= 1.2 * nominal + 1
    assert delay == DEFAULT_BACKOFF.delay_ms(task, failures)


def test_tasks_that_fail_together_do_not_come_back_together() -> None:
    delays = {DEFAULT_BACKOFF.delay_ms(f"tsk_{n}", 3) for n in range(50)}
    assert len(delays) > 40


@pytest.mark.parametrize(
    ("backoff", "seconds"),
    [
        (Backoff("linear", base=2, jitter=0), [2, 4, 6, 8]),
        (Backoff("fixed", base=3, jitter=0), [3, 3, 3, 3]),
        (Backoff("list", delays=(1, 5, 30), jitter=0), [1, 5, 30, 30]),
        (Backoff("exponential", base=1, cap=3, jitter=0), [1, 2, 3, 3]),
    ],
)
def test_each_kind_grows_as_it_says(backoff: Backoff, seconds: list[int]) -> None:
    assert [backoff.delay_ms("t", n) for n in range(1, 5)] == [each * 1000 for each in seconds]


def test_a_huge_number_of_failures_is_capped() -> None:
    assert Backoff(jitter=0).delay_ms("t", 100_000) == 3_600_000


@pytest.mark.parametrize(
    "arguments",
    [
        {"kind": "weird"},
        {"base": -1},
        {"cap": -1},
        {"jitter": 1},
        {"jitter": -0.1},
        {"kind": "list"},
        {"kind": "list", "delays": (1, -1)},
    ],
)
def test_a_backoff_that_makes_no_sense_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Backoff(**arguments)


@given(st.sampled_from(["exponential", "linear", "fixed"]), st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 0.99))
def test_the_wire_form_gives_the_same_backoff(kind: Any, base: float, cap: float, jitter: float) -> None:
    backoff = Backoff(kind, base, cap, jitter, (1.0, 2.5))
    assert Backoff.from_wire(backoff.to_wire()) == backoff
