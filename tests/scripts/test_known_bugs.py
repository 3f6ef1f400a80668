"""Bugs that other queues paid for, each as a test of the protocol; the name tells the thread it was reported in."""

from __future__ import annotations

from typing import Any

import pytest

from tests.scripts.rig import INTERVAL, LEASE, Rig, task
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.broker.worker_calls import FINISHED, REPEATED, STALE
from tqctl_runtime.core.errors import UsageError
from tqctl_runtime.core.ids import is_name
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import build_submission


@pytest.fixture
def led(rig: Rig) -> Rig:
    """A rig with a leader that has looked for the dead once."""
    rig.lead()
    rig.reap()
    return rig


def pass_time(rig: Rig, milliseconds: int, **held: Any) -> None:
    """Let time pass while a coordinator looks and the workers in *held* beat."""
    for _ in range(milliseconds // (LEASE // 3)):
        rig.now += LEASE // 3
        for worker, tasks in held.items():
            rig.beat(worker, *tasks)
        rig.raw("HSET", rig.keys.meta, "reap_tick", rig.now - INTERVAL)
        rig.reap()
        rig.promote()


def test_bug_2_river_1302_a_job_that_finished_before_the_rescue_is_not_revived(led: Rig) -> None:
    """The rescuer looked at stuck rows and updated them later by id only: here look and change are one script."""
    led.submit(task("A"))
    (one,) = led.claim()
    led.now += LEASE
    assert led.finish(one, Outcome.SUCCEEDED) == FINISHED
    pass_time(led, 2 * LEASE)
    assert led.live("A").state is State.SUCCEEDED
    assert led.claim("w2", 5, takes_suspect=True) == []


def test_bug_3_hexpm_1825_a_long_task_with_heartbeats_is_never_taken_for_dead(led: Rig) -> None:
    led.submit(task("A"))
    (one,) = led.claim()
    led.start(one)
    pass_time(led, 8 * 3_600_000 // 20, w1=[one])
    assert led.live("A").worker == "w1"
    assert led.finish(one, Outcome.SUCCEEDED) == FINISHED
    assert [row[0] for row in led.rows()] == ["S", "W", "R", "F"]


def test_bug_8_celery_5935_delayed_tasks_are_not_leased_and_do_not_come_back_in_a_loop(led: Rig) -> None:
    led.submit(task("eta", delay_ms=7 * 86_400_000))
    led.join()
    assert led.claim(places=5) == []
    pass_time(led, 10 * LEASE, w1=[])
    assert [row[0] for row in led.rows()] == ["S", "W"]
    led.now = led.live("eta").due_at
    led.lead(term=2)
    led.promote(term=2)
    led.beat()
    assert len(led.claim(places=5)) == 1


def test_bug_9_celery_8030_a_worker_that_beats_but_answers_for_nothing_does_not_keep_its_tasks(led: Rig) -> None:
    """Alive by its heartbeat, deaf in its lane: what it does not list goes to others."""
    led.submit(task("A"))
    led.claim()
    pass_time(led, 2 * LEASE, w1=[])
    (again,) = led.claim("w2")
    assert (again.id, again.attempts, again.deaths) == ("A", 0, 0)


def test_bug_10_kombu_1733_a_claim_whose_reply_was_lost_is_repeated_or_released(led: Rig) -> None:
    """Popped, but the reply was never read: the same request brings it again, and silence gives it back."""
    led.submit(task("A"), task("B"))
    lost = led.claim(places=2)
    assert led.round(request=1, places=2).claimed == lost
    pass_time(led, LEASE, w1=[])
    assert [one.id for one in led.claim("w2", 2)] == ["A", "B"]
    assert [(one.attempts, one.deaths, one.failures) for one in map(led.live, "AB")] == [(0, 0, 0)] * 2


def test_bug_11_kombu_2154_every_wait_for_the_bell_ends_by_itself(rig: Rig) -> None:
    call = worker_calls.wait_for_bell(rig.keys, ["default", "mail"], seconds=0.01)
    assert rig.do(call) is False
    assert call.timeout > 0.01
    assert float(call.words()[-1]) == 0.01


def test_bug_12_celery_9082_deaths_are_counted_by_the_task_and_end(led: Rig) -> None:
    """Out of memory, redelivered for ever: the count stands in the store under the stable id."""
    led.submit(task("A", max_retries=1000))
    starts = 0
    for number in range(10):
        for one in led.claim(f"w{number}", takes_suspect=True):
            led.start(one, f"w{number}")
            starts += 1
        pass_time(led, LEASE)
    assert starts == 3
    assert led.live("A").state is State.DEAD


def test_bug_13_asynq_1015_the_crash_of_a_worker_uses_no_retry(led: Rig) -> None:
    led.submit(task("A", max_retries=0))
    (one,) = led.claim()
    led.start(one)
    pass_time(led, LEASE)
    (again,) = led.claim("w2", takes_suspect=True)
    assert (again.failures, again.deaths) == (0, 1)
    assert led.finish(again, Outcome.SUCCEEDED, "w2") == FINISHED


def test_bug_14_asynq_1144_a_held_task_is_always_reached_from_a_lease(led: Rig) -> None:
    """Active without a lease was never found: every claim is owned by a worker that has one."""
    led.submit(*[task(f"t{number}") for number in range(6)])
    for worker in ("w1", "w2"):
        led.claim(worker, 2)
    led.raw("DEL", led.keys.build("leases"))
    assert led.round("w1", places=2).claimed == []
    for worker in ("w1", "w2"):
        led.raw("ZADD", led.keys.build("leases"), led.now, worker)
    led.reap()
    assert list(led.zset("ready", "default")) == ["t4", "t5"]
    assert list(led.zset("suspects", "default")) == ["t0", "t1", "t2", "t3"]


def test_bug_15_rq_2236_whoever_looks_between_claim_and_start_takes_no_live_task(led: Rig) -> None:
    """A cleaner failed jobs that were just being taken: only an expired lease gives a task to others."""
    led.submit(task("A"))
    (one,) = led.claim()
    for _ in range(5):
        led.now += INTERVAL
        led.reap()
        led.promote()
    assert led.claim("w2", 5, takes_suspect=True) == []
    assert led.forget(("A", 1)) == []
    assert led.finish(one, Outcome.SUCCEEDED) == FINISHED


def test_bug_16_dramatiq_431_a_delayed_task_moves_in_one_step(led: Rig) -> None:
    """Copied to the queue, then taken off the delay queue: here it is never in both nor in none."""
    led.submit(*[task(f"t{number}", delay_ms=1_000) for number in range(3)])
    led.now += 1_000
    while True:
        waiting, standing = set(led.zset("sched")), set(led.zset("ready", "default"))
        assert waiting | standing == {"t0", "t1", "t2"}
        assert not waiting & standing
        if led.promote(limit=1) == (0, 0):
            break


def test_bug_17_bullmq_3183_a_lost_lock_cannot_finish_the_second_run(led: Rig) -> None:
    """The event loop stood still beyond the lock: the first run's result must not stand for the second."""
    led.submit(task("A", watched=True))
    (first,) = led.claim()
    led.start(first)
    pass_time(led, LEASE)
    (second,) = led.claim("w2", takes_suspect=True)
    assert led.beat("w1", first).lost == ["A"]
    assert led.finish(first, Outcome.SUCCEEDED, detail=b"first") == STALE
    assert led.finish(second, Outcome.SUCCEEDED, "w2", detail=b"second") == FINISHED
    assert led.watch("A")[0].detail == b"second"
    assert led.hash("stat")["stale"] == b"1"


def test_bug_18_bullmq_1658_a_bell_that_was_lost_delays_but_never_hides_a_task(led: Rig) -> None:
    """Workers waited on a marker that was gone after a reconnect: a claim looks at the line, not at the bell."""
    led.submit(task("A"), task("B", delay_ms=1_000))
    led.raw("DEL", led.keys.build("bell", "default"))
    assert [one.id for one in led.claim()] == ["A"]
    led.now += 1_000
    led.promote()
    led.raw("DEL", led.keys.build("bell", "default"))
    assert [one.id for one in led.claim()] == ["B"]


def test_bug_19_bullmq_3555_a_retry_by_hand_starts_with_no_deaths(led: Rig) -> None:
    led.submit(task("A"))
    for number in range(3):
        (one,) = led.claim(takes_suspect=True)
        led.finish(one, Outcome.DIED)
        assert led.live("A").deaths == number + 1
    assert led.retry("A").codes == [1]
    (one,) = led.claim()
    assert (one.deaths, one.failures, one.attempts, one.is_suspect) == (0, 0, 3, False)
    led.finish(one, Outcome.DIED)
    assert led.live("A").state is State.QUEUED


def test_bug_20_docket_245_a_retry_and_the_redelivery_of_its_first_run_never_both_exist(led: Rig) -> None:
    led.submit(task("A", idempotency_key="k"))
    (one,) = led.claim()
    led.start(one)
    assert led.finish(one, Outcome.FAILED, delay_ms=1_000) == FINISHED
    pass_time(led, LEASE)  # the lease of its worker runs out, the retry becomes due
    assert list(led.zset("ready", "default")) == ["A"]
    assert [row[0] for row in led.rows()].count("F") == 1
    (again,) = led.claim("w2")
    assert led.submit(task("B", idempotency_key="k")).accepted[0].id == "A"
    assert led.finish(again, Outcome.SUCCEEDED, "w2") == FINISHED
    assert led.claim("w3", 5, takes_suspect=True) == []


def test_bug_21_procrastinate_1518_a_worker_leaves_nothing_behind_that_looks_alive(led: Rig) -> None:
    """The row of a dead worker was pruned before its jobs were joined: both go in one step."""
    led.submit(task("A"), task("B"))
    led.claim("w1", 2)
    pass_time(led, LEASE)
    assert not {"leases", "workers", "wlive", "own:w1", "slot:w1"} & set(led.names())
    assert [one.is_held for one in map(led.live, "AB")] == [False, False]


def test_bug_22_oban_862_a_name_that_is_used_again_does_not_keep_orphans(led: Rig) -> None:
    """Identity is the id, new at each start; the name is only shown."""
    led.submit(task("A"))
    led.join("wrk_1", name="host-1")
    led.claim("wrk_1")
    led.join("wrk_2", name="host-1")
    pass_time(led, LEASE, wrk_2=[])
    assert led.live("A").is_held is False
    assert list(led.zset("leases")) == ["wrk_2"]


def test_bug_27_redis_py_261_each_call_that_is_sent_twice_acts_once(led: Rig) -> None:
    """Clients repeat what timed out although it was carried out: the second time must change nothing."""
    item = task("A", idempotency_key="k")
    led.submit(item, task("B"))
    held = led.claim(places=2)
    failed = worker_calls.finished("A", held[0].token, Outcome.FAILED, since_start_ms=5, is_last=True)
    begun = worker_calls.started("B", held[1].token, 5)
    led.round(request=2, started=[begun], finished=[failed])
    led.cancel("B")
    with led.changes() as seen:
        assert led.submit(item).accepted[0].is_known
        assert led.round(request=2, started=[begun], finished=[failed]).codes == [FINISHED]
        assert led.cancel("A", "B") == [3, 2]
        led.lead()
        led.promote()
        assert led.forget(("A", 1)) == []
    assert (seen.keys, seen.rows) == ({}, [])
    assert led.finish(held[0], Outcome.FAILED, is_last=True) == REPEATED
    led.forget(("A", 2))
    with led.changes() as seen:
        led.forget(("A", 2))
        led.leave("w9")
    assert (seen.keys, seen.rows) == ({}, [])


@pytest.mark.parametrize("name", ["}:meta", "a}b", "*", "a b", "", "\x00", "ä", "x" * 101, "-lead", "a/b", "q:default"])
def test_bug_29_faktory_1_10_a_queue_name_cannot_reach_another_key(name: str) -> None:
    assert not is_name(name)
    if name:
        with pytest.raises(UsageError):
            build_submission("echo", {}, queue=name)


@pytest.mark.parametrize("name", ["meta", "st", "j", "lead", "sched", "own", "default.retry", "A-1_b"])
def test_bug_29_faktory_1_10_a_queue_may_be_called_like_a_key_of_ours(rig: Rig, name: str) -> None:
    rig.submit(task("A", queue=name))
    rig.pause(name)
    rig.resume(name)
    (one,) = rig.claim(queues=[name])
    assert rig.finish(one, Outcome.SUCCEEDED) == FINISHED
    assert f"q:{name}" not in rig.names()


def test_bug_29_faktory_1_10_a_key_of_a_caller_cannot_reach_another_key(rig: Rig) -> None:
    """Idempotency keys are free text: whatever they hold, they end behind their own prefix."""
    for number, key in enumerate(["}:meta", "*", "../j", "a b  c", "{tq:other}:st", "é\u3000", "0", "%s%d"]):
        assert rig.submit(task(f"t{number}", idempotency_key=key)).accepted[0].state is State.QUEUED
        again = rig.submit(task("again", idempotency_key=key)).accepted[0]
        assert (again.id, again.is_duplicate) == (f"t{number}", True)
        assert f"i:{key}" in rig.names()
