"""open, elect, marks, publish, forget, coordinator: who leads, and what only a leader may write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.scripts.rig import MINUTE, NOW, Rig, task
from tqctl_runtime.broker import leader_calls
from tqctl_runtime.broker.leader_calls import COORDINATOR, Election, Opened
from tqctl_runtime.core.errors import LeaseLost, StoresDiffer

TTL = 15_000


@pytest.fixture
def closed(rig: Rig) -> Rig:
    """A namespace that nobody has opened."""
    rig.raw("DEL", rig.keys.meta)
    return rig


# --- open


def test_a_namespace_is_opened_once(closed: Rig) -> None:
    assert closed.do(leader_calls.open_gate(closed.keys, epoch=3, pairing="p")) == Opened(3, "p", is_new=True)
    assert closed.hash("meta") == {
        "epoch": b"3", "pairing": b"p", "layout": b"1", "seq": b"0", "rows": b"0", "bytes": b"0"
    }  # fmt: skip
    with closed.changes() as seen:
        assert closed.do(leader_calls.open_gate(closed.keys, epoch=4, pairing="q")) == Opened(3, "p", is_new=False)
    assert seen.keys == {}


def test_versions_and_tokens_carry_the_epoch(closed: Rig) -> None:
    closed.do(leader_calls.open_gate(closed.keys, epoch=3, pairing="p"))
    assert closed.submit(task("A")).position.epoch == 3
    assert closed.claim()[0].token == "3-1-w1-1"
    assert closed.live("A").version == 3 << 32 | 1
    assert {entry.epoch for entry in closed.entries()} == {3}


# --- elect


def test_the_first_that_asks_leads(rig: Rig) -> None:
    with rig.changes() as seen:
        assert rig.lead(7, "c1", TTL) == Election(True, "c1", 7, NOW + TTL)
    assert list(seen.keys) == ["lead/coordinator"]


def test_a_holder_renews_in_its_term(rig: Rig) -> None:
    rig.lead(7, "c1", TTL)
    rig.now += TTL - 1
    assert rig.lead(7, "c1", TTL) == Election(True, "c1", 7, rig.now + TTL)


def test_nobody_takes_a_lease_that_runs(rig: Rig) -> None:
    rig.lead(7, "c1", TTL)
    rig.now += TTL - 1
    with rig.changes() as seen:
        assert rig.lead(8, "c2", TTL) == Election(False, "c1", 7, NOW + TTL)
        assert rig.lead(8, "c1", TTL) == Election(False, "c1", 7, NOW + TTL)
    assert seen.keys == {}


@pytest.mark.parametrize("term", [6, 7])
def test_a_term_that_is_not_greater_is_refused_even_when_nobody_leads(rig: Rig, term: int) -> None:
    rig.lead(7, "c1", TTL)
    rig.now += TTL
    assert rig.lead(term, "c2", TTL) == Election(False, "c1", 7, NOW + TTL, is_free=True)


def test_a_greater_term_takes_over_and_the_old_one_never_comes_back(rig: Rig) -> None:
    rig.lead(7, "c1", TTL)
    rig.now += TTL
    assert rig.lead(8, "c2", TTL).is_leader
    rig.now += TTL
    assert rig.lead(7, "c1", TTL) == Election(False, "c2", 8, rig.now, is_free=True)


def test_a_leader_that_resigns_makes_room_at_once(rig: Rig) -> None:
    rig.lead(7, "c1", TTL)
    assert rig.lead(7, "c1", 0) == Election(False, "c1", 7, NOW, is_free=True)
    assert rig.lead(8, "c2", TTL).is_leader


def test_a_lease_that_was_given_before_the_clock_was_set_back_keeps_nobody_out(rig: Rig) -> None:
    rig.lead(7, "c1", TTL)
    rig.now -= TTL
    assert not rig.lead(8, "c2", TTL).is_leader

    rig.now -= 3_600_000
    assert rig.lead(0, "c2", TTL).is_free
    assert rig.lead(8, "c2", TTL) == Election(True, "c2", 8, rig.now + TTL)


def test_roles_are_led_apart(rig: Rig) -> None:
    rig.lead(7, "c1", TTL)
    call = leader_calls.elect(rig.keys, role="scheduler", holder="s1", term=1, lease_ms=TTL, now=rig.now)
    assert rig.do(call).is_leader


# --- what only a leader may write


def writes(rig: Rig, term: int) -> dict[str, Callable[[], Any]]:
    """Each leader's write under *term*."""
    publish = leader_calls.publish(
        rig.keys, term=term, epoch=1, seq=1, stream_id="5-0", rows=1, size=1, keep_ms=0, now=rig.now
    )
    return {
        "promote": lambda: rig.promote(term=term),
        "reap": lambda: rig.reap(term=term),
        "marks": lambda: rig.marks(term=term),
        "publish": lambda: rig.do(publish),
        "forget": lambda: rig.forget(("B", 2), term=term),
    }


