"""The recorder between a real broker and a real database, step by step, on both pairs."""

from __future__ import annotations

import pytest

from tests.integration.recorder_stage import Stage, drain
from tqctl_runtime.broker import calls, leader_calls, worker_calls
from tqctl_runtime.client.shapes import Packed
from tqctl_runtime.coordinator import recorder as recorder_module
from tqctl_runtime.coordinator.recorder import KEEP_MS, Recorder, stamp
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.errors import BrokerUnavailable, LeaseLost, RecordUnavailable, StoresDiffer
from tqctl_runtime.core.serializer import pack
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import ENVELOPE_LAYOUT, build_submission
from tqctl_runtime.record import open_store


def test_what_happened_is_recorded_told_and_forgotten(stage: Stage) -> None:
    recorder = stage.recorder(stage.elect("a"))
    ids = stage.submit(30)
    stage.finish(stage.claim(), Detail(result=b'{"text":"a\\u0000\\ud800"}', log=b"out\x00\xff"))

    entries = drain(recorder)

    assert stage.states(ids) == {State.SUCCEEDED}
    assert stage.live() == set()
    assert stage.watermark().position == stage.end()
    assert entries == stage.end().seq == stage.journal()
    task = stage.store.lookup.task(ids[7])
    assert task is not None
    assert (task.payload, task.result) == ({"n": 7}, {"text": "a\x00\ud800"})
    assert [(attempt.number, attempt.outcome) for attempt in task.attempts] == [(1, "succeeded")]
    assert stage.store.lookup.logs(ids[7]) == [(1, b"out\x00\xff", 0)]
    assert [worker.name for worker in stage.store.queries.workers()] == ["w1"]


def test_the_watermark_counts_what_the_journal_counts(stage: Stage) -> None:
    recorder = stage.recorder(stage.elect("a"))
    stage.submit(5)
    stage.redis.xadd(stage.keys.build("journal"), {"who": "not us"})
    stage.submit(3)

    drain(recorder)

    meta = stage.redis.hmget(stage.keys.meta, "rows", "bytes")
    mark = stage.watermark()
    assert [str(mark.rows).encode(), str(mark.bytes).encode()] == meta
    assert stage.store.lookup.quarantined() == 1


@pytest.mark.parametrize("rows", [[b"F"], [b"T", 1, b"tsk_x", 1, 99, 0, b"", b""], [b"O", 1, 2, 3, 4]])
@pytest.mark.parametrize("number", [{}, {"e": 1, "s": 2}], ids=["not ours", "numbered"])
def test_a_recorder_that_follows_passes_what_stands_in_quarantine(
    stage: Stage, rows: list[object], number: dict[str, int]
) -> None:
    (first,) = stage.submit()
    stage.redis.xadd(stage.keys.build("journal"), {**number, "r": pack(rows)})
    if number:
        stage.redis.hincrby(stage.keys.meta, "seq", 1)
    drain(stage.recorder(stage.elect("a")))
    (second,) = stage.submit()

    drain(stage.recorder(stage.elect("b")))

    assert stage.store.lookup.quarantined() == 1
    assert stage.states([first, second]) == {State.QUEUED}


def submit_unreadable(stage: Stage) -> str:
    """The id of a task that runs, but whose submit the record cannot take."""
    wish = build_submission("echo", {})
    wish_of_later = Packed(wish.id, wish.head(), pack([ENVELOPE_LAYOUT + 1, "echo", b"{}", 0, *[None] * 6]))
    reply = stage.wire.call(calls.submit(stage.keys, [wish_of_later]))
    return reply.accepted[0].id


