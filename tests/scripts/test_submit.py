"""submit.lua: acceptance, one life per id and key, order in line, expiry, journal entries, back-pressure."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scripts.rig import HOUR, NOW, Rig, decode_line, score, task
from tqctl_runtime.core.errors import Busy
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import Submission

MEBIBYTE = 1_048_576


def line(item: Submission, **differs: Any) -> dict[str, Any]:
    """The paths of a new task's line and envelope."""
    values = {
        "layout": 1, "state": "queued", "v": 1, "priority": 5, "max": 5, "failures": 0, "deaths": 0, "attempts": 0,
        "created": NOW, "base": NOW, "expires": 0, "due": 0, "started": 0, "held": 0, "suspect": 0, "cancel": 0,
        "watched": 0, "queue": "default", "token": "", "idem": "",
    } | differs  # fmt: skip
    return {f"st/{item.id}.{name}": value for name, value in values.items()} | {f"env/{item.id}": item.envelope()}


def test_a_plain_task_is_queued_and_rings_its_queue(rig: Rig) -> None:
    item = task("A")
    with rig.changes() as seen:
        reply = rig.submit(item)
    assert (reply.accepted[0].id, reply.accepted[0].state) == ("A", State.QUEUED)
    assert (reply.position.epoch, reply.position.seq, reply.is_recorder_alive) == (1, 1, False)
    assert seen.keys == {"q:default/A": score(), "queues/default": True, "b:default": [b"1"]} | line(item)
    assert seen.rows == [("S", NOW, "A", 1, "queued", "default", 5, 5, 0, 0, "", "", item.envelope())]


def test_a_delayed_task_waits_for_its_time_and_its_expiry_counts_from_there(rig: Rig) -> None:
    item = task("A", delay_ms=5_000, expires_ms=1_000, priority=10, max_retries=0, queue="mail", watched=True)
    with rig.changes() as seen:
        reply = rig.submit(item)
    due = NOW + 5_000
    differs = {"state": "scheduled", "due": due, "base": due, "expires": due + 1_000, "priority": 10, "max": 0}
    assert reply.accepted[0].state is State.SCHEDULED
    assert seen.keys == {"sched/A": due, "exp/A": due + 1_000} | line(item, queue="mail", watched=1, **differs)
    assert seen.rows == [("S", NOW, "A", 1, "scheduled", "mail", 10, 0, due, due + 1_000, "", "", item.envelope())]


def test_a_time_that_is_past_means_now(rig: Rig) -> None:
    assert rig.submit(task("A", due_at=NOW - 1)).accepted[0].state is State.QUEUED
    assert rig.live("A").due_at == 0


@pytest.mark.parametrize("how", [{"due_at": NOW + 1}, {"delay_ms": 1}])
def test_a_time_to_come_is_kept(rig: Rig, how: dict[str, int]) -> None:
    assert rig.submit(task("A", **how)).accepted[0].state is State.SCHEDULED
    assert rig.zset("sched") == {"A": NOW + 1}


def test_a_known_id_is_answered_and_changes_nothing(rig: Rig) -> None:
    rig.submit(task("A"))
    with rig.changes() as seen:
        reply = rig.submit(task("A", payload=b'{"other":1}', queue="mail", idempotency_key="k", unique_ms=HOUR))
    assert (reply.accepted[0].id, reply.accepted[0].is_known, reply.accepted[0].state) == ("A", True, None)
    assert (seen.keys, seen.rows) == ({}, [])


def test_the_reply_tells_which_entries_a_call_wrote(rig: Rig) -> None:
    rig.submit(task("A"))
    large = [task(name, payload=b'"' + b"x" * 200_000 + b'"') for name in "BCD"]
    reply = rig.submit(*large)
    assert (reply.before, reply.position.seq) == (1, 4)
    again = rig.submit(*large)
    assert (again.before, again.position.seq) == (4, 4)


def test_an_id_twice_in_one_call_is_one_task(rig: Rig) -> None:
    reply = rig.submit(task("A"), task("B"), task("A", queue="mail"))
    assert [one.is_known for one in reply.accepted] == [False, False, True]
    assert list(rig.zset("ready", "default")) == ["A", "B"]
    assert [row[2] for row in rig.rows()] == ["A", "B"]


