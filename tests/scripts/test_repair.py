"""Closing, surveying, wiping, building anew: only the present repair works on a closed namespace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripts.rig import NOW, Rig, task
from tqctl_runtime.broker import calls, leader_calls, repair_calls
from tqctl_runtime.broker.calls import Position
from tqctl_runtime.broker.repair_calls import SILENT_MS
from tqctl_runtime.core.errors import LeaseLost, NotOpen

ROW = ["A", "queued", "default", 5, 3, 0, 0, 0, NOW, 0, 0, 0, "", 0, "", "", "", b"envelope"]


def close(rig: Rig, term: int = 5, epoch: int = 2, seen: int | None = 1, by: str = "rep_x") -> bool:
    call = repair_calls.close_gate(rig.keys, term=term, epoch=epoch, seen=seen, pairing="pair", by=by, now=rig.now)
    return rig.do(call)


def survey(rig: Rig, stream_id: str = "0-0") -> repair_calls.Survey:
    return rig.do(repair_calls.survey(rig.keys, stream_id, now=rig.now))


def test_a_closed_namespace_refuses_everything_until_its_repair_opens_it(rig: Rig) -> None:
    rig.submit(task("A"))

    assert close(rig)
    with pytest.raises(NotOpen):
        rig.submit(task("B"))
    with pytest.raises(NotOpen):
        rig.do(leader_calls.open_gate(rig.keys, epoch=9, pairing="pair"))
    with pytest.raises(NotOpen):
        rig.do(leader_calls.open_gate(rig.keys, epoch=9, pairing="pair", repair_term=4))
    opened = rig.do(leader_calls.open_gate(rig.keys, epoch=2, pairing="pair", repair_term=5))

    assert (opened.epoch, opened.is_new) == (2, True)
    assert not any(field.startswith("repair") for field in rig.hash("meta"))
    assert rig.submit(task("B")).position.epoch == 2


def test_an_epoch_that_is_not_the_one_that_was_seen_stays_open(rig: Rig) -> None:
    assert not close(rig, seen=None)
    assert not close(rig, seen=7)
    assert survey(rig).epoch == 1


def test_a_repair_at_work_keeps_others_away_and_a_dead_one_is_followed_by_a_later_term(rig: Rig) -> None:
    assert close(rig, term=5)
    assert not close(rig, term=6, seen=None)
    rig.now += SILENT_MS - 1
    assert close(rig, term=5, seen=None), "its sign of life"
    rig.now += SILENT_MS - 1
    assert not close(rig, term=6, seen=None)
    rig.now += 1
    assert not close(rig, term=4, seen=None), "terms only grow"
    assert close(rig, term=6, seen=None)
    assert not close(rig, term=5, seen=None)


def test_of_two_repairs_that_were_given_one_term_the_second_is_kept_away(rig: Rig) -> None:
    assert close(rig, by="rep_first")
    assert not close(rig, seen=None, by="rep_second")
    rig.now += SILENT_MS
    assert not close(rig, seen=None, by="rep_second")
    assert close(rig, term=6, seen=None, by="rep_second")
    assert not close(rig, seen=None, by="rep_first")


def test_a_dead_repair_keeps_nobody_away_when_the_clock_is_set_back(rig: Rig) -> None:
    assert close(rig)
    rig.now -= 3_600_000
    assert not survey(rig).is_under_repair
    assert close(rig, term=6, seen=None)


def test_a_repair_tells_since_when_it_works_and_whose_it_is(rig: Rig) -> None:
    begun = rig.now
    close(rig, by="rep_first coo_1 on host")
    rig.now += 2_000
    close(rig, seen=None, by="rep_first coo_1 on host")
    seen = survey(rig)
    assert (seen.repair_since, seen.repair_by, seen.repair_at) == (begun, "rep_first coo_1 on host", begun + 2_000)
    rig.now += SILENT_MS
    close(rig, term=6, seen=None, by="rep_second")
    assert survey(rig).repair_since == rig.now


WRITES: dict[str, Callable[[Rig], Any]] = {
    "wipe": lambda rig: rig.do(repair_calls.wipe(rig.keys, [], term=5, now=rig.now)),
    "rebuild": lambda rig: rig.do(repair_calls.rebuild(rig.keys, [ROW], term=5, reason="", now=rig.now)),
    "restore": lambda rig: rig.do(repair_calls.restore(rig.keys, term=5, handlers=[("h", "{}")], now=rig.now)),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_repair_that_is_over_writes_nothing(rig: Rig, write: Callable[[Rig], Any]) -> None:
    for prepare in (lambda: None, lambda: close(rig, term=6)):
        prepare()
        before = rig.view()
        with pytest.raises(LeaseLost, match="term 5 is over"):
            write(rig)
        assert rig.view() == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_write_of_a_repair_is_a_sign_of_its_life(rig: Rig, write: Callable[[Rig], Any]) -> None:
    close(rig)
    rig.now += SILENT_MS
    write(rig)

    assert survey(rig).is_under_repair


def test_a_task_is_put_back_once(rig: Rig) -> None:
    close(rig)
    call = repair_calls.rebuild(rig.keys, [ROW], term=5, reason="", now=rig.now)

    assert [rig.do(call), rig.do(call)] == [1, 0]
    assert list(rig.zset("ready", "default")) == ["A"]


def test_wiping_leaves_unique_windows_counters_and_the_repair_itself(rig: Rig) -> None:
    rig.submit(task("A", unique_ms=60_000, idempotency_key="k"))
    rig.claim()
    close(rig)
    cursor, is_last = 0, False
    while not is_last:
        cursor, names = rig.do(repair_calls.scan_names(rig.keys, cursor))
        is_last = cursor == 0
        rig.do(repair_calls.wipe(rig.keys, names, term=5, is_last=is_last, now=rig.now))

    assert [name for name in rig.names() if not name.startswith("u:")] == ["meta"]
    assert sorted(rig.hash("meta")) == [
        "bytes", "layout", "pairing", "repair_at", "repair_by", "repair_epoch", "repair_since", "repair_term",
        "rows", "seq",
    ]  # fmt: skip


def test_a_survey_tells_the_anchor_and_what_follows_it_past_entries_of_others(rig: Rig) -> None:
    rig.submit(task("A"))
    anchor = rig.do(leader_calls.journal_last(rig.keys)) or ""
    rig.raw("XADD", rig.keys.build("journal"), "*", "who", "not us")
    rig.submit(task("B"))

    seen = survey(rig, anchor)

    assert (seen.anchor, seen.following) == (Position(1, 1), Position(1, 2))
    assert (seen.epoch, seen.pairing, seen.seq, seen.tasks) == (1, "pair", 2, 2)
    assert survey(rig, "1-1").anchor is None
    last = rig.do(leader_calls.journal_last(rig.keys)) or ""
    assert survey(rig, last).following is None


def test_a_survey_tells_the_greatest_term_of_leaders_and_repairs(rig: Rig) -> None:
    rig.lead(term=3)
    assert survey(rig).term == 3
    close(rig, term=5)
    assert survey(rig).term == 5


def test_a_window_that_stands_stays_and_one_that_was_lost_is_put_back_for_the_rest_of_its_time(rig: Rig) -> None:
    first = task("A", unique_ms=60_000)
    rig.submit(first)
    close(rig)
    windows = [(first.fingerprint(), "B", 5_000), ("lost", "C", 5_000)]
    rig.do(repair_calls.restore(rig.keys, term=5, windows=windows, now=rig.now))

    names = [rig.keys.build("unique", mark) for mark in (first.fingerprint(), "lost")]
    assert [rig.raw("GET", name) for name in names] == [b"A", b"C"]
    assert 0 < rig.raw("PTTL", names[1]) <= 5_000 < rig.raw("PTTL", names[0])


def test_a_rebuilt_key_belongs_to_the_first_task_that_is_put_back(rig: Rig) -> None:
    close(rig)
    first, second = [*ROW], [*ROW]
    first[15:17] = second[15:17] = ["k", "print"]
    second[0] = "B"
    rig.do(repair_calls.rebuild(rig.keys, [first, second], term=5, reason="", now=rig.now))
    rig.do(repair_calls.restore(rig.keys, term=5, held=[("k", "C", "print", 60_000)], now=rig.now))
    rig.do(leader_calls.open_gate(rig.keys, epoch=2, pairing="pair", repair_term=5))

    assert [rig.live("A").idempotency_key, rig.live("B").idempotency_key] == ["k", ""]
    assert rig.raw("GET", rig.keys.build("idem", "k")) == b"A print"
    assert rig.do(calls.watermark(rig.keys)).at == 0
