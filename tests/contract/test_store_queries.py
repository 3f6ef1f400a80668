"""Lists, counts and lookups on SQLite and on PostgreSQL, against a plain model of the same tasks."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.contract.journal import START, Journal
from tqctl_runtime.core.errors import AmbiguousId, NotFound, UsageError
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.task import ErrorInfo
from tqctl_runtime.record import Store, open_store
from tqctl_runtime.record.filters import After, LetterFilter, Sort, TaskFilter
from tqctl_runtime.record.queries import roads
from tqctl_runtime.record.read import Revival


@dataclass
class Known:
    """What the model knows of a task; instants are ms."""

    id: str
    created_at: int
    state: State
    handler: str
    queue: str
    tenant: str | None
    tags: dict[str, str]
    finished_at: int | None = None


def finish_row(journal: Journal, task: Known) -> list[object] | None:
    """The row that brings a queued task into the state of *task*."""
    match task.state:
        case State.SUCCEEDED:
            return journal.finish(task.id, result=b"1")
        case State.DEAD:
            return journal.die(task.id, error=ErrorInfo("ValueError", f"bad {task.handler} 100% {task.queue}", None))
        case State.RETRYING:
            return journal.finish(task.id, state=State.RETRYING, outcome=Outcome.FAILED, failures=1, due=START)
        case State.CANCELLED | State.EXPIRED:
            return journal.move(task.id, 2, task.state)
        case State.RUNNING:
            return journal.start(task.id, 2)
    return None


def fill(store: Store) -> list[Known]:
    """120 tasks of all kinds, several at the same millisecond; latest first."""
    chooser = random.Random(3)
    journal = Journal()
    model: list[Known] = []
    states = [State.QUEUED, State.RUNNING, State.RETRYING, State.SUCCEEDED, State.DEAD, State.CANCELLED, State.EXPIRED]
    entries = []
    for _ in range(30):
        rows = []
        now = journal.now
        for _ in range(4):
            task = Known(
                new_id("tsk"),
                now,
                chooser.choice(states),
                chooser.choice(["echo", "mail", "resize"]),
                chooser.choice(["default", "bulk"]),
                chooser.choice([None, "acme", "umbrella"]),
                chooser.choice([{}, {"team": "blue"}, {"team": "red", "run": "1"}, {"team": "blue", "run": "1"}]),
            )
            model.append(task)
            rows.append(
                journal.submit(task.id, handler=task.handler, queue=task.queue, tenant=task.tenant, tags=task.tags)
            )
        entries.append(journal.entry(*rows))
    for task in model:
        task.finished_at = journal.now if task.state in (State.SUCCEEDED, State.DEAD, State.CANCELLED) else None
        task.finished_at = journal.now if task.state is State.EXPIRED else task.finished_at
        row = finish_row(journal, task)
        if row is not None:
            entries.append(journal.entry(row))
    store.pair("par_test", 1)
    writer = store.writer(store.next_term("coordinator", "test"))
    assert not writer.apply(entries, writer.take()).quarantined
    return sorted(model, key=lambda task: (task.created_at, task.id), reverse=True)


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    with open_store(Settings(database_url=store_url)) as opened:
        yield opened


@pytest.fixture(params=[500, 5, 0])
def rare(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Rows up to which a condition is read whole: all, some and none of the model's are that rare."""
    monkeypatch.setattr(roads, "RARE", request.param)
    return int(request.param)


@pytest.fixture
def model(store: Store) -> list[Known]:
    return fill(store)


