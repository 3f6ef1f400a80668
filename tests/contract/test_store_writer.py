"""What the recorder's writer promises on SQLite and on PostgreSQL."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.journal import START, WORKER, Entry, Journal
from tqctl_runtime.core.errors import LeaseLost, RecordUnavailable
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.serializer import pack
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.core.task import ErrorInfo, Task
from tqctl_runtime.record import Store, open_store
from tqctl_runtime.record.columns import TABLES
from tqctl_runtime.record.filters import TaskFilter
from tqctl_runtime.record.write import Applied, Writer


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(Settings(database_url=store_url)) as opened:
        opened.pair("par_test", 1)
        yield opened


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def writer(store: Store) -> Writer:
    return store.writer(store.next_term("coordinator", "test"))


def apply(writer: Writer, *entries: Entry) -> Applied:
    return writer.apply(entries, writer.take())


def task_of(store: Store, task_id: str) -> Task:
    task = store.lookup.task(task_id)
    assert task is not None
    return task


def contents(store: Store) -> dict[str, list[tuple[Any, ...]]]:
    """Everything in the record but the times that the database's own process wrote."""
    found = {}
    for name, columns in TABLES.items():
        kept = [column for column in columns if (name, column) != ("checkpoint", "committed_at")]
        rows = store.database.rows(f"SELECT {', '.join(kept)} FROM {name}")
        found[name] = sorted(tuple(map(str, row)) for row in rows)
    return found


def test_a_submitted_task_is_recorded_whole(store: Store, writer: Writer, journal: Journal) -> None:
    task_id = new_id("tsk")
    row = journal.submit(
        task_id,
        payload={"text": "é\x00\ud800"},
        queue="mail",
        due=START + 60_000,
        priority=8,
        max_retries=2,
        timeout_ms=1500,
        tags={"team": "blue", "run": "7"},
        tenant="acme",
        correlation_id="c-1",
        parent=new_id("tsk"),
        idempotency_key="once",
        expires_at=START + 90_000,
    )

    apply(writer, journal.entry(row))

    task = task_of(store, task_id)
    assert task.state is State.SCHEDULED
    assert (task.handler, task.queue, task.priority, task.max_retries, task.timeout_s) == ("echo", "mail", 8, 2, 1.5)
    assert task.payload == {"text": "é\x00\ud800"}
    assert (task.tags, task.tenant, task.correlation_id) == ({"team": "blue", "run": "7"}, "acme", "c-1")
    assert task.scheduled_at == "2027-01-15T08:01:00.000Z"
    assert (task.failures, task.deaths, task.attempts, task.error, task.result) == (0, 0, [], None, None)


def test_the_latest_window_of_a_fingerprint_is_kept_whatever_is_told_again(
    store: Store, writer: Writer, journal: Journal
) -> None:
    earlier = journal.submit(new_id("tsk"), unique_ms=1_000)
    journal.now += 1_000
    later = new_id("tsk")
    row = journal.submit(later, unique_ms=1_000)
    ends_at = journal.now + 1_000
    other = journal.submit(new_id("tsk"), payload={"n": 2}, unique_ms=1_000)

    apply(writer, journal.entry(earlier, row, other))
    apply(writer, journal.entry(earlier))

    windows = {mark: (task_id, end) for page in store.mender(1).windows(0) for mark, task_id, end in page}
    mark = build_submission("echo", {"n": 1}).fingerprint()
    assert windows.pop(mark) == (later, ends_at)
    assert list(windows) == [build_submission("echo", {"n": 2}).fingerprint()]
    assert list(store.mender(1).windows(ends_at)) == []


def test_submit_and_success_in_one_batch_give_the_same_task_as_in_two(
    store: Store, writer: Writer, journal: Journal
) -> None:
    together, apart = new_id("tsk"), new_id("tsk")
    result = b'{"answer":42}'

    apply(
        writer, journal.entry(journal.submit(together), journal.submit(apart), journal.finish(together, result=result))
    )
    apply(writer, journal.entry(journal.finish(apart, result=result)))

    first, second = task_of(store, together).to_json(), task_of(store, apart).to_json()
    for found in (first, second):
        for name in ("id", "created_at", "started_at", "finished_at"):
            del found[name]
        for attempt in found["attempts"]:
            del attempt["started_at"], attempt["finished_at"]
    assert first == second
    assert first["result"] == {"answer": 42}
    assert first["attempts"] == [
        {"number": 1, "outcome": "succeeded", "worker": WORKER, "duration_s": 0.5, "reason": None, "error": None}
    ]