def test_the_id_of_a_forgotten_task_is_known_for_an_hour(rig: Rig) -> None:
    rig.submit(task("A"))
    rig.cancel("A")
    rig.forget(("A", 2))
    assert rig.submit(task("A")).accepted[0].is_known
    assert rig.view()["t:A#minutes"] == 60


def test_an_idempotency_key_answers_with_the_first_task(rig: Rig) -> None:
    first = task("A", idempotency_key="order 7 é", payload=b'{"n":1}')
    rig.submit(first)
    assert rig.view()["i:order 7 é"] == f"A {first.fingerprint()}"
    with rig.changes() as seen:
        reply = rig.submit(
            task("B", idempotency_key="order 7 é", payload=b'{"n":1}', queue="mail"),
            task("C", idempotency_key="order 7 é", payload=b'{"n":2}'),
            task("D", idempotency_key="order 7 é", payload=b'{"n":1}', handler="other"),
        )
    assert [(one.id, one.is_duplicate, one.is_conflict) for one in reply.accepted] == [
        ("A", True, False),
        ("A", False, True),
        ("A", False, True),
    ]
    assert (seen.keys, seen.rows) == ({}, [])


def test_an_idempotency_key_holds_inside_one_call(rig: Rig) -> None:
    reply = rig.submit(task("A", idempotency_key="k"), task("B", idempotency_key="k"))
    assert [one.id for one in reply.accepted] == ["A", "A"]
    assert rig.look("B") == [None]


def test_an_idempotency_key_runs_out_a_day_after_its_task_is_final(rig: Rig) -> None:
    rig.submit(task("A", idempotency_key="k"))
    (held,) = rig.claim()
    assert "i:k#minutes" not in rig.view()
    with rig.changes() as seen:
        rig.finish(held, Outcome.SUCCEEDED)
    assert seen.keys["i:k#minutes"] == 24 * 60
    rig.forget(("A", 2))
    assert rig.view()["i:k#minutes"] == 24 * 60
    assert rig.submit(task("B", idempotency_key="k")).accepted[0].is_duplicate


def test_an_idempotency_key_runs_out_after_an_expiry_or_a_cancel_too(rig: Rig) -> None:
    rig.submit(task("A", idempotency_key="a", expires_ms=1), task("B", idempotency_key="b"))
    rig.cancel("B")
    rig.lead()
    rig.now += 1
    rig.promote()
    assert {name: value for name, value in rig.view().items() if "#" in name} == {
        "i:a#minutes": 1440,
        "i:b#minutes": 1440,
    }


def test_a_window_makes_work_unique_while_it_lasts(rig: Rig) -> None:
    first = task("A", unique_ms=HOUR)
    with rig.changes() as seen:
        rig.submit(first)
    assert seen.keys[f"u:{first.fingerprint()}"] == "A"
    assert seen.keys[f"u:{first.fingerprint()}#minutes"] == 60
    rig.cancel("A")
    again = rig.submit(task("B", unique_ms=HOUR), task("C", unique_ms=HOUR, payload=b'{"n":1}'), task("D"))
    assert [(one.id, one.is_duplicate) for one in again.accepted] == [("A", True), ("C", False), ("D", False)]
    rig.raw("DEL", rig.keys.build("unique", first.fingerprint()))
    assert rig.submit(task("E", unique_ms=HOUR)).accepted[0].state is State.QUEUED


def test_more_urgent_goes_first_and_equals_keep_the_order_of_their_call(rig: Rig) -> None:
    rig.submit(task("Z"), task("low", priority=3), task("Y"), task("A"))
    rig.now += 1
    rig.submit(task("late"), task("urgent", priority=10))
    order = ["urgent", "Z", "Y", "A", "late", "low"]
    assert list(rig.zset("ready", "default")) == order
    assert [one.id for one in rig.claim(places=6)] == order


def test_urgency_is_strict_even_after_years(rig: Rig) -> None:
    rig.submit(task("old", priority=5))
    rig.now += 15 * 365 * 86_400_000
    rig.submit(task("new", priority=6))
    assert list(rig.zset("ready", "default")) == ["new", "old"]