@pytest.mark.parametrize("write", ["promote", "reap", "marks", "publish", "forget"])
def test_a_write_outside_the_term_changes_nothing(rig: Rig, write: str) -> None:
    rig.submit(task("A", delay_ms=1), task("B"))
    rig.cancel("B")
    rig.join()
    with rig.changes() as seen, pytest.raises(LeaseLost):
        writes(rig, 1)[write]()
    assert seen.keys == {}
    rig.lead(7, "c1", TTL)
    with rig.changes() as seen:
        for term in (6, 8):
            with pytest.raises(LeaseLost):
                writes(rig, term)[write]()
        rig.now += TTL
        with pytest.raises(LeaseLost, match="is over"):
            writes(rig, 7)[write]()
    assert (seen.keys, seen.rows) == ({}, [])
    rig.lead(8, "c2", TTL)
    writes(rig, 8)[write]()


def test_marks_are_written_whole(rig: Rig) -> None:
    rig.lead()
    with rig.changes() as seen:
        rig.marks(1, 2, busy_bytes=3, stop_bytes=4, is_memory_short=True)
    assert seen.keys == {
        "meta/busy_rows": b"1",
        "meta/stop_rows": b"2",
        "meta/busy_bytes": b"3",
        "meta/stop_bytes": b"4",
        "meta/memory_busy": b"1",
    }


def test_publishing_tells_the_watermark_and_trims_behind_the_anchor(rig: Rig) -> None:
    rig.lead()
    for number in range(4):
        rig.submit(task(f"t{number}"))
    entries = rig.entries()
    # Entries carry the server's own time: give the stream known ones.
    journal = rig.keys.build("journal")
    rig.raw("DEL", journal)
    for entry, at in zip(entries, (100_000, 159_999, 160_000, 220_000), strict=True):
        rig.raw("XADD", journal, f"{at}-0", "e", 1, "s", entry.seq, "r", entry.rows)
    call = leader_calls.publish(
        rig.keys, term=1, epoch=1, seq=4, stream_id="220000-0", rows=4, size=99, keep_ms=MINUTE, now=rig.now
    )
    reply = rig.do(call)
    assert (reply.seq, reply.entries) == (4, 2)
    assert [entry.stream_id for entry in rig.entries()] == ["160000-0", "220000-0"]
    assert rig.hash("wm") == {
        "epoch": b"1", "seq": b"4", "sid": b"220000-0", "rows": b"4", "bytes": b"99", "at": str(NOW).encode(),
        "moved": str(NOW).encode(), "quarantined": b"",
    }  # fmt: skip


@pytest.mark.parametrize(("epoch", "seq"), [(1, 2), (2, 1)])
def test_what_this_journal_never_had_cannot_be_told_as_recorded(rig: Rig, epoch: int, seq: int) -> None:
    rig.lead()
    rig.submit(task("A"))
    call = leader_calls.publish(
        rig.keys, term=1, epoch=epoch, seq=seq, stream_id="5-0", rows=1, size=1, keep_ms=0, now=rig.now
    )

    with rig.changes() as seen, pytest.raises(StoresDiffer, match="the journal ends at 1 of epoch 1"):
        rig.do(call)

    assert (seen.keys, seen.rows) == ({}, [])


def test_the_anchor_stays_however_little_is_kept(rig: Rig) -> None:
    rig.lead()
    rig.submit(task("A"))
    rig.submit(task("B"))
    last = rig.do(leader_calls.journal_last(rig.keys))
    assert last is not None
    call = leader_calls.publish(
        rig.keys, term=1, epoch=1, seq=2, stream_id=last, rows=2, size=1, keep_ms=0, now=rig.now
    )
    rig.do(call)
    assert last in [entry.stream_id for entry in rig.entries()]