FILTERS = [
    TaskFilter(),
    TaskFilter(states=(State.DEAD,)),
    TaskFilter(states=(State.QUEUED, State.RUNNING, State.RETRYING)),
    TaskFilter(handler="mail"),
    TaskFilter(handler="mail", states=(State.SUCCEEDED, State.DEAD)),
    TaskFilter(queue="bulk"),
    TaskFilter(handler="echo", queue="bulk", tenant="acme"),
    TaskFilter(tenant="umbrella", states=(State.CANCELLED,)),
    TaskFilter(tags={"team": "blue"}),
    TaskFilter(tags={"team": "blue", "run": "1"}, states=(State.SUCCEEDED, State.QUEUED)),
    TaskFilter(tags={"run": "1"}, handler="resize"),
    TaskFilter(since=START + 5_000, until=START + 20_000),
    TaskFilter(since=START + 5_000, until=START + 20_000, tags={"team": "red"}),
    TaskFilter(since=START + 5_000, states=(State.DEAD, State.EXPIRED), queue="default"),
    TaskFilter(handler="nosuch"),
]


def fits(task: Known, where: TaskFilter) -> bool:
    wanted = [("handler", where.handler), ("queue", where.queue), ("tenant", where.tenant)]
    return (
        (not where.states or task.state in where.states)
        and all(value is None or getattr(task, name) == value for name, value in wanted)
        and (where.since is None or task.created_at >= where.since)
        and (where.until is None or task.created_at < where.until)
        and where.tags.items() <= task.tags.items()
    )


def test_every_filter_gives_the_tasks_of_the_model_in_order(store: Store, model: list[Known], rare: int) -> None:
    for where in FILTERS:
        expected = [task.id for task in model if fits(task, where)]

        assert [task.id for task in store.queries.tasks(where, limit=1_000)] == expected, where
        assert [task.id for task in store.queries.tasks(where, limit=7)] == expected[:7], where
        assert store.queries.count_tasks(where) == len(expected), where


def test_the_other_order_is_the_reverse(store: Store, model: list[Known], rare: int) -> None:
    for where in FILTERS:
        expected = [task.id for task in reversed(model) if fits(task, where)]

        found = store.queries.tasks(where, limit=9, sort=Sort.parse("created_at"))

        assert [task.id for task in found] == expected[:9], where


def test_pages_put_together_are_the_whole_list(store: Store, model: list[Known], rare: int) -> None:
    when = {task.id: task.created_at for task in model}
    for where in FILTERS:
        expected = [task.id for task in model if fits(task, where)]
        found: list[str] = []
        after = None
        while page := store.queries.task_ids(where, limit=10, after=after):
            found += page
            after = After(when[page[-1]], page[-1])

        assert found == expected, where


def test_tasks_are_sorted_by_their_end(store: Store, model: list[Known], rare: int) -> None:
    for where in FILTERS:
        ended = [(task.finished_at, task.id) for task in model if task.finished_at is not None and fits(task, where)]

        found = store.queries.tasks(where, limit=1_000, sort=Sort.parse("-finished_at"))

        assert [task.id for task in found] == [task_id for _, task_id in sorted(ended, reverse=True)], where


def test_tasks_are_sorted_by_what_is_due(store: Store, model: list[Known], rare: int) -> None:
    waiting = {task.id for task in model if task.state is State.RETRYING and task.tags}

    found = store.queries.tasks(limit=1_000, sort=Sort.parse("scheduled_at"))

    assert waiting <= {task.id for task in found}
    assert {task.state for task in found} == {State.RETRYING}


def test_an_unknown_sort_key_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        Sort.parse("-payload")

    assert "created_at, finished_at, scheduled_at" in (caught.value.hint or "")


def test_errors_are_found_by_a_part_of_their_text(store: Store, model: list[Known], rare: int) -> None:
    dead = [task.id for task in model if task.state is State.DEAD and task.handler == "mail"]

    def ids(text: str) -> list[str]:
        return [task.id for task in store.queries.tasks(TaskFilter(error=text), limit=1_000)]

    assert ids("BAD mail") == dead
    assert ids("100%") == [task.id for task in model if task.state is State.DEAD]
    assert ids("100_") == []


def test_counts_by_state_name_every_state(store: Store, model: list[Known]) -> None:
    counts = store.queries.counts_by_state()
    of_mail = store.queries.counts_by_state(TaskFilter(handler="mail"))

    assert counts == {state: sum(task.state is state for task in model) for state in State}
    assert of_mail == {state: sum(task.state is state and task.handler == "mail" for task in model) for state in State}


