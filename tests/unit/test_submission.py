"""Submissions: what is refused, what is filled in, and what travels."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.core.errors import PayloadError, UsageError
from tqctl_runtime.core.ids import is_task_id, new_id
from tqctl_runtime.core.retry import Backoff
from tqctl_runtime.core.serializer import pack, unpack_raw
from tqctl_runtime.core.submission import Envelope, build_submission, parse_priority

HANDLER_ROW = {"queue": "mail", "priority": 8, "max_retries": 2, "timeout_s": 1.5}


def test_what_is_left_open_comes_from_the_catalogue() -> None:
    made = build_submission("send", {}, defaults=HANDLER_ROW)
    assert (made.queue, made.priority, made.max_retries, made.timeout_ms) == ("mail", 8, 2, 1500)


def test_what_is_said_wins_over_the_catalogue() -> None:
    made = build_submission("send", {}, defaults=HANDLER_ROW, queue="bulk", priority="low", max_retries=0, timeout_ms=0)
    assert (made.queue, made.priority, made.max_retries, made.timeout_ms) == ("bulk", 3, 0, 0)


def test_without_a_catalogue_the_documented_defaults_hold() -> None:
    made = build_submission("send", {"a": 1})
    assert (made.queue, made.priority, made.max_retries, made.timeout_ms) == ("default", 5, 5, 0)
    assert made.payload == b'{"a":1}'
    assert is_task_id(made.id)


@pytest.mark.parametrize(
    "options",
    [
        {"handler": "no spaces"},
        {"handler": ""},
        {"queue": "a:b"},
        {"task_id": "tsk_short"},
        {"delay_ms": 1000, "due_at": 1_800_000_000_000},
        {"delay_ms": -1},
        {"due_at": -1},
        {"expires_ms": -1},
        {"expires_at": -1},
        {"unique_ms": -1},
        {"timeout_ms": -1},
        {"max_retries": -1},
        {"max_retries": 1001},
        {"priority": 0},
        {"priority": 11},
        {"priority": "urgent"},
        {"tenant": ""},
        {"tenant": "x" * 257},
        {"correlation_id": "a\x00b"},
        {"idempotency_key": "a\nb"},
        {"tags": {"no good": "x"}},
        {"tags": {"a": ""}},
        {"tags": {"a": "\ud800"}},
        {"tags": {f"t{n}": "x" for n in range(33)}},
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        build_submission(**({"handler": "echo", "payload": {}} | options))


@pytest.mark.parametrize("payload", [[1], "text", 7, None])
def test_a_payload_is_an_object(payload: Any) -> None:
    with pytest.raises(PayloadError, match="object"):
        build_submission("echo", payload)


@pytest.mark.parametrize("payload", [{"text": "x" * 100}, b'{"text":"' + b"x" * 100 + b'"}'])
def test_a_payload_over_the_limit_is_refused(payload: Any) -> None:
    with pytest.raises(PayloadError, match="the limit is 100"):
        build_submission("echo", payload, payload_limit=100)


@pytest.mark.parametrize(
    ("value", "number"), [(1, 1), (10, 10), ("7", 7), ("low", 3), ("Normal", 5), ("HIGH", 7), ("critical", 10)]
)
def test_priorities_have_numbers_and_names(value: int | str, number: int) -> None:
    assert parse_priority(value) == number


@pytest.mark.parametrize("value", [True, 5.5, None, [5], "5.0", "", "-1"])
def test_what_is_no_priority_is_refused(value: Any) -> None:
    with pytest.raises(UsageError):
        parse_priority(value)


@given(
    payload=st.binary(max_size=50),
    timeout_ms=st.integers(0, 10**9),
    tags=st.dictionaries(st.text("abc", min_size=1, max_size=5), st.text("xyzä ", min_size=1, max_size=5), max_size=3),
    tenant=st.none() | st.text("abc", min_size=1, max_size=5),
    key=st.none() | st.text("abc", min_size=1, max_size=5),
)
def test_the_worker_reads_what_was_submitted(
    payload: bytes, timeout_ms: int, tags: dict[str, str], tenant: str | None, key: str | None
) -> None:
    backoff = Backoff("fixed", base=2).to_wire()
    parent = new_id("tsk")
    made = build_submission(
        "echo",
        payload,
        timeout_ms=timeout_ms,
        tags=tags,
        tenant=tenant,
        idempotency_key=key,
        backoff=backoff,
        parent=parent,
        correlation_id="c-1",
    )
    read = Envelope.from_bytes(made.envelope())
    assert read == Envelope("echo", payload, timeout_ms, backoff, tags, tenant, "c-1", parent, key)


def test_an_envelope_of_another_layout_is_refused() -> None:
    with pytest.raises(PayloadError, match="layout 99"):
        Envelope.from_bytes(pack([99, "echo", b"{}"]))


def test_the_head_holds_no_part_of_the_payload() -> None:
    made = build_submission("echo", {"secret": "swordfish"}, idempotency_key="k", unique_ms=1000)
    assert b"swordfish" not in made.head()
    row = unpack_raw(made.head())
    assert row[0] == made.id.encode()
    assert b"k" in row
    assert made.fingerprint().encode() in row


def test_the_same_work_has_the_same_fingerprint_whatever_the_order_of_its_parameters() -> None:
    first = build_submission("echo", {"a": 1, "b": {"x": 1, "y": 2}})
    second = build_submission("echo", {"b": {"y": 2, "x": 1}, "a": 1}, queue="other")
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize("other", [("shell", {"a": 1}), ("echo", {"a": 2}), ("echo", {"a": "1"}), ("echo", {"a": [1]})])
def test_other_work_has_another_fingerprint(other: tuple[str, dict[str, Any]]) -> None:
    assert build_submission(*other).fingerprint() != build_submission("echo", {"a": 1}).fingerprint()
