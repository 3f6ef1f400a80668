"""Repair step by step on both pairs: nothing recorded is lost, nothing that was handed out before is worth anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.loss import (
    copy_namespace,
    copy_record,
    lose_everything,
    put_namespace_back,
    put_record_back,
    record,
    reopen,
    started,
)
from tests.integration.recorder_stage import Stage
from tqctl_runtime.broker import calls, leader_calls, views, worker_calls
from tqctl_runtime.broker.repair_calls import SILENT_MS, survey
from tqctl_runtime.client.shapes import Packed
from tqctl_runtime.coordinator import repair as repair_module
from tqctl_runtime.coordinator.opening import open_namespace
from tqctl_runtime.coordinator.recorder import split
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.errors import NeedsRepair, StoresDiffer
from tqctl_runtime.core.serializer import pack, unpack, unpack_stream
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import ENVELOPE_LAYOUT, build_submission
from tqctl_runtime.record import mend as mend_module
from tqctl_runtime.record import open_store
from tqctl_runtime.record.mend import Mender


def look(stage: Stage, *ids: str) -> list[views.LiveTask]:
    """Live tasks, each of which must be there."""
    found = stage.wire.call(views.look(stage.keys, ids))
    assert None not in found
    return [task for task in found if task is not None]


def marks(count: int) -> list[str]:
    """The fingerprints of what ``stage.submit(count)`` submits."""
    return [build_submission("echo", {"n": n}).fingerprint() for n in range(count)]


def journal_rows(stage: Stage) -> list[list[Any]]:
    """All rows of the present journal."""
    entries = stage.wire.call(leader_calls.read_journal(stage.keys, "0-0", count=100_000))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    return [row for entry in entries for row in unpack_stream(entry.rows)]


def test_everything_recorded_comes_back_after_the_loss_of_all_data(stage: Stage) -> None:
    running, prefetched, asked = stage.submit(3, queue="work")
    stage.wire.call(worker_calls.register(stage.keys, stage.worker, lease_ms=600_000, info={}, rows=[]))
    held = stage.round(places=3, queues=["work"]).claimed
    started(stage, [one for one in held if one.id != prefetched])
    stage.wire.call(calls.cancel(stage.keys, [asked], reason="no need", who="ann"))
    urgent, later = stage.submit(1, priority=9)[0], stage.submit(1, delay_ms=600_000)[0]
    keyed = stage.submit(1, idempotency_key="k1", expires_ms=900_000)[0]
    stage.wire.call(calls.pause(stage.keys, "mail", for_ms=0, reason="why", who="ann"))
    record(stage)

    lose_everything(stage)
    epoch = reopen(stage)

    assert epoch == 2
    again = look(stage, running, prefetched, urgent, later, keyed)
    assert [task.state for task in again] == [State.QUEUED, State.QUEUED, State.QUEUED, State.SCHEDULED, State.QUEUED]
    assert {task.version for task in again} == {2 << 32 | 1}
    assert (again[0].attempts, again[0].deaths, again[1].attempts) == (1, 0, 0)
    assert (
        again[3].due_at
        == stage.store.database.rows("SELECT scheduled_at FROM tasks WHERE priority = 5 AND scheduled_at > 0")[0][0]
    )
    assert again[4].expires_at > 0
    seen = stage.wire.call(views.overview(stage.keys))
    assert {queue.name: queue.pause is not None for queue in seen.queues} == {
        "default": False, "mail": True, "work": False,
    }  # fmt: skip
    assert seen.queues[0].head == urgent
    assert (seen.workers, seen.leaders) == ([], {})
    record(stage)
    assert stage.states([asked]) == {State.CANCELLED}
    task = stage.store.lookup.task(running)
    assert task is not None
    assert [(one.number, one.outcome) for one in task.attempts] == [(1, "interrupted")]
    assert stage.store.queries.settings("pause")["mail"]["who"] == "ann"
    assert stage.live() == {running, prefetched, urgent, later, keyed}
    assert stage.watermark().position == stage.end()


def test_what_was_handed_out_before_a_repair_is_refused(stage: Stage) -> None:
    (task_id,) = stage.submit()
    (held,) = stage.claim()
    started(stage, [held])
    record(stage)
    lose_everything(stage)
    reopen(stage)

    end = worker_calls.finished(held.id, held.token, Outcome.SUCCEEDED, since_start_ms=1)
    late = stage.round(finished=[end])
    beat = stage.wire.call(
        worker_calls.heartbeat(
            stage.keys, stage.worker, lease_ms=1, held=[(held.id, held.token)], answered=0, figures={}
        )
    )

    assert late.codes == [0]
    assert (beat.is_known, beat.lost) == (False, [task_id])
    assert look(stage, task_id)[0].state == State.QUEUED


def test_what_ended_before_a_repair_is_not_run_again_by_a_second_submit(stage: Stage) -> None:
    plain = build_submission("echo", {"n": 1})
    keyed = build_submission("echo", {"n": 2}, idempotency_key="k1")
    stage.wire.call(calls.submit(stage.keys, [plain, keyed]))
    stage.finish(stage.claim(), Detail(result=b"1"))
    record(stage)
    lose_everything(stage)
    reopen(stage)

    second = build_submission("echo", {"n": 2}, idempotency_key="k1")
    answers = stage.wire.call(calls.submit(stage.keys, [plain, keyed, second])).accepted

    assert [one.is_known for one in answers] == [True, True, False]
    assert answers[2].is_duplicate
    assert answers[2].id == keyed.id
    assert stage.live() == set()


def test_a_unique_window_holds_for_the_rest_of_its_time_after_a_repair(stage: Stage) -> None:
    first = stage.submit(2, unique_ms=600_000)
    stage.submit(1, unique_ms=1)
    stage.finish(stage.claim(1), Detail(result=b"1"))
    record(stage)
    lose_everything(stage)
    reopen(stage)

    # One of the two has ended, the other one lives.
    assert stage.submit(2, unique_ms=600_000) == first
    left = [stage.redis.pttl(stage.keys.build("unique", mark)) for mark in marks(2)]
    assert all(0 < one <= 600_000 for one in left)
    assert stage.submit(3, unique_ms=600_000)[:2] == first


def test_a_dead_task_is_run_again_after_a_repair_as_before_it(stage: Stage) -> None:
    (task_id,) = stage.submit()
    stage.finish(stage.claim(), Detail(), Outcome.FAILED)
    record(stage)
    lose_everything(stage)
    reopen(stage)

    known = stage.store.lookup.revivals([task_id])[task_id]
    told = calls.Recorded(
        envelope=known.envelope,
        version=known.epoch << 32 | known.v,
        attempts=known.attempts,
        queue=known.queue,
        priority=known.priority,
        max_retries=known.max_retries,
        idempotency_key=known.idempotency_key,
        fingerprint=known.fingerprint,
        created_at=known.created_at,
    )
    assert stage.wire.call(calls.retry(stage.keys, [(task_id, told)], reason="", who="")).codes == [calls.DONE]
    record(stage)

    assert stage.states([task_id]) == {State.QUEUED}


def test_a_suspect_stays_alone_after_a_repair(stage: Stage) -> None:
    (task_id,) = stage.submit()
    (held,) = stage.claim()
    started(stage, [held])
    end = worker_calls.finished(held.id, held.token, Outcome.DIED, since_start_ms=1)
    stage.round(finished=[end])
    record(stage)
    lose_everything(stage)
    reopen(stage)

    (task,) = look(stage, task_id)
    assert (task.deaths, task.attempts, task.is_suspect) == (1, 1, True)
    assert stage.claim() == []
    assert [one.id for one in stage.round(places=1, takes_suspect=True).claimed] == [task_id]


def test_order_within_a_queue_outlives_a_repair(stage: Stage) -> None:
    first = stage.submit(5)
    urgent = stage.submit(2, priority=8)
    last = stage.submit(3)
    record(stage)
    lose_everything(stage)
    reopen(stage)

    assert [one.id for one in stage.claim()] == [*urgent, *first, *last]


def test_versions_begin_at_one_and_the_journal_tells_everything_that_was_put_back(stage: Stage) -> None:
    ids = stage.submit(3)
    held = stage.claim(1)
    started(stage, held)
    record(stage)
    lose_everything(stage)
    reopen(stage)

    rows = [row for row in journal_rows(stage) if row[0] in (b"F", b"T")]

    assert sorted((row[2].decode(), row[3]) for row in rows) == sorted((task_id, 1) for task_id in ids)
    assert sorted(row[0] for row in rows) == [b"F", b"T", b"T"]


# --- Redis goes back


def test_what_was_recorded_stays_and_what_redis_decided_since_counts(stage: Stage) -> None:
    done, failing, untouched = stage.submit(3)
    record(stage)
    before = copy_namespace(stage)
    held = {one.id: one for one in stage.claim(2)}
    stage.finish([held[done]], Detail(result=b'"first"'))
    end = worker_calls.finished(failing, held[failing].token, Outcome.FAILED, since_start_ms=1, delay_ms=600_000)
    stage.round(finished=[end])
    (recorded_later,) = stage.submit()
    record(stage, "d")

    put_namespace_back(stage, before)
    stage.requests, stage.worker = 0, "wrk_other"
    again = {one.id: one for one in stage.claim(2)}
    stage.finish([again[done]], Detail(), Outcome.FAILED)
    stage.finish([again[failing]], Detail(result=b'"second"'))
    (only_in_redis,) = stage.submit()
    stage.wire.call(calls.pause(stage.keys, "mail", for_ms=0, reason="why", who="ann"))
    with pytest.raises(NeedsRepair, match="went back"):
        record(stage, "e")
    reopen(stage)
    record(stage, "f")

    first, second = stage.store.lookup.task(done), stage.store.lookup.task(failing)
    assert first is not None
    assert second is not None
    assert (first.state, first.result) == (State.SUCCEEDED, "first")
    assert (second.state, second.result) == (State.SUCCEEDED, "second")
    assert stage.live() == {untouched, recorded_later, only_in_redis}
    assert stage.states([untouched, recorded_later, only_in_redis]) == {State.QUEUED}
    assert "mail" in stage.store.queries.settings("pause")
    assert stage.store.queries.dead_letters() == []


def test_a_redis_that_only_lost_what_was_not_recorded_goes_on(stage: Stage) -> None:
    (kept,) = stage.submit()
    record(stage)
    before = copy_namespace(stage)
    stage.submit()

    put_namespace_back(stage, before)

    assert reopen(stage) == 1
    record(stage, "d")
    assert stage.live() == {kept}


def test_a_redis_that_went_back_and_did_nothing_since_has_all_that_is_recorded(stage: Stage) -> None:
    first = stage.submit(2)
    record(stage)
    before = copy_namespace(stage)
    later = stage.submit(2)
    stage.finish(stage.claim(1), Detail(result=b"1"))
    record(stage, "d")

    put_namespace_back(stage, before)

    assert reopen(stage) == 2
    record(stage, "e")
    assert stage.live() == {first[1], *later}
    assert stage.states(first[:1]) == {State.SUCCEEDED}


def test_a_redis_from_before_a_repair_is_repaired_again(stage: Stage) -> None:
    ids = stage.submit(2)
    record(stage)
    before = copy_namespace(stage)
    lose_everything(stage)
    reopen(stage)
    more = stage.submit(2)
    record(stage, "d")

    put_namespace_back(stage, before)

    assert reopen(stage) == 3
    record(stage, "e")
    assert stage.live() == {*ids, *more}


# --- the record is an older copy


def test_an_older_copy_of_the_record_is_brought_up_by_the_journal_alone(stage: Stage) -> None:
    done, waiting = stage.submit(2)
    record(stage)
    older = copy_record(stage)
    stage.finish(stage.claim(1), Detail(result=b"1"))
    more = stage.submit(2)
    record(stage, "d")

    put_record_back(stage, older)
    assert reopen(stage) == 1
    record(stage, "e")

    assert stage.states([done]) == {State.SUCCEEDED}
    assert stage.states([waiting, *more]) == {State.QUEUED}


def test_a_new_record_does_not_take_a_redis_that_is_recorded_into_another_one(stage: Stage, tmp_path: Path) -> None:
    ids = stage.submit(2)
    record(stage)
    stage.redis.xtrim(stage.keys.build("journal"), maxlen=0, approximate=False)

    with open_store(Settings(database_url=f"sqlite:///{tmp_path / 'wrong.db'}")) as wrong:
        wrong.prepare()
        with pytest.raises(StoresDiffer, match="into another one now"):
            open_namespace(wrong, stage.wire, stage.keys)
        unpaired = wrong.checkpoint()
        stage.redis.hset(stage.keys.build("wm"), "at", 1)
        alone = open_namespace(wrong, stage.wire, stage.keys)

    assert unpaired is None
    assert alone.epoch == 2
    assert stage.live() == set(ids)


def test_an_older_copy_whose_journal_is_trimmed_gets_live_tasks_and_ends_from_redis(stage: Stage) -> None:
    done, waiting, running = stage.submit(3)
    record(stage)
    older = copy_record(stage)
    claimed = {one.id: one for one in stage.claim(1)}
    stage.finish([claimed[done]], Detail(result=b"1"))
    (new,) = stage.submit(1, tags={"a": "b"}, idempotency_key="k2", max_retries=7, unique_ms=600_000)
    record(stage, "d")
    stage.redis.xtrim(stage.keys.build("journal"), maxlen=0, approximate=False)

    put_record_back(stage, older)
    with pytest.raises(NeedsRepair):
        record(stage, "e")
    assert reopen(stage) == 2
    record(stage, "f")

    assert stage.states([done]) == {State.SUCCEEDED}
    assert stage.states([waiting, running, new]) == {State.QUEUED}
    assert stage.live() == {waiting, running, new}
    task = stage.store.lookup.task(new)
    assert task is not None
    assert (task.tags, task.max_retries, task.payload) == ({"a": "b"}, 7, {"n": 0})
    again = build_submission("echo", {"n": 0}, idempotency_key="k2")
    assert stage.wire.call(calls.submit(stage.keys, [again])).accepted[0].id == new
    lose_everything(stage)
    reopen(stage)
    assert stage.submit(1, unique_ms=600_000) == [new]


def test_a_new_record_beside_a_redis_that_forgot_nothing_is_filled_by_the_journal(stage: Stage) -> None:
    ids = stage.submit(4)
    empty: dict[str, list[tuple[Any, ...]]] = {table: [] for table in copy_record(stage)}
    put_record_back(stage, empty)

    assert reopen(stage) == 1
    record(stage)

    assert stage.states(ids) == {State.QUEUED}


# --- repairs that take long, and what they cannot record


def test_a_repair_shows_that_it_lives_between_two_batches_of_a_slow_record(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        stage.submit()
    stage.redis.hdel(stage.keys.meta, "epoch")
    whole, alive = Mender.drain, []

    def slow(self: Mender, *rest: Any, **more: Any) -> Any:
        alive.append(stage.wire.call(survey(stage.keys)).is_under_repair)
        stage.redis.hincrby(stage.keys.meta, "repair_at", -SILENT_MS * 2 // 3)
        return whole(self, *rest, **more)

    monkeypatch.setattr(Mender, "drain", slow)
    monkeypatch.setattr(repair_module, "split", lambda entries: split(entries, 1))

    reopen(stage)

    assert alive == [True] * 4


def test_a_live_task_that_the_record_cannot_take_goes_into_quarantine_and_the_namespace_opens(stage: Stage) -> None:
    good = stage.submit(60)
    wish = build_submission("echo", {})
    bad = Packed(wish.id, wish.head(), pack([ENVELOPE_LAYOUT + 1, "echo", b"{}", 0, *[None] * 6]))
    stage.wire.call(calls.submit(stage.keys, [bad]))
    good += stage.submit(60)
    record(stage)
    stage.redis.hdel(stage.keys.meta, "epoch")

    assert reopen(stage) == 2

    assert stage.live() == set(good)
    rows = stage.store.database.rows("SELECT stream_id, epoch, entry FROM quarantine WHERE sequence = 0")
    assert [row[:2] for row in rows] == [(f"task {wish.id}", 1)]
    assert unpack(bytes(rows[0][2]))[0] == wish.id


def test_more_keys_and_windows_than_one_page_come_back(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mend_module, "CHUNK", 3)
    wanted = [build_submission("echo", {"n": n}, idempotency_key=f"k{n}", unique_ms=600_000) for n in range(8)]
    stage.wire.call(calls.submit(stage.keys, wanted))
    stage.finish(stage.claim(), Detail(result=b"1"))
    record(stage)
    assert stage.live() == set()
    lose_everything(stage)
    reopen(stage)

    again = [build_submission("echo", {"n": n}, idempotency_key=f"k{n}") for n in range(8)]
    alike = [build_submission("echo", {"n": n}, unique_ms=1) for n in range(8)]
    answers = stage.wire.call(calls.submit(stage.keys, [*again, *alike])).accepted

    assert [one.id for one in answers] == [one.id for one in wanted] * 2
