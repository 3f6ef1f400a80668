"""Identifiers: unique, sortable, and derived ones always the same."""

from __future__ import annotations

import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tqctl_runtime.core.ids import TAIL_LENGTH, ULID_LENGTH, derived_id, is_name, is_task_id, new_id

IDS = st.builds(lambda: new_id("tsk"))


def test_a_new_id_has_its_kind_and_a_ulid() -> None:
    made = new_id("wrk")
    assert made.startswith("wrk_")
    assert len(made) == 4 + ULID_LENGTH


def test_ids_of_one_process_sort_in_the_order_they_were_made() -> None:
    made = [new_id("tsk") for _ in range(5000)]
    assert made == sorted(made)
    assert len(set(made)) == 5000


def test_threads_never_make_the_same_id() -> None:
    made: list[list[str]] = [[] for _ in range(8)]
    start = threading.Barrier(8)

    def make(into: list[str]) -> None:
        start.wait()
        into.extend(new_id("tsk") for _ in range(3000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({each for ids in made for each in ids}) == 8 * 3000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)  # pytest-timeout's thread, 3.12
def test_a_forked_child_never_repeats_its_parents_ids_even_when_the_clock_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    frozen = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: frozen)
    new_id("tsk")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, "\n".join(new_id("tsk") for _ in range(50)).encode())
        os._exit(0)
    os.close(writer)
    mine = {new_id("tsk") for _ in range(50)}
    with open(reader, encoding="ascii") as pipe:
        theirs = set(pipe.read().split())
    os.waitpid(child, 0)
    assert len(theirs) == 50
    assert not mine & theirs


def test_a_clock_that_goes_back_repeats_no_id(monkeypatch: pytest.MonkeyPatch) -> None:
    at = time.time_ns()
    made = []
    for step in (0, -5_000_000_000, -1, 0, 1_000_000):
        monkeypatch.setattr(time, "time_ns", lambda value=at + step: value)
        made.append(new_id("tsk"))
    assert made == sorted(set(made))


@given(IDS, st.integers(0, 10**6) | st.text(max_size=20))
def test_a_derived_id_is_a_function_of_parent_and_ordinal(parent: str, ordinal: int | str) -> None:
    first = derived_id("tsk", parent, ordinal)
    assert first == derived_id("tsk", parent, ordinal)
    assert is_task_id(first)
    assert first[4:14] == parent[4:14]


@given(IDS, st.integers(0, 1000), st.integers(0, 1000))
def test_different_ordinals_give_different_ids(parent: str, first: int, second: int) -> None:
    assert (derived_id("tsk", parent, first) == derived_id("tsk", parent, second)) == (first == second)


def test_tails_of_ids_made_together_differ() -> None:
    tails = {new_id("tsk")[-TAIL_LENGTH:] for _ in range(1000)}
    assert len(tails) == 1000


@pytest.mark.parametrize(
    "text",
    ["", "tsk_", "tsk_" + "I" * 26, "tsk_" + "0" * 25, "tsk_" + "0" * 27, "job_" + "0" * 26, "tsk_" + "0" * 26 + "\n"],
)
def test_what_is_no_task_id_is_told_apart(text: str) -> None:
    assert not is_task_id(text)


@pytest.mark.parametrize("text", ["a", "Mail.send-2_b", "9lives", "a" * 100])
def test_names_are_accepted(text: str) -> None:
    assert is_name(text)


@pytest.mark.parametrize("text", ["", "a" * 101, "-a", ".a", "a b", "a:b", "a{b}", "ä", "a\n", "a/b"])
def test_what_could_break_a_key_or_a_line_is_no_name(text: str) -> None:
    assert not is_name(text)
