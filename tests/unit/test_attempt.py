"""What an attempt leaves behind, and the read model of a task."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.core.attempt import Detail, clean_text
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import State
from tqctl_runtime.core.task import Attempt, ErrorInfo, Task

CLEAN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
ERRORS = st.builds(ErrorInfo, CLEAN, CLEAN, st.none() | CLEAN)
DETAILS = st.builds(
    Detail,
    st.none() | st.binary(min_size=1),
    st.none() | ERRORS,
    st.binary(),
    st.just(0),
    st.none() | st.tuples(st.floats(0, 100), CLEAN),
)


@given(DETAILS)
def test_the_detail_of_an_attempt_comes_back(detail: Detail) -> None:
    assert Detail.from_bytes(detail.to_bytes()) == detail


def test_nothing_to_tell_takes_no_bytes() -> None:
    assert Detail().to_bytes() == b""
    assert Detail(log=b"x", log_dropped=7).to_bytes() != b""


@given(st.text(st.characters()))
def test_cleaned_text_can_be_kept_by_every_store(text: str) -> None:
    cleaned = clean_text(text)
    assert "\x00" not in cleaned
    assert cleaned.encode().decode() == cleaned


@given(st.text(max_size=120), st.integers(20, 60))
def test_cut_text_keeps_head_and_tail_within_the_limit(text: str, limit: int) -> None:
    cut = clean_text(text, limit)
    whole = clean_text(text)
    assert len(cut) <= limit
    assert cut == whole or (cut[:5] == whole[:5] and cut[-5:] == whole[-5:])


def test_a_task_in_json_has_the_fields_that_scripts_rely_on() -> None:
    task = Task(
        "tsk_1",
        "echo",
        "default",
        State.DEAD,
        5,
        error=ErrorInfo("E", "m"),
        attempts=[Attempt(1, "failed", "w", None, None, None)],
    )
    row = json.loads(json.dumps(task.to_json()))
    promised = {
        *("id", "handler", "queue", "state", "priority", "payload", "result", "error", "failures", "deaths"),
        *(
            "max_retries",
            "timeout_s",
            "created_at",
            "scheduled_at",
            "expires_at",
            "started_at",
            "finished_at",
            "worker",
        ),
        *("tags", "tenant", "correlation_id", "idempotency_key", "parent", "progress", "attempts"),
    }
    assert promised <= set(row)
    assert row["state"] == "dead"
    assert row["error"] == {"type": "E", "message": "m", "traceback": None}
    assert set(row["attempts"][0]) == {
        "number",
        "outcome",
        "worker",
        "started_at",
        "finished_at",
        "duration_s",
        "reason",
        "error",
    }


@pytest.mark.parametrize(("lease", "trust"), [(30_000, 28_000), (3_000, 2_400), (10_000, 8_000), (60_000, 58_000)])
def test_a_lease_is_trusted_less_long_than_it_lasts(lease: int, trust: int) -> None:
    settings = dataclasses.replace(Settings(), lease=lease)
    assert settings.trust_ms == trust
    assert settings.heartbeat_ms == lease // 3
    assert settings.heartbeat_ms < settings.trust_ms


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().lease = 1  # type: ignore[misc]


def test_the_defaults_are_those_that_the_documentation_tells() -> None:
    settings = Settings()
    assert (settings.lease, settings.heartbeat_ms, settings.concurrency) == (30_000, 10_000, 5)
    assert settings.dead_letter_retention == 30 * 24 * 3_600_000
    assert (settings.payload_limit, settings.result_limit) == (2**20, 2**20)
    assert settings.is_embedded_broker
