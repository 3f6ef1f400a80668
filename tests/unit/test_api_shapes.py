"""The quick road of submits: the same bytes as the slow one, in calls of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.broker.calls import CHUNK, Wish
from tqctl_runtime.client.options import to_fields
from tqctl_runtime.client.shapes import CHUNK_BYTES, Packed, Shape, chunks
from tqctl_runtime.core.errors import PayloadError, UsageError
from tqctl_runtime.core.retry import Backoff
from tqctl_runtime.core.submission import DEFAULT_QUEUE, Envelope, build_submission

LIMIT = 100_000
ROW = {"queue": "mail", "priority": 7, "max_retries": 2, "timeout_s": 1.5}
shared_options = st.fixed_dictionaries(
    {},
    optional={
        "queue": st.sampled_from(["default", "tsk_01M80DNXASE2BGS8PBEK4F44Q4", "a.b-c"]),
        "priority": st.sampled_from([1, 10, "low", "critical"]),
        "max_retries": st.integers(0, 1000),
        "timeout": st.one_of(st.none(), st.floats(0, 1e6), st.timedeltas(timedelta(0), timedelta(days=9))),
        "delay": st.floats(0, 1e6),
        "tenant": st.sampled_from(["acme", "ünï"]),
        "watched": st.booleans(),
        "backoff": st.sampled_from([Backoff(), Backoff("list", delays=(1.0, 2.0))]),
    },
)
payloads = st.dictionaries(
    st.text(max_size=8), st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=400)), max_size=5
)


@given(shared_options, st.lists(payloads, min_size=1, max_size=3), st.sampled_from([None, ROW]))
def test_a_template_gives_the_bytes_of_a_whole_build(
    options: dict[str, Any], bodies: list[dict[str, Any]], row: dict[str, Any] | None
) -> None:
    shape = Shape("echo", row, LIMIT)
    for body in bodies:
        quick = shape.make(body, options)
        assert isinstance(quick, Packed)
        slow = shape.build(body, {**options, "id": quick.id})
        assert (quick.head(), quick.envelope()) == (slow.head(), slow.envelope())


def test_options_that_name_one_task_make_no_template() -> None:
    shape = Shape("echo", None, LIMIT)
    for options in ({"idempotency_key": "k"}, {"tags": {"a": "b"}}, {"unique_for": 60}, {"correlation_id": "c"}):
        assert not isinstance(shape.make({}, options), Packed)


def test_payloads_given_as_bytes_are_sent_as_they_are() -> None:
    wish = Shape("echo", None, LIMIT).make(b'{"a": 1}', {})
    assert Envelope.from_bytes(wish.envelope()).payload == b'{"a": 1}'


@pytest.mark.parametrize("options", [{}, {"tags": {"a": "b"}}])
@pytest.mark.parametrize("payload", [{"a": "x" * LIMIT}, b" " * (LIMIT + 1), {"a": {1, 2}}, "text"])
def test_payloads_that_cannot_travel_are_refused_on_both_roads(payload: Any, options: dict[str, Any]) -> None:
    with pytest.raises(PayloadError):
        Shape("echo", None, LIMIT).make(payload, options)


def wishes(number: int, size: int = 0) -> Iterator[Wish]:
    shape = Shape("echo", None, 2 * CHUNK_BYTES)
    return (shape.make({"n": n, "x": "x" * size}, {}) for n in range(number))


def test_calls_hold_a_bounded_number_of_tasks_in_order() -> None:
    made = list(wishes(2 * CHUNK + 1))
    parts = list(chunks(made))
    assert [len(part) for part in parts] == [CHUNK, CHUNK, 1]
    assert [wish for part in parts for wish in part] == made


def test_calls_hold_a_bounded_number_of_bytes_but_always_a_task() -> None:
    parts = list(chunks(wishes(5, CHUNK_BYTES * 2 // 5)))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert [len(part) for part in chunks(wishes(2, CHUNK_BYTES + 1))] == [1, 1]
    assert list(chunks([])) == []


def test_tasks_are_taken_from_a_generator_only_as_calls_are_filled() -> None:
    taken = []

    def items() -> Iterator[Wish]:
        for wish in wishes(3 * CHUNK):
            taken.append(wish)
            yield wish

    next(chunks(items()))
    assert len(taken) == CHUNK + 1


def test_options_become_fields_in_milliseconds() -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    fields = to_fields(
        {
            "id": "tsk_1",
            "delay": timedelta(seconds=1.5),
            "expires": moment,
            "timeout": None,
            "unique_for": 2,
            "backoff": Backoff(base=3),
            "tenant": None,
            "at": moment,
        }
    )
    milliseconds = round(moment.timestamp() * 1000)
    assert fields == {
        "task_id": "tsk_1",
        "delay_ms": 1500,
        "expires_at": milliseconds,
        "timeout_ms": 0,
        "unique_ms": 2000,
        "backoff": ["exponential", 3, 3600.0, 0.2, []],
        "due_at": milliseconds,
    }
    assert to_fields({"expires": 3}) == {"expires_ms": 3000}


@pytest.mark.parametrize(
    "options",
    [{"delay": "soon"}, {"at": datetime(2030, 1, 1)}, {"at": 3}, {"delay": float("nan")}, {"nosuch": 1}],  # noqa: DTZ001  naive on purpose
)
def test_options_of_the_wrong_kind_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        to_fields(options)


def test_an_envelope_of_a_template_is_one_msgpack_value() -> None:
    wish = Shape("echo", None, LIMIT).make({"a": "x" * 300}, {"tenant": "acme"})
    row = msgpack.unpackb(wish.envelope())
    assert row[1] == "echo"
    assert build_submission("echo", {}).queue == DEFAULT_QUEUE