def test_the_watermark_covers_positions_of_its_own_epoch(rig: Rig) -> None:
    from tqctl_runtime.broker.calls import Position, watermark

    rig.lead()
    position = rig.submit(task("A")).position
    assert not rig.do(watermark(rig.keys)).covers(position)
    writes(rig, 1)["publish"]()
    mark = rig.do(watermark(rig.keys))
    assert mark.covers(position)
    assert not mark.covers(Position(1, 2))
    assert not mark.covers(Position(2, 1))


def test_the_watermark_tells_what_the_record_refused(rig: Rig) -> None:
    from tqctl_runtime.broker.calls import watermark

    rig.lead()
    replies = [rig.submit(task(name)) for name in "ABC"]
    call = leader_calls.publish(
        rig.keys, term=1, epoch=1, seq=3, stream_id="5-0", rows=3, size=1, quarantined=[2], now=rig.now
    )
    rig.do(call)
    mark = rig.do(watermark(rig.keys))
    assert mark.quarantined == (2,)
    assert [mark.has_refused(reply) for reply in replies] == [False, True, False]
    assert all(mark.covers(reply.position) for reply in replies)


def test_each_publication_is_heard(rig: Rig) -> None:
    import redis

    rig.lead()
    with redis.Redis(connection_pool=rig.client.connection_pool) as client, client.pubsub() as listener:
        listener.subscribe(rig.keys.watermark_channel)
        assert listener.get_message(timeout=5)["type"] == "subscribe"
        rig.submit(task("A"))
        writes(rig, 1)["publish"]()
        assert listener.get_message(timeout=5)["data"] == b"1 1"


# --- coordinators


def show(rig: Rig, name: str, info: dict[str, int] | None) -> None:
    """A sign of life of coordinator *name*; None: it leaves."""
    rig.do(leader_calls.coordinator_beat(rig.keys, name, info, now=rig.now))


def test_coordinators_that_fall_silent_are_dropped(rig: Rig) -> None:
    show(rig, "c1", {"pid": 1})
    rig.now += MINUTE
    show(rig, "c2", {"pid": 2})
    assert sorted(rig.hash("coordinators")) == ["c1", "c2"]
    rig.now += 1
    with rig.changes() as seen:
        show(rig, "c2", {"pid": 2})
    assert seen.keys == {"coordinators/c1": None, "coordinators/c2": f'{rig.now} {{"pid": 2}}'.encode()}
    show(rig, "c2", None)
    assert "coordinators" not in rig.names()


def test_nobody_records_from_the_moment_the_last_coordinator_leaves(rig: Rig) -> None:
    rig.lead()
    rig.submit(task("A"))
    show(rig, "killed", {"pid": 3})
    rig.now += 15_001
    for name in ("c1", "c2"):
        show(rig, name, {"pid": 1})
    writes(rig, 1)["publish"]()
    show(rig, "c1", None)
    assert rig.submit(task("B")).is_recorder_alive, "another one is there to take over"
    show(rig, "c2", None)
    assert not rig.submit(task("C")).is_recorder_alive
    assert rig.hash("wm")["seq"] == b"1", "what is recorded stays told"


def test_names_of_queues_go_when_nothing_stands_in_line(rig: Rig) -> None:
    rig.submit(task("A", queue="defualt"), task("B", queue="mail"), task("C", queue="later", delay_ms=1_000))
    assert set(rig.raw("SMEMBERS", rig.keys.build("queues"))) == {b"defualt", b"mail"}
    rig.cancel("A")
    show(rig, "c1", {"pid": 1})
    assert set(rig.raw("SMEMBERS", rig.keys.build("queues"))) == {b"mail"}
    rig.claim(queues=["mail"])
    show(rig, "c1", {"pid": 1})
    assert set(rig.raw("SMEMBERS", rig.keys.build("queues"))) == set()
    rig.retry("A")
    assert set(rig.raw("SMEMBERS", rig.keys.build("queues"))) == {b"defualt"}


def test_the_role_of_a_coordinator_has_one_name() -> None:
    assert COORDINATOR == "coordinator"