def test_a_failed_attempt_keeps_its_error_when_the_task_succeeds_later(
    store: Store, writer: Writer, journal: Journal
) -> None:
    task_id = new_id("tsk")
    error = ErrorInfo("KeyError", "'name'", "Traceback ...\nKeyError: 'name'")
    retrying = journal.finish(
        task_id,
        2,
        state=State.RETRYING,
        outcome=Outcome.FAILED,
        failures=1,
        due=START + 5_000,
        error=error,
        log=b"out",
        progress=(40.0, "half"),
    )

    apply(writer, journal.entry(journal.submit(task_id), retrying))
    before = task_of(store, task_id)
    apply(writer, journal.entry(journal.move(task_id, 3, State.QUEUED)))
    apply(writer, journal.entry(journal.finish(task_id, 4, attempt=2, failures=1, result=b"1")))

    after = task_of(store, task_id)
    assert (before.state, before.error, before.progress) == (
        State.RETRYING,
        error,
        {"percent": 40.0, "message": "half"},
    )
    assert (after.state, after.error, after.result, after.failures) == (State.SUCCEEDED, None, 1, 1)
    assert [(a.number, a.outcome, a.error) for a in after.attempts] == [(1, "failed", error), (2, "succeeded", None)]
    assert store.lookup.logs(task_id) == [(1, b"out", 0), (2, b"", 0)]


def test_an_attempt_that_ended_with_its_worker_tells_the_reason(store: Store, writer: Writer, journal: Journal) -> None:
    task_id = new_id("tsk")
    died = journal.finish(task_id, 2, state=State.QUEUED, outcome=Outcome.DIED, deaths=1, reason="worker lost")
    apply(writer, journal.entry(journal.submit(task_id), died))
    apply(writer, journal.entry(journal.finish(task_id, 3, attempt=2, deaths=1)))

    found = task_of(store, task_id)
    assert [(a.outcome, a.reason, a.error) for a in found.attempts] == [
        ("died", "worker lost", None),
        ("succeeded", None, None),
    ]
    assert found.to_json()["attempts"][0]["reason"] == "worker lost"


def test_an_attempt_that_started_is_completed_by_its_end(store: Store, writer: Writer, journal: Journal) -> None:
    task_id = new_id("tsk")

    apply(writer, journal.entry(journal.submit(task_id)), journal.entry(journal.start(task_id, 2)))
    running = task_of(store, task_id)
    apply(writer, journal.entry(journal.finish(task_id, 3, result=b"null")))

    ended = task_of(store, task_id)
    assert (running.state, running.worker, [a.outcome for a in running.attempts]) == (State.RUNNING, WORKER, [None])
    assert (ended.state, [a.outcome for a in ended.attempts]) == (State.SUCCEEDED, ["succeeded"])


def test_replaying_a_batch_changes_nothing(store: Store, writer: Writer, journal: Journal) -> None:
    ids = [new_id("tsk") for _ in range(4)]
    entries = [
        journal.entry(*(journal.submit(i, tags={"a": "b"}) for i in ids)),
        journal.entry(journal.finish(ids[0], result=b"1"), journal.start(ids[1], 2), journal.die(ids[2])),
        journal.entry([b"C", journal.now, ids[1], 3, "stop it", "ann"], journal.retry(ids[2], 3)),
        journal.entry(journal.move(ids[3], 2, State.CANCELLED, reason="not needed", who="bob")),
        journal.entry([b"K", journal.now, "pause", "mail", '{"until":0,"reason":"","who":"ann"}']),
        journal.entry([b"W", journal.now, WORKER, "live", '{"name":"w1","host":"h","started_at":1}']),
    ]
    begin = writer.take()
    writer.apply(entries, begin)
    once = contents(store)
    columns = "epoch = ?, stream_id = ?, sequence = ?, rows = ?, bytes = ?"

    store.database.execute(f"UPDATE checkpoint SET {columns}", (begin.epoch, begin.stream_id, 0, 0, 0))
    writer.apply(entries, writer.take())

    assert contents(store) == once


def test_a_journal_in_any_batches_gives_one_record(store: Store, writer: Writer, journal: Journal) -> None:
    ids = [new_id("tsk") for _ in range(6)]
    entries = [journal.entry(*(journal.submit(i) for i in ids))]
    for round_ in range(3):
        v = 3 * round_
        entries.append(journal.entry(*(journal.start(i, v + 2, attempt=round_ + 1) for i in ids)))
        entries.append(journal.entry(*(journal.die(i, v + 3, attempt=round_ + 1) for i in ids[: 5 - round_])))
        entries.append(journal.entry(*(journal.retry(i, v + 4) for i in ids[: 5 - round_])))
    begin = writer.take()
    writer.apply(entries, begin)
    whole = contents(store)

    chooser = random.Random(7)
    for _ in range(3):
        for name in ("tasks", "attempts", "events", "dead_letters", "checkpoint"):
            store.database.execute(f"DELETE FROM {name}")
        store.pair("par_test", 1)
        rest, checkpoint = entries, writer.take()
        while rest:
            size = chooser.randint(1, 4)
            checkpoint = writer.apply(rest[:size], checkpoint).checkpoint
            rest = rest[size:]
        assert contents(store) == whole