def test_a_task_whose_submit_is_in_quarantine_is_never_forgotten(stage: Stage) -> None:
    recorder = stage.recorder(stage.elect("a"))
    good = stage.submit(3)
    bad = submit_unreadable(stage)
    later = stage.submit(3)
    drain(recorder)
    mark = stage.watermark()
    stage.finish(stage.claim(), Detail(result=b"1"))
    drain(recorder)
    after_record = stage.live()
    drain(stage.recorder(stage.elect("b")))

    assert mark.position.seq == 3
    assert mark.quarantined == (2,)
    assert stage.watermark().quarantined == (2,)
    assert stage.states([*good, *later]) == {State.SUCCEEDED}
    assert stage.store.lookup.states([bad]) == {}
    assert after_record == stage.live() == {bad}


def test_a_task_whose_end_is_in_quarantine_is_never_forgotten(stage: Stage) -> None:
    first = stage.recorder(stage.elect("a"))
    (bad,) = stage.submit(1)
    (held,) = stage.claim(1)
    (good,) = stage.submit(1)
    (other,) = stage.claim(1)
    end = worker_calls.finished(held.id, held.token, Outcome.SUCCEEDED, since_start_ms=3, detail=b"\xc1")
    stage.round(finished=[end])
    stage.finish([other], Detail(result=b"1"))
    drain(first)
    after_record = stage.live()
    drain(stage.recorder(stage.elect("b")))

    assert stage.store.lookup.quarantined() == 1
    assert stage.store.lookup.states([bad, good]) == {bad: State.QUEUED, good: State.SUCCEEDED}
    assert after_record == stage.live() == {bad}


