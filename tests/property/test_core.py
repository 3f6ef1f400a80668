"""Laws of the pure core that hold for every input, beside the examples of the unit tests."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from tqctl_runtime.core.attempt import Detail, clean_text
from tqctl_runtime.core.clock import format_duration, parse_duration_ms
from tqctl_runtime.core.errors import PayloadError, TqctlError, UsageError
from tqctl_runtime.core.ids import derived_id, is_task_id, new_id
from tqctl_runtime.core.retry import Backoff
from tqctl_runtime.core.serializer import dump_json, load_json, pack, pack_for_lua, unpack, unpack_raw, unpack_stream
from tqctl_runtime.core.states import FINAL, STATE_CODES, STATES_BY_CODE, TRANSITIONS, State
from tqctl_runtime.core.submission import Envelope, Submission, build_submission
from tqctl_runtime.core.task import ErrorInfo

DAY = 86_400_000
UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY, "w": 7 * DAY}
#: JSON values as users' payloads hold them, lone surrogates and NUL included.
texts = st.text(st.characters(exclude_categories=()), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
seconds = st.floats(0, 10_000)


@given(
    kind=st.sampled_from(("exponential", "linear", "fixed", "list")),
    base=seconds,
    cap=seconds,
    jitter=st.floats(0, 0.99),
    delays=st.lists(seconds, min_size=1, max_size=4),
    failures=st.integers(0, 10_000),
    task_id=st.text(max_size=10),
)
def test_no_delay_leaves_the_bounds_of_cap_and_jitter(
    kind: Any, base: float, cap: float, jitter: float, delays: list[float], failures: int, task_id: str
) -> None:
    backoff = Backoff(kind, base, cap, jitter, tuple(delays))
    delay = backoff.delay_ms(task_id, failures)
    assert 0 <= delay <= cap * (1 + jitter) * 1000 + 1
    assert delay == backoff.delay_ms(task_id, failures)
    assert Backoff.from_wire(unpack(pack(backoff.to_wire()))).delay_ms(task_id, failures) == delay


@given(base=st.floats(0.001, 100), failures=st.integers(1, 40))
def test_a_delay_without_jitter_doubles_until_the_cap(base: float, failures: int) -> None:
    backoff = Backoff("exponential", base, 3600.0, 0.0)
    assert backoff.delay_ms("t", failures) == round(min(base * 2 ** (failures - 1), 3600.0) * 1000)
    assert backoff.delay_ms("t", failures) <= backoff.delay_ms("t", failures + 1)


@given(parts=st.lists(st.tuples(st.integers(0, 999), st.sampled_from(list(UNITS))), min_size=1, max_size=4))
def test_the_parts_of_a_duration_add_up(parts: list[tuple[int, str]]) -> None:
    total = sum(count * UNITS[unit] for count, unit in parts)
    assume(total <= 100 * 365 * DAY)
    assert parse_duration_ms("".join(f"{count}{unit}" for count, unit in parts)) == total


@given(milliseconds=st.integers(0, 100 * 365 * DAY))
@example(milliseconds=59_999)
@example(milliseconds=999)
def test_what_is_shown_of_a_duration_is_read_back_to_its_last_unit(milliseconds: int) -> None:
    shown = format_duration(milliseconds)
    again = parse_duration_ms(shown)
    # Two units are shown, so what is lost is less than the second of them.
    bounds = ((DAY, 3_600_000), (3_600_000, 60_000), (59_950, 1_000), (1_000, 100), (0, 1))
    step = next(step for bound, step in bounds if milliseconds >= bound)
    assert abs(again - milliseconds) < step
    assert format_duration(again) == shown


@given(text=st.text(st.sampled_from("0123456789.smhdw -+eE"), max_size=10))
def test_any_text_is_a_duration_or_refused_with_a_hint(text: str) -> None:
    try:
        found = parse_duration_ms(text)
    except UsageError as error:
        found, refusal = 0, error.message
    else:
        refusal = repr(text)
    assert 0 <= found <= 100 * 365 * DAY
    assert repr(text) in refusal


@given(parent=st.uuids(), ordinals=st.sets(st.integers(0, 10**6), min_size=2, max_size=20))
def test_children_of_one_parent_have_ids_of_their_own_beside_it(parent: Any, ordinals: set[int]) -> None:
    first = new_id("tsk")
    ids = {derived_id("tsk", first, ordinal) for ordinal in ordinals}
    assert len(ids) == len(ordinals)
    assert all(is_task_id(one) and one[:14] == first[:14] for one in ids)
    assert not ids & {derived_id("tsk", f"sch_{parent}", ordinal) for ordinal in ordinals}


@given(value=values)
def test_json_comes_back_as_it_went_on_any_store(value: Any) -> None:
    data = dump_json({"value": value})
    assert data.isascii()
    assert b"\x00" not in data
    assert load_json(data) == {"value": value}


@given(data=st.binary(max_size=40))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    try:
        value = load_json(data)
    except PayloadError:
        return
    assert load_json(json.dumps(value)) == value


@given(rows=st.lists(st.lists(st.integers(-(2**31), 2**53) | st.binary(max_size=300), max_size=6), max_size=6))
def test_a_stream_of_rows_is_parted_where_it_was_joined(rows: list[list[Any]]) -> None:
    data = b"".join(pack_for_lua(row) for row in rows)
    assert unpack_stream(data) == rows
    if rows and rows[-1]:
        with pytest.raises(ValueError, match="ends inside"):
            unpack_stream(data[:-1])


@given(
    priority=st.integers(1, 10),
    retries=st.integers(0, 1000),
    times=st.tuples(*[st.integers(0, 2**52)] * 3),
    key=st.none() | st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
    window=st.integers(0, 10**9),
    payload=st.dictionaries(texts, values, max_size=3),
    tags=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.just("v"), max_size=3),
)
def test_a_submission_says_the_same_to_broker_and_worker(
    priority: int, retries: int, times: tuple[int, int, int], key: str | None, window: int, payload: Any, tags: Any
) -> None:
    delay, expires, timeout = times
    item = build_submission(
        "echo",
        payload,
        priority=priority,
        max_retries=retries,
        delay_ms=delay,
        expires_ms=expires,
        timeout_ms=timeout,
        idempotency_key=key,
        unique_ms=window,
        tags=tags,
    )
    head = unpack_raw(item.head())
    assert head[2:9] == [priority, retries, delay, 0, expires, 0, False]
    assert head[9] == (key.encode() if key else False)
    assert bool(head[11]) is (window > 0)
    assert bool(head[10]) is (key is not None or window > 0)
    envelope = Envelope.from_bytes(item.envelope())
    assert (envelope.handler, load_json(envelope.payload), envelope.timeout_ms) == ("echo", payload, timeout)
    assert (envelope.tags, envelope.idempotency_key, envelope.unique_ms) == (tags, key, window)


@given(first=st.binary(max_size=20), second=st.binary(max_size=20), split=st.integers(0, 20))
def test_a_fingerprint_parts_handler_from_payload(first: bytes, second: bytes, split: int) -> None:
    word = "handler-name-of-20-ch"
    one = Submission(id="a", handler=word[:split] or "x", payload=first)
    two = Submission(id="b", handler=word[:split] or "x", payload=second)
    assert (one.fingerprint() == two.fingerprint()) is (first == second)
    other = Submission(id="a", handler=(word[:split] or "x") + "y", payload=first)
    assert other.fingerprint() != one.fingerprint()


@given(text=texts, limit=st.integers(10, 40))
def test_cleaned_text_fits_every_store_and_its_limit(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert "\x00" not in cleaned
    assert len(cleaned) <= limit
    assert cleaned.encode().decode() == cleaned
    assert clean_text(cleaned, limit) == cleaned


@given(
    result=st.none() | st.binary(max_size=50),
    error=st.none() | st.builds(ErrorInfo, st.just("E"), st.text(max_size=9), st.none() | st.text(max_size=9)),
    log=st.binary(max_size=50),
    progress=st.none() | st.tuples(st.floats(0, 100), st.text(max_size=9)),
)
def test_the_detail_of_an_attempt_comes_back_as_it_went(result: Any, error: Any, log: bytes, progress: Any) -> None:
    detail = Detail(result, error, log, 0, progress)
    assert Detail.from_bytes(detail.to_bytes()) == detail


def test_every_state_can_be_reached_and_every_open_one_can_end() -> None:
    reached: set[State | None] = {None}
    while True:
        further = {to for come, to in TRANSITIONS if come in reached} - reached
        if not further:
            break
        reached |= further
    assert reached - {None} == set(State)
    ending: set[State | None] = set(FINAL)
    while True:
        further_back = {come for come, to in TRANSITIONS if to in ending} - ending
        if not further_back:
            break
        ending |= further_back
    assert ending - {None} == set(State)
    assert not [to for come, to in TRANSITIONS if come is State.SUCCEEDED]


def test_numbers_of_states_are_unique_and_never_move() -> None:
    assert [STATE_CODES[state] for state in State] == list(range(1, 10))
    assert {number: state for state, number in STATE_CODES.items()} == STATES_BY_CODE


@given(text=st.text(max_size=30))
def test_every_refusal_of_a_name_is_one_of_ours(text: str) -> None:
    try:
        item = build_submission(text, {}, queue=text or None)
    except TqctlError:
        return
    assert item.queue == text