def test_a_thousand_tasks_in_one_call_keep_their_order(rig: Rig) -> None:
    ids = [f"t{number * 7919 % 1000:03}" for number in range(1000)]
    reply = rig.submit(*[task(task_id) for task_id in ids])
    assert [one.state for one in reply.accepted] == [State.QUEUED] * 1000
    assert [one.id for one in rig.claim(places=1000)] == ids
    assert [row[2] for row in rig.rows() if row[0] == "S"] == ids


def test_a_large_call_is_split_into_entries_of_256_kib_without_a_gap(rig: Rig) -> None:
    items = [task(f"t{number}", payload=b'{"x":"' + b"x" * 100_000 + b'"}') for number in range(7)]
    reply = rig.submit(*items)
    entries = rig.entries()
    assert [entry.seq for entry in entries] == [1, 2, 3, 4]
    assert all(len(entry.rows) <= 262_144 for entry in entries)
    assert reply.position.seq == 4
    assert [row[-1] for row in rig.rows()] == [item.envelope() for item in items]


def test_a_row_that_is_larger_than_an_entry_stands_alone(rig: Rig) -> None:
    huge = task("huge", payload=b'{"x":"' + b"x" * MEBIBYTE + b'"}')
    rig.submit(task("before"), huge, task("after"))
    assert [row[2] for row in rig.rows()] == ["before", "huge", "after"]
    assert [len(entry.rows) > MEBIBYTE for entry in rig.entries()] == [False, True, False]


def test_every_byte_of_a_payload_reaches_worker_and_journal(rig: Rig) -> None:
    item = task("A", payload=bytes(range(256)), tags={"a": "é"}, tenant="t")
    rig.submit(item)
    (held,) = rig.claim()
    assert held.envelope == item.envelope()
    assert rig.rows()[0][-1] == item.envelope()


def test_the_reply_tells_whether_the_recorder_lives(rig: Rig) -> None:
    rig.raw("HSET", rig.keys.build("wm"), "at", rig.now - 4_999)
    assert rig.submit(task("A")).is_recorder_alive
    rig.now += 1
    assert not rig.submit(task("B")).is_recorder_alive


@pytest.mark.parametrize(
    "marks", [{"busy": 1}, {"busy_bytes": 1}, {"is_memory_short": True}], ids=["rows", "bytes", "memory"]
)
def test_back_pressure_refuses_a_submit_before_anything_is_written(rig: Rig, marks: dict[str, Any]) -> None:
    rig.submit(task("A"))
    rig.lead()
    rig.marks(**marks)
    with rig.changes() as seen, pytest.raises(Busy) as busy:
        rig.submit(task("B"), task("A"))
    assert busy.value.retry_after == 1
    assert (seen.keys, seen.rows) == ({}, [])


def test_busy_means_that_nothing_was_queued_also_by_an_earlier_call_whose_reply_was_lost(rig: Rig) -> None:
    rig.submit(task("A"), task("B", idempotency_key="k"))
    rig.lead()
    rig.marks(busy=1)
    reply = rig.submit(task("A"), task("C", idempotency_key="k"))
    assert [(one.id, one.is_known, one.is_duplicate) for one in reply.accepted] == [
        ("A", True, False),
        ("B", False, True),
    ]


def test_what_the_recorder_has_committed_eases_the_pressure(rig: Rig) -> None:
    rig.submit(task("A"), task("B"))
    rig.lead()
    rig.marks(busy=2)
    rig.raw("HSET", rig.keys.build("wm"), "rows", 1)
    assert rig.submit(task("C")).accepted[0].state is State.QUEUED


def test_a_broken_head_is_refused_before_anything_is_written(rig: Rig) -> None:
    from tqctl_runtime.broker.call import script_call
    from tqctl_runtime.core.errors import TqctlError

    good = task("A")
    call = script_call(rig.keys, "submit", list, good.head(), good.envelope(), b"\xc1", b"", now=rig.now)
    with rig.changes() as seen, pytest.raises(TqctlError):
        rig.do(call)
    assert (seen.keys, seen.rows) == ({}, [])


def test_the_line_keeps_the_longest_words_and_largest_numbers(rig: Rig) -> None:
    key, queue = "k" * 256, "q" * 100
    rig.submit(task("A", idempotency_key=key, queue=queue, max_retries=1000, expires_at=2**52, priority=10))
    kept = decode_line(rig.hash("st")["A"])
    assert (kept["idem"], kept["queue"], kept["max"], kept["expires"]) == (key, queue, 1000, 2**52)
