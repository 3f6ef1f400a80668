"""heartbeat, register, deregister, reap: who holds what, for how long, and what a death costs."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scripts.rig import INTERVAL, LEASE, NOW, Rig, score, task
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.broker.worker_calls import FINISHED, STALE, Claimed
from tqctl_runtime.core.errors import LeaseLost
from tqctl_runtime.core.states import Outcome, State


def hold(rig: Rig, *ids: str, worker: str = "w1", **more: Any) -> list[Claimed]:
    """Tasks *ids*, claimed by *worker*."""
    rig.submit(*[task(task_id) for task_id in ids])
    return rig.claim(worker, len(ids), **more)


def die(rig: Rig, *workers: str) -> None:
    """Let the leases of all workers but *workers* run out while a coordinator looks."""
    for _ in range(LEASE // INTERVAL // 3):
        rig.now += 3 * INTERVAL
        for worker in workers:
            rig.beat(worker)
        rig.reap()


@pytest.fixture
def led(rig: Rig) -> Rig:
    """A rig with a leader that has looked for the dead once."""
    rig.lead()
    rig.reap()
    return rig


# --- register


def test_a_worker_joins_with_its_lease_and_its_handlers(rig: Rig) -> None:
    rows = [{"name": "echo", "queue": "default"}, {"name": "mail", "queue": "mail"}]
    call = worker_calls.register(rig.keys, "w1", lease_ms=LEASE, info={"name": "a"}, rows=rows, now=rig.now)
    with rig.changes() as seen:
        assert rig.do(call)
    echo, mail = b'{"name": "echo", "queue": "default"}', b'{"name": "mail", "queue": "mail"}'
    assert seen.keys == {
        "leases/w1": NOW + LEASE,
        "workers/w1": b'{"name": "a"}',
        "catalogue/echo": echo,
        "catalogue/mail": mail,
    }
    assert seen.rows == [
        ("K", NOW, "handler", "echo", echo.decode()),
        ("K", NOW, "handler", "mail", mail.decode()),
        ("W", NOW, "w1", "live", '{"name": "a"}'),
    ]


def test_only_a_changed_catalogue_row_is_told_again(rig: Rig) -> None:
    for queue in ("default", "default", "mail"):
        rows = [{"name": "echo", "queue": queue}]
        rig.do(worker_calls.register(rig.keys, "w1", lease_ms=LEASE, info={}, rows=rows, now=rig.now))
    assert [row[-1] for row in rig.rows() if row[0] == "K"] == [
        '{"name": "echo", "queue": "default"}',
        '{"name": "echo", "queue": "mail"}',
    ]


def test_a_worker_that_asks_again_is_renewed_while_its_lease_stands(rig: Rig) -> None:
    for is_first in (True, False):
        call = worker_calls.register(
            rig.keys, "w1", lease_ms=LEASE, info={}, rows=[], is_first=is_first, now=rig.now + 10 * (not is_first)
        )
        with rig.changes() as seen:
            assert rig.do(call)
    assert seen.keys == {"leases/w1": NOW + 10 + LEASE}


def test_a_worker_that_asks_again_after_its_lease_is_unknown(led: Rig) -> None:
    led.join("w1")
    die(led)
    with led.changes() as seen:
        assert not led.do(
            worker_calls.register(led.keys, "w1", lease_ms=LEASE, info={}, rows=[], is_first=False, now=led.now)
        )
    assert (seen.keys, seen.rows) == ({}, [])


# --- heartbeat


def test_a_heartbeat_renews_the_lease_and_tells_figures(rig: Rig) -> None:
    (one,) = hold(rig, "A")
    rig.now += 10_000
    call = worker_calls.heartbeat(
        rig.keys, "w1", lease_ms=LEASE, held=[("A", one.token)], answered=1, figures={"busy": 1}, now=rig.now
    )
    with rig.changes() as seen:
        reply = rig.do(call)
    assert (reply.now, reply.is_known, reply.lost, reply.cancelled) == (rig.now, True, [], {})
    assert seen.keys == {"leases/w1": rig.now + LEASE, "wlive/w1": b'{"busy": 1}'}
    assert seen.rows == []


def test_a_heartbeat_keeps_the_answer_to_the_last_round(rig: Rig) -> None:
    rig.join()
    rig.round()
    rig.raw("PEXPIRE", rig.keys.build("slot", "w1"), 60_000)
    rig.beat()
    assert rig.view()["slot:w1#minutes"] == 60


def test_a_heartbeat_of_a_reaped_worker_tells_that_all_is_lost(rig: Rig) -> None:
    with rig.changes() as seen:
        call = worker_calls.heartbeat(
            rig.keys, "ghost", lease_ms=LEASE, held=[("A", "x"), ("B", "y")], answered=0, figures={}, now=rig.now
        )
        reply = rig.do(call)
    assert (reply.is_known, reply.lost) == (False, ["A", "B"])
    assert (seen.keys, seen.rows) == ({}, [])


def test_a_heartbeat_brings_cancel_requests_each_time(rig: Rig) -> None:
    one, two = hold(rig, "A", "B")
    rig.cancel("A", reason="too old")
    assert rig.beat("w1", one, two).cancelled == {"A": "too old"}
    assert rig.beat("w1", one, two).cancelled == {"A": "too old"}


def test_what_a_worker_lists_but_does_not_own_is_lost(rig: Rig) -> None:
    (one,) = hold(rig, "A")
    rig.finish(one, Outcome.RELEASED)
    (again,) = rig.claim("w2")
    assert rig.beat("w1", one).lost == ["A"]
    assert rig.beat("w2", again).lost == []
    rig.finish(again, Outcome.SUCCEEDED, "w2")
    rig.forget(("A", 3))
    assert rig.beat("w2", again).lost == ["A"]


def test_what_a_worker_owns_by_a_round_it_has_heard_of_and_does_not_list_is_released(rig: Rig) -> None:
    hold(rig, "A")
    rig.raw("DEL", rig.keys.build("bell", "default"))
    with rig.changes() as seen:
        rig.beat(answered=1)
    assert seen.keys == {
        "wlive/w1": b"{}",
        "own:w1/A": None,
        "st/A.held": 0,
        "st/A.token": "",
        "st/A.v": 2,
        "q:default/A": score(),
        "b:default": [b"1"],
    }
    assert seen.rows == [("T", rig.now, "A", 2, "queued", 0, "owned but not held", "")]


def test_what_was_claimed_by_a_round_whose_answer_is_on_its_way_stays(rig: Rig) -> None:
    (early,) = hold(rig, "A")
    (late,) = hold(rig, "B")
    rig.now += LEASE
    rig.beat("w1", early, answered=1)
    rig.start(late)
    rig.beat("w1", early, answered=1)
    assert rig.finish(late, Outcome.SUCCEEDED) == FINISHED
    assert "stale" not in rig.hash("stat")


@pytest.mark.parametrize(("lease", "bound"), [(LEASE, LEASE), (3_000, 10_000)])
def test_what_was_claimed_by_a_round_whose_answer_never_comes_is_released(rig: Rig, lease: int, bound: int) -> None:
    """Within that time a worker has given up a call that was not answered."""
    hold(rig, "A")
    rig.now += bound
    rig.beat(answered=0, lease_ms=lease)
    assert rig.live("A").is_held
    rig.now += 1
    rig.beat(answered=0, lease_ms=lease)
    assert not rig.live("A").is_held


def test_what_a_repeated_round_hands_out_again_stays_though_a_heartbeat_crosses_it(rig: Rig) -> None:
    hold(rig, "A")
    rig.now += 10 * LEASE
    (again,) = rig.round("w1", request=1, places=1).claimed
    rig.now += LEASE
    rig.beat("w1", answered=0)
    rig.start(again)
    assert rig.finish(again, Outcome.SUCCEEDED) == FINISHED


def test_a_running_task_that_its_worker_does_not_list_is_released_uncounted(rig: Rig) -> None:
    (one,) = hold(rig, "A")
    rig.start(one)
    rig.now += 7
    with rig.changes() as seen:
        rig.beat()
    told = ("F", rig.now, "A", 3, "released", "queued", 1, "w1", NOW, 0, 0, 0, "owned but not held", b"")
    assert seen.rows == [told]
    assert rig.finish(one, Outcome.SUCCEEDED) == STALE


# --- deregister


def test_a_worker_that_leaves_gives_back_what_it_holds(rig: Rig) -> None:
    rig.join("w1", name="a")
    one, two = hold(rig, "A", "B")
    rig.start(one)
    rig.beat("w1", one, two)
    rig.do(worker_calls.note(rig.keys, [("A", one.token, '{"percent":1}', b"")]))
    with rig.changes() as seen:
        assert rig.leave() == 2
    gone = ("leases/w1", "workers/w1", "wlive/w1", "own:w1/A", "own:w1/B", "slot:w1", "slot:w1#minutes", "prog/A")
    assert seen.keys == dict.fromkeys(gone) | {
        "st/A.state": "queued",
        "st/A.v": 3,
        "st/A.held": 0,
        "st/A.token": "",
        "st/B.v": 2,
        "st/B.held": 0,
        "st/B.token": "",
        "q:default/A": score(),
        "q:default/B": score(),
    }
    assert seen.rows == [
        ("F", NOW, "A", 3, "released", "queued", 1, "w1", NOW, 0, 0, 0, "worker left", b""),
        ("T", NOW, "B", 2, "queued", 0, "worker left", ""),
        ("W", NOW, "w1", "gone", '{"name": "a"}'),
    ]


def test_leaving_twice_or_after_the_reaper_tells_nothing(led: Rig) -> None:
    led.join()
    led.join("w2")
    assert led.leave() == 0
    die(led)
    with led.changes() as seen:
        assert (led.leave("w1"), led.leave("w2")) == (0, 0)
    assert (seen.keys, seen.rows) == ({}, [])


# --- reap


def test_a_lease_that_ran_out_gives_everything_back(led: Rig) -> None:
    led.join("w1", name="a")
    one, two = hold(led, "A", "B")
    led.start(one, ago=0)
    led.beat("w1", one, two)
    led.do(worker_calls.note(led.keys, [("A", one.token, '{"percent":1}', b"")]))
    led.raw("DEL", led.keys.build("bell", "default"))
    led.now += LEASE - 1
    led.raw("HSET", led.keys.meta, "reap_tick", led.now)
    assert led.reap().workers == 0
    led.now += 1
    with led.changes() as seen:
        reply = led.reap()
    assert (reply.workers, reply.tasks) == (1, 2)
    gone = ("leases/w1", "workers/w1", "wlive/w1", "own:w1/A", "own:w1/B", "slot:w1", "slot:w1#minutes", "prog/A")
    assert seen.keys == dict.fromkeys(gone) | {
        "meta/reap_tick": str(led.now).encode(),
        "st/A.state": "queued",
        "st/A.v": 3,
        "st/A.held": 0,
        "st/A.token": "",
        "st/A.deaths": 1,
        "st/A.suspect": 1,
        "st/B.v": 2,
        "st/B.held": 0,
        "st/B.token": "",
        "s:default/A": score(),
        "q:default/B": score(place=0),
        "b:default": [b"1"],
    }
    assert seen.rows == [
        ("F", led.now, "A", 3, "died", "queued", 1, "w1", NOW, 0, 1, 0, "worker lost", b""),
        ("T", led.now, "B", 2, "queued", 0, "worker lost, it may have begun", ""),
        ("W", led.now, "w1", "lost", '{"name": "a"}'),
    ]


def test_a_death_is_charged_to_nobody_when_several_had_started(led: Rig) -> None:
    for one in hold(led, "A", "B", "C")[:2]:
        led.start(one)
    die(led)
    assert [(one.deaths, one.is_suspect) for one in map(led.live, "ABC")] == [(0, True), (0, True), (0, False)]
    assert [row[4:6] for row in led.rows() if row[0] == "F"] == [("interrupted", "queued")] * 2


def test_when_none_had_started_each_is_a_suspect_and_none_is_charged(led: Rig) -> None:
    hold(led, "A", "B")
    die(led)
    assert [(one.deaths, one.is_suspect, one.attempts) for one in map(led.live, "AB")] == [(0, True, 0)] * 2


def test_a_suspect_among_others_is_the_one_that_is_charged(led: Rig) -> None:
    (one,) = hold(led, "A")
    led.finish(one, Outcome.INTERRUPTED, is_suspect=True)
    led.submit(task("B"), task("C"))
    for claimed in led.claim(places=3, takes_suspect=True):
        led.start(claimed)
    die(led)
    assert [(one.deaths, one.is_suspect) for one in map(led.live, "ABC")] == [(1, True), (0, True), (0, True)]


def test_the_third_lone_death_by_the_reaper_is_poison(led: Rig) -> None:
    led.submit(task("A"))
    for worker in ("w1", "w2", "w3"):
        (one,) = led.claim(worker, takes_suspect=True)
        led.start(one, worker)
        die(led)
    final = led.live("A")
    assert (final.state, final.deaths, final.attempts) == (State.DEAD, 3, 3)
    assert led.rows()[-2][-2] == "poison"


def test_only_the_dead_are_reaped(led: Rig) -> None:
    hold(led, "A", worker="w1")
    (alive,) = hold(led, "B", worker="w2")
    for _ in range(10):
        led.now += 3 * INTERVAL
        led.beat("w2", alive)
        led.reap()
    assert led.live("A").is_held is False
    assert led.live("B").worker == "w2"
    assert list(led.zset("leases")) == ["w2"]


def test_a_late_finish_after_the_reaper_is_stale_and_counted(led: Rig) -> None:
    (one,) = hold(led, "A")
    die(led)
    with led.changes() as seen:
        assert led.finish(one, Outcome.SUCCEEDED) == STALE
    assert seen.keys["stat/stale"] == b"1"
    assert seen.rows == []
    (again,) = led.claim("w2", takes_suspect=True)
    assert led.finish(one, Outcome.SUCCEEDED) == STALE
    assert led.finish(again, Outcome.SUCCEEDED, "w2") == FINISHED


def test_the_late_word_of_a_worker_that_was_cut_off_takes_no_death_back(led: Rig) -> None:
    (one,) = hold(led, "A")
    led.start(one)
    die(led)
    with led.changes() as seen:
        assert led.finish(one, Outcome.RELEASED, "w2") == STALE
    assert seen.rows == []
    assert (led.live("A").deaths, led.live("A").is_suspect) == (1, True)


def test_a_finish_after_the_lease_but_before_the_reaper_counts(led: Rig) -> None:
    (one,) = hold(led, "A")
    led.now += 10 * LEASE
    assert led.finish(one, Outcome.SUCCEEDED) == FINISHED


def test_a_cancel_request_of_a_lost_task_ends_it(led: Rig) -> None:
    one, _ = hold(led, "A", "B")
    led.start(one)
    led.cancel("A", "B", reason="stop")
    die(led)
    assert [led.live(task_id).state for task_id in "AB"] == [State.CANCELLED] * 2
    assert [row[-2] for row in led.rows()[-3:-1]] == ["stop", "stop"]
    assert led.hash("cancel") == {}
    assert led.finish(one, Outcome.SUCCEEDED) == STALE


def test_after_a_gap_nobody_is_reaped_for_one_lease(led: Rig) -> None:
    hold(led, "A")
    led.now += 10 * LEASE
    reply = led.reap()
    assert (reply.workers, reply.reap_from) == (0, led.now + LEASE)
    for _ in range(LEASE // INTERVAL - 1):
        led.now += INTERVAL
        assert led.reap().workers == 0
    led.now += INTERVAL
    assert led.reap().workers == 1


def test_a_gap_of_three_intervals_is_none(led: Rig) -> None:
    led.now += 3 * INTERVAL
    assert led.reap().reap_from == 0
    led.now += 3 * INTERVAL + 1
    assert led.reap().reap_from == led.now + LEASE


def test_half_a_short_lease_is_a_gap(led: Rig) -> None:
    """An outage of less than three intervals outlasts a lease of three seconds."""
    led.now += 1_500
    assert led.reap(lease_ms=3_000).reap_from == 0
    led.now += 1_501
    assert led.reap(lease_ms=3_000).reap_from == led.now + 3_000


def test_a_worker_that_renews_after_an_outage_keeps_its_tasks(led: Rig) -> None:
    (one,) = hold(led, "A")
    led.now += 10 * LEASE
    led.reap()
    led.now += INTERVAL
    assert led.beat("w1", one).lost == []
    for _ in range(LEASE // INTERVAL - 1):
        led.now += INTERVAL
        led.reap()
    assert led.live("A").worker == "w1"


def test_many_dead_workers_are_reaped_in_portions(led: Rig) -> None:
    for number in range(13):
        hold(led, f"t{number:02}", worker=f"w{number:02}")
    led.now += LEASE
    led.raw("HSET", led.keys.meta, "reap_tick", led.now)
    assert [led.reap().workers, led.reap().workers, led.reap().workers] == [10, 3, 0]
    assert led.names().count("leases") == 0


def test_reaping_needs_the_present_term(rig: Rig) -> None:
    hold(rig, "A")
    rig.lead(term=5, lease_ms=1_000)
    with rig.changes() as seen:
        with pytest.raises(LeaseLost):
            rig.reap(term=4)
        rig.now += 1_000
        with pytest.raises(LeaseLost):
            rig.reap(term=5)
    assert (seen.keys, seen.rows) == ({}, [])