def test_an_older_version_never_overwrites(store: Store, writer: Writer, journal: Journal) -> None:
    task_id = new_id("tsk")
    late = journal.finish(task_id, 2, state=State.RETRYING, outcome=Outcome.FAILED, failures=1)

    apply(writer, journal.entry(journal.submit(task_id), journal.finish(task_id, 5, result=b'"new"', attempt=2)))
    apply(writer, journal.entry(journal.submit(task_id, v=1)), journal.entry(late))

    task = task_of(store, task_id)
    assert (task.state, task.result, task.failures) == (State.SUCCEEDED, "new", 0)


def test_a_version_of_a_later_epoch_counts_more(store: Store, writer: Writer) -> None:
    task_id = new_id("tsk")
    old, new = Journal(epoch=1), Journal(epoch=2)
    new.now = old.now + 60_000

    apply(
        writer,
        old.entry(old.submit(task_id), old.finish(task_id, 900, state=State.RETRYING, outcome=Outcome.FAILED)),
    )
    apply(writer, new.entry(new.finish(task_id, 1, result=b"2")))

    assert task_of(store, task_id).result == 2


def test_an_operators_retry_empties_the_end_and_keeps_the_history(
    store: Store, writer: Writer, journal: Journal
) -> None:
    task_id = new_id("tsk")

    apply(writer, journal.entry(journal.submit(task_id), journal.die(task_id)))
    letters = store.queries.dead_letters()
    apply(writer, journal.entry(journal.retry(task_id, 3)))

    task = task_of(store, task_id)
    assert [(letter.task_id, letter.reason, letter.closed_at) for letter in letters] == [
        (task_id, "retries used up", None)
    ]
    assert store.queries.dead_letters() == []
    assert (task.state, task.failures, task.deaths, task.error, task.reason, task.finished_at) == (
        State.QUEUED,
        0,
        0,
        None,
        None,
        None,
    )
    assert [attempt.outcome for attempt in task.attempts] == ["failed"]
    assert [(event.kind, event.who) for event in store.queries.events(task_id)] == [("retried", "ann")]


def test_death_retry_and_success_in_one_batch_leave_a_closed_letter(
    store: Store, writer: Writer, journal: Journal
) -> None:
    task_id, other = new_id("tsk"), new_id("tsk")
    apply(writer, journal.entry(journal.submit(other)))

    done = apply(
        writer,
        journal.entry(journal.submit(task_id), journal.die(task_id), journal.die(other)),
        journal.entry(journal.retry(task_id, 3), journal.retry(other, 3)),
        journal.entry(journal.finish(task_id, 4, attempt=2, result=b"1"), journal.die(other, 4, attempt=2)),
    )

    letters = store.queries.dead_letters()
    assert task_of(store, task_id).to_json()["error"] is None
    assert (task_of(store, task_id).state, task_of(store, task_id).failures) == (State.SUCCEEDED, 0)
    assert [letter.task_id for letter in letters] == [other]
    assert done.finished == {task_id: 4, other: 4}


def test_a_discarded_letter_is_closed_and_the_task_stays_dead(store: Store, writer: Writer, journal: Journal) -> None:
    task_id = new_id("tsk")

    apply(writer, journal.entry(journal.submit(task_id), journal.die(task_id)))
    apply(writer, journal.entry([b"L", journal.now, task_id, 0, "seen", "ann"]))

    assert store.queries.dead_letters() == []
    assert task_of(store, task_id).state is State.DEAD


def test_result_with_nul_and_log_with_a_lone_surrogate_are_kept(store: Store, writer: Writer, journal: Journal) -> None:
    task_id = new_id("tsk")
    value = {"text": "a\x00b\ud83d", "list": [1, None, True]}
    log = "out \ud800 \x00".encode("utf-8", "surrogatepass")
    error = ErrorInfo("Odd\x00Error", "bad \ud800 text", "line\x00")

    apply(writer, journal.entry(journal.submit(task_id)))
    retrying = journal.finish(task_id, 2, state=State.RETRYING, outcome=Outcome.FAILED, reason="odd\x00reason", log=log)
    retrying[-1] = pack([None, [part.encode("utf-8", "replace").decode() for part in _parts(error)], log, 3, None])
    apply(writer, journal.entry(retrying))
    apply(writer, journal.entry(journal.finish(task_id, 3, attempt=2, result=json.dumps(value).encode())))

    task = task_of(store, task_id)
    assert task.result == value
    assert store.lookup.logs(task_id)[0] == (1, log, 3)
    assert task.attempts[0].error == ErrorInfo("Odd\ufffdError", "bad ? text", "line\ufffd")


