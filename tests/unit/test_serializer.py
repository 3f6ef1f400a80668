"""JSON at the edges, msgpack inside."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.core.errors import PayloadError
from tqctl_runtime.core.serializer import dump_json, load_json, pack, pack_for_lua, unpack, unpack_raw, unpack_stream

ANY_TEXT = st.text(st.characters())
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=10,
)


@given(JSON_VALUES)
def test_every_json_value_comes_back_and_travels_as_ascii(value: Any) -> None:
    data = dump_json(value)
    assert data.isascii()
    assert b"\x00" not in data
    assert load_json(data) == value


def test_nul_and_lone_surrogates_survive() -> None:
    value = {"text": "a\x00b\ud800"}
    assert load_json(dump_json(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"x": [float("-inf")]}, {1, 2}, object(), b"bytes"])
def test_what_json_has_no_word_for_is_refused(value: object) -> None:
    with pytest.raises(PayloadError, match="cannot be written as JSON"):
        dump_json(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "{} {}",
        "[NaN]",
        '{"a": Infinity}',
        "-Infinity",
        "'a'",
        '{"a": 1, "a": 2}',
        "\ufeff{}",
        b"\xff",
        "{a: 1}",
        "[1,]",
    ],
)
def test_what_is_not_strict_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(PayloadError):
        load_json(text)


def test_deep_nesting_is_refused_and_not_a_crash() -> None:
    deep: list[Any] = []
    for _ in range(200_000):
        deep = [deep]
    with pytest.raises(PayloadError, match="nested too deep"):
        dump_json(deep)
    with pytest.raises(PayloadError, match="nested too deep"):
        load_json("[" * 200_000 + "]" * 200_000)
    while deep:
        deep = deep[0]


def test_the_limit_counts_bytes_and_is_inclusive() -> None:
    assert dump_json("x" * 98, limit=100) == b'"' + b"x" * 98 + b'"'
    with pytest.raises(PayloadError, match="result has 101 bytes, the limit is 100"):
        dump_json("x" * 99, what="result", limit=100)
    with pytest.raises(PayloadError, match="the limit is 100"):
        load_json(json.dumps("x" * 99), limit=100)


@given(JSON_VALUES.filter(lambda value: not _has_surrogate_or_large(value)))
def test_msgpack_of_python_comes_back(value: Any) -> None:
    assert unpack(pack(value)) == value


def _has_surrogate_or_large(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int):
        return not -(2**63) <= value < 2**64
    if isinstance(value, list):
        return any(map(_has_surrogate_or_large, value))
    if isinstance(value, dict):
        return any(map(_has_surrogate_or_large, [*value, *value.values()]))
    return False


@given(
    st.lists(st.integers(-(2**52), 2**52) | st.binary() | st.text(st.characters(exclude_categories=["Cs"])), max_size=8)
)
def test_what_lua_reads_has_one_kind_of_string(row: list[Any]) -> None:
    expected = [each.encode() if isinstance(each, str) else each for each in row]
    assert unpack_raw(pack_for_lua(row)) == expected


@given(st.lists(st.lists(st.binary(max_size=10) | st.integers(0, 9), max_size=3), max_size=6))
def test_a_stream_of_values_is_read_one_by_one(rows: list[Any]) -> None:
    assert unpack_stream(b"".join(pack_for_lua(row) for row in rows)) == rows


def test_a_stream_that_ends_inside_a_value_is_refused() -> None:
    with pytest.raises(ValueError, match="inside a value"):
        unpack_stream(pack_for_lua([b"whole"]) + pack_for_lua([b"cut"])[:-1])