def test_a_page_comes_with_attempts_unless_told_otherwise(store: Store, model: list[Known]) -> None:
    where = TaskFilter(states=(State.DEAD,))

    plain = store.queries.tasks(where, limit=3, with_attempts=False)
    full = store.queries.tasks(where, limit=3)

    assert [task.attempts for task in plain] == [[], [], []]
    assert [[attempt.outcome for attempt in task.attempts] for task in full] == [["failed"]] * 3
    assert full[0] == store.lookup.task(full[0].id)


def test_dead_letters_are_filtered_and_grouped(store: Store, model: list[Known]) -> None:
    dead = [task for task in model if task.state is State.DEAD]
    mail = [task.id for task in dead if task.handler == "mail"]
    queries = store.queries

    assert {letter.task_id for letter in queries.dead_letters(limit=1_000)} == {task.id for task in dead}
    assert set(queries.dead_letter_ids(LetterFilter(handler="mail"))) == set(mail)
    assert queries.count_dead_letters(LetterFilter(error="bad MAIL 100%")) == len(mail)
    assert queries.dead_letters(LetterFilter(task_ids=(mail[0],)))[0].error == ErrorInfo(
        "ValueError", f"bad mail 100% {next(task.queue for task in dead if task.id == mail[0])}", None
    )
    groups = {(group.handler, group.example): group.count for group in queries.error_groups()}
    assert groups == {
        (task.handler, f"bad {task.handler} 100% {task.queue}"): sum(
            other.handler == task.handler and other.queue == task.queue for other in dead
        )
        for task in dead
    }


def test_a_tail_finds_its_task_in_any_case(store: Store, model: list[Known]) -> None:
    task_id = model[17].id

    for length in (8, 9, 12, 26, 30):
        assert store.lookup.resolve(task_id[-length:].lower()) == task_id
    assert task_id in store.lookup.candidates(task_id[-4:])
    with pytest.raises(NotFound, match="too short"):
        store.lookup.resolve(task_id[-3:])
    with pytest.raises(NotFound, match="ends with"):
        store.lookup.resolve("UUUUUUUU")


def test_a_tail_of_several_tasks_names_them(store: Store) -> None:
    stem = new_id("tsk")[:-8]
    ids = [f"{stem}{head}ABCDEFG" for head in "XYZ"]
    journal = Journal()
    store.pair("par_test", 1)
    writer = store.writer(store.next_term("coordinator", "test"))
    writer.apply([journal.entry(*(journal.submit(i) for i in ids))], writer.take())

    with pytest.raises(AmbiguousId) as caught:
        store.lookup.resolve("abcdefg")

    assert sorted(caught.value.candidates) == ids
    assert store.lookup.resolve("yabcdefg") == ids[1]


def test_a_revival_tells_the_broker_what_it_forgot(store: Store) -> None:
    journal = Journal(epoch=3)
    task_id = new_id("tsk")
    row = journal.submit(task_id, queue="mail", priority=7, max_retries=2, idempotency_key="once")
    store.pair("par_test", 3)
    writer = store.writer(store.next_term("coordinator", "test"))
    writer.apply([journal.entry(row, journal.die(task_id, 9, attempt=4))], writer.take())

    found = store.lookup.revivals([task_id, new_id("tsk")])

    assert list(found) == [task_id]
    assert found[task_id] == Revival(
        task_id, State.DEAD, row[12], 3, 9, 4, "mail", 7, 2, "once", row[11].decode(), created_at=row[1]
    )


def test_an_empty_record_gives_empty_answers(store: Store) -> None:
    queries = store.queries

    assert queries.tasks() == []
    assert queries.counts_by_state() == dict.fromkeys(State, 0)
    assert (queries.dead_letters(), queries.error_groups(), queries.workers(), queries.handlers()) == ([], [], [], {})
    assert store.lookup.task(new_id("tsk")) is None
    assert store.checkpoint() is None