@pytest.mark.parametrize(
    "text", ['a"b', "a\\b", '\\"', "{a,b}", "NULL", "a,b", " a ", "line\nline\t", "é∂😀", "'; --", "?%s"]
)
def test_any_text_is_kept_as_it_is(store: Store, writer: Writer, journal: Journal, text: str) -> None:
    """Two tasks, so that one value cannot run into the next."""
    first, second = new_id("tsk"), new_id("tsk")
    error = ErrorInfo(text, text + text, text)
    rows = [journal.submit(i) for i in (first, second)]
    for row in rows:
        row[-1] = pack([1, "echo", b"{}", 0, None, {"t": text, "u": "x"}, text, text, None, None])

    apply(writer, journal.entry(*rows))
    apply(writer, journal.entry(*(journal.die(i, error=error) for i in (first, second))))

    for task in (task_of(store, first), task_of(store, second)):
        assert (task.tags, task.tenant, task.correlation_id) == ({"t": text, "u": "x"}, text, text)
        assert task.error == error == task.attempts[0].error
    assert {letter.task_id for letter in store.queries.dead_letters()} == {first, second}
    assert {task.id for task in store.queries.tasks(TaskFilter(tenant=text, tags={"t": text}))} == {first, second}
    assert {task.id for task in store.queries.tasks(TaskFilter(error=text))} == {first, second}


def _parts(error: ErrorInfo) -> list[str]:
    return [error.type, error.message, error.traceback or ""]


def test_a_stale_term_is_refused_and_nothing_is_written(store: Store, writer: Writer, journal: Journal) -> None:
    task_id = new_id("tsk")
    checkpoint = writer.take()
    later = store.writer(store.next_term("coordinator", "other"))
    later.take()
    before = contents(store)

    with pytest.raises(LeaseLost):
        writer.apply([journal.entry(journal.submit(task_id))], checkpoint)
    with pytest.raises(LeaseLost):
        writer.take()

    assert contents(store) == before


def test_of_two_recorders_with_one_batch_one_wins(store: Store, store_url: str, journal: Journal) -> None:
    entries = [journal.entry(journal.submit(new_id("tsk")))]
    term = store.next_term("coordinator", "test")
    first = store.writer(term)
    with open_store(Settings(database_url=store_url)) as other_store:
        second = other_store.writer(term)
        begin = first.take()
        assert second.take() == begin

        done = first.apply(entries, begin)
        with pytest.raises(LeaseLost):
            second.apply(entries, begin)
        with pytest.raises(LeaseLost):
            second.check(begin)

    assert store.checkpoint() == done.checkpoint
    assert store.queries.count_tasks() == 1


def test_a_term_only_grows_for_each_role(store: Store) -> None:
    assert [store.next_term("coordinator", "a"), store.next_term("coordinator", "b")] == [1, 2]
    assert store.next_term("scheduler", "a") == 1


def test_settings_and_catalogue_follow_the_journal(store: Store, writer: Writer, journal: Journal) -> None:
    paused = '{"until":0,"since":1,"reason":"r","who":"ann"}'
    row = '{"name":"echo","queue":"default","parameters":[]}'

    apply(
        writer,
        journal.entry([b"K", 1, "pause", "mail", paused], [b"K", 1, "pause", "web", paused]),
        journal.entry([b"K", 2, "pause", "mail", ""], [b"K", 2, "handler", "echo", row]),
    )

    assert store.queries.settings("pause") == {"web": json.loads(paused)}
    assert store.queries.handlers() == {"echo": json.loads(row)}
    assert [event.reason for event in store.queries.events("mail")] == [paused, None]


def test_a_worker_that_left_keeps_its_registration(store: Store, writer: Writer, journal: Journal) -> None:
    info = '{"name":"w1","host":"box","pid":7,"started_at":1800000000000,"queues":["default"]}'

    apply(writer, journal.entry([b"W", 5, WORKER, "live", info]))
    apply(writer, journal.entry([b"W", 9, WORKER, "lost", "{}"]))

    (worker,) = store.queries.workers()
    assert (worker.id, worker.state, worker.name, worker.host) == (WORKER, "lost", "w1", "box")
    assert worker.info == json.loads(info)


def test_a_reader_sees_what_is_committed_and_can_change_nothing(
    store: Store, store_url: str, writer: Writer, journal: Journal
) -> None:
    task_id = new_id("tsk")
    apply(writer, journal.entry(journal.submit(task_id)))

    with open_store(Settings(database_url=store_url), read_only=True) as reader:
        assert reader.lookup.task(task_id) == task_of(store, task_id)
        assert [task.id for task in reader.queries.tasks()] == [task_id]
        with pytest.raises(RecordUnavailable):
            reader.next_term("coordinator", "thief")

    assert store.next_term("coordinator", "test") == 2