def test_a_recorder_killed_after_its_commit_is_followed_exactly(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    first = stage.recorder(stage.elect("a"))
    drain(first)
    ids = stage.submit(20)
    stage.finish(stage.claim(), Detail(result=b"1"))
    monkeypatch.setattr(first, "_publish", _killed)

    with pytest.raises(_Killed):
        drain(first)
    recorded, mark, known = stage.store.checkpoint(), stage.watermark(), stage.live()
    second = stage.recorder(stage.elect("b"))
    drain(second)

    assert recorded is not None
    assert mark.position.seq < recorded.sequence
    assert known == set(ids)
    assert stage.states(ids) == {State.SUCCEEDED}
    assert stage.live() == set()
    assert stage.watermark().position == stage.end()
    rows = stage.store.database.rows("SELECT task_id, COUNT(*) FROM attempts GROUP BY task_id")
    assert sorted(rows) == sorted((task_id, 1) for task_id in ids)


def test_a_recorder_killed_before_it_could_forget_is_followed_exactly(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage.recorder(stage.elect("a"))
    ids = stage.submit(20)
    stage.finish(stage.claim(), Detail(result=b"1"))
    monkeypatch.setattr(first, "_forget", _killed)

    with pytest.raises(_Killed):
        drain(first)
    known = stage.live()
    drain(stage.recorder(stage.elect("b")))

    assert known == set(ids)
    assert stage.live() == set()


class _Killed(BaseException):
    pass


def _killed(*_: object) -> None:
    raise _Killed


def test_of_two_recorders_the_earlier_term_is_refused(stage: Stage) -> None:
    first = stage.recorder(stage.elect("a"))
    drain(first)
    second = stage.recorder(stage.elect("b"))
    drain(second)
    ids = stage.submit(3)

    with pytest.raises(LeaseLost):
        first.run_once()
    drain(second)

    assert stage.states(ids) == {State.QUEUED}


def test_a_watched_task_stays_for_its_waiters(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = stage.recorder(stage.elect("a"))
    watched, other = stage.submit(2)
    stage.wire.call(calls.watch(stage.keys, [watched]))
    stage.finish(stage.claim(), Detail(result=b"1"))

    drain(recorder)
    after_record = stage.live()
    monkeypatch.setattr(recorder_module, "WAIT_MS", 0)
    recorder._staying[0] = recorder._staying[0]._replace(again_at=0.0)
    recorder.run_once()

    assert after_record == {watched}
    assert other not in stage.live()
    assert stage.live() == set()


def test_a_watched_task_is_forgotten_also_by_a_recorder_that_follows_while_it_stays(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stage.recorder(stage.elect("a"))
    (watched,) = stage.submit()
    stage.wire.call(calls.watch(stage.keys, [watched]))
    stage.finish(stage.claim(), Detail(result=b"1"))
    drain(first)
    end = stage.wire.call(leader_calls.journal_last(stage.keys))
    assert end is not None
    monkeypatch.setattr(recorder_module, "KEEP_MS", 0)
    stage.redis.xadd(stage.keys.build("journal"), {"who": "not us"}, id=f"{stamp(end) + 1_000}-0")
    (later,) = stage.submit()
    drain(first)

    monkeypatch.setattr(recorder_module, "WAIT_MS", 0)
    drain(stage.recorder(stage.elect("b")))

    assert stage.live() == {later}


def test_the_journal_is_trimmed_behind_the_anchor(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = stage.recorder(stage.elect("a"))
    for _ in range(5):
        stage.submit()
    drain(recorder)
    kept = stage.journal()
    monkeypatch.setattr(recorder, "_server_now", recorder._server_now + KEEP_MS * 2)
    monkeypatch.setattr(recorder, "_published_at", 0.0)

    recorder.run_once()

    assert kept == 5
    left = [entry[0].decode() for entry in stage.redis.xrange(stage.keys.build("journal"))]
    recorded = stage.store.checkpoint()
    assert recorded is not None
    assert left[-1] == recorded.stream_id
    # A millisecond's entries stay together.
    assert {stamp(stream_id) for stream_id in left} == {stamp(recorded.stream_id)}
    drain(stage.recorder(stage.elect("b")))
    assert stage.watermark().position == stage.end()


def test_a_record_that_cannot_be_written_keeps_the_journal(stage: Stage) -> None:
    recorder = stage.recorder(stage.elect("a"))
    drain(recorder)
    ids = stage.submit(4)
    stage.store.database.execute("ALTER TABLE tasks RENAME TO away")

    with pytest.raises(Exception, match="tasks"):
        recorder.run_once()
    behind = stage.watermark().position
    stage.store.database.execute("ALTER TABLE away RENAME TO tasks")
    drain(recorder)

    assert behind.seq < stage.end().seq
    assert stage.states(ids) == {State.QUEUED}
    assert stage.store.lookup.quarantined() == 0


def test_an_idle_recorder_whose_record_is_away_gives_no_sign_of_life(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = stage.recorder(stage.elect("a"))
    stage.submit()
    drain(recorder)
    before = stage.watermark().at
    stage.store.database.execute("ALTER TABLE checkpoint RENAME TO away")
    monkeypatch.setattr(recorder, "_published_at", 0.0)

    with pytest.raises(Exception, match="checkpoint"):
        recorder.run_once()
    stage.store.database.execute("ALTER TABLE away RENAME TO checkpoint")

    assert stage.watermark().at == before


def test_a_redis_that_lost_its_data_is_refused(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = stage.recorder(stage.elect("a"))
    stage.submit(2)
    drain(recorder)
    recorded = stage.store.checkpoint()
    stage.redis.delete(stage.keys.meta)

    monkeypatch.setattr(recorder, "_published_at", 0.0)

    with pytest.raises(BrokerUnavailable, match="not open"):
        recorder.run_once()
    with pytest.raises(StoresDiffer, match="lost"):
        recorder.run_once()

    after = stage.store.checkpoint()
    assert recorded is not None
    assert after is not None
    assert (after.sequence, after.stream_id) == (recorded.sequence, recorded.stream_id)


def test_a_journal_without_the_anchor_is_refused(stage: Stage) -> None:
    stage.submit(2)
    drain(stage.recorder(stage.elect("a")))
    recorded = stage.store.checkpoint()
    assert recorded is not None
    stage.redis.xdel(stage.keys.build("journal"), recorded.stream_id)
    ids = stage.submit(1)

    with pytest.raises(StoresDiffer, match="lost entry"):
        drain(stage.recorder(stage.elect("b")))

    assert stage.store.lookup.states(ids) == {}


def test_a_journal_that_went_back_is_refused(stage: Stage) -> None:
    stage.submit(1)
    stage.submit(1)
    drain(stage.recorder(stage.elect("a")))
    stage.redis.hset(stage.keys.meta, "seq", 1)

    with pytest.raises(StoresDiffer, match="went back"):
        drain(stage.recorder(stage.elect("b")))


def test_a_gap_in_the_journal_is_refused(stage: Stage) -> None:
    recorder = stage.recorder(stage.elect("a"))
    drain(recorder)
    stage.submit(1)
    first = stage.redis.xrevrange(stage.keys.build("journal"), count=1)[0][0]
    ids = stage.submit(1)
    stage.redis.xdel(stage.keys.build("journal"), first)

    with pytest.raises(StoresDiffer, match="goes on with entry"):
        recorder.run_once()

    assert stage.store.lookup.states(ids) == {}


def test_another_pairing_is_refused(stage: Stage) -> None:
    term = stage.elect("a")
    stage.redis.hset(stage.keys.meta, "pairing", "par_other")

    with pytest.raises(StoresDiffer, match="par_other"):
        stage.recorder(term).run_once()


def test_a_task_too_large_for_one_entry_with_others_is_recorded(stage: Stage) -> None:
    recorder = stage.recorder(stage.elect("a"))
    large = "x" * 900_000
    wanted = [build_submission("echo", {"text": large}) for _ in range(3)]
    ids = [one.id for one in stage.wire.call(calls.submit(stage.keys, wanted)).accepted]
    stage.finish(stage.claim(), Detail(result=b'"' + large.encode() + b'"'))

    drain(recorder)

    task = stage.store.lookup.task(ids[0])
    assert task is not None
    assert (task.payload, task.result) == ({"text": large}, large)


def test_deaths_retries_pauses_and_cancels_of_a_real_broker_are_recorded(stage: Stage) -> None:
    recorder = stage.recorder(stage.elect("a"))
    failing, cancelled = stage.submit(2)
    stage.wire.call(calls.cancel(stage.keys, [cancelled], reason="no need", who="ann"))
    stage.wire.call(calls.pause(stage.keys, "mail", for_ms=0, reason="why", who="ann"))
    stage.finish(stage.claim(), Detail(log=b"boom"), Outcome.FAILED)
    drain(recorder)
    letters = stage.store.queries.dead_letters()
    assert stage.live() == set()

    known = stage.store.lookup.revivals([failing])[failing]
    recorded = calls.Recorded(
        known.envelope,
        known.epoch << 32 | known.v,
        known.attempts,
        known.queue,
        known.priority,
        known.max_retries,
        known.idempotency_key,
        known.fingerprint,
        known.created_at,
    )
    reply = stage.wire.call(calls.retry(stage.keys, [(failing, recorded)], reason="again", who="ann"))
    stage.finish(stage.claim(), Detail(result=b"1"))
    drain(recorder)

    assert [letter.task_id for letter in letters] == [failing]
    assert reply.codes == [calls.DONE]
    task = stage.store.lookup.task(failing)
    assert task is not None
    assert (task.state, [attempt.outcome for attempt in task.attempts]) == (State.SUCCEEDED, ["failed", "succeeded"])
    assert stage.store.queries.dead_letters() == []
    assert stage.store.queries.tasks()[0].state in (State.SUCCEEDED, State.CANCELLED)
    assert stage.store.queries.settings("pause")["mail"]["who"] == "ann"
    assert stage.states([cancelled]) == {State.CANCELLED}
    assert [event.who for event in stage.store.queries.events(cancelled)] == ["ann"]


def test_a_record_on_a_server_that_stopped_is_unavailable(stage: Stage) -> None:
    settings = Settings(database_url="postgresql://nobody@127.0.0.1:1/none")
    recorder = Recorder(
        store=open_store(settings), wire=stage.wire, keys=stage.keys, term=stage.elect("a"), settings=settings
    )
    stage.submit()

    with pytest.raises(RecordUnavailable):
        recorder.run_once()

    assert stage.journal() == 1
