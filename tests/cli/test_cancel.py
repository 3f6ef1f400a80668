"""``task cancel`` by filter, on both pairs: what is chosen, what is asked, what is told."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import Program
from tests.contract.client_side import Side, side_of
from tests.support.environment import Environment
from tests.support.wait import wait_until
from tqctl.session import Session
from tqctl_runtime.client import Client
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.task import ErrorInfo
from tqctl_runtime.inspector import Inspector
from tqctl_runtime.record.filters import LetterFilter


@pytest.fixture
def side(pair: Environment, program: Program) -> Iterator[Side]:
    """A namespace with a recorder that runs, which *program* uses."""
    assert pair.redis_url is not None
    assert pair.database_url is not None
    program.set(TQCTL_REDIS_URL=pair.redis_url, TQCTL_DATABASE_URL=pair.database_url, TQCTL_NAMESPACE=pair.namespace)
    with side_of(pair) as ready, ready.recording():
        yield ready


def submit(side: Side, count: int = 1, handler: str = "compute", **options: object) -> list[str]:
    with Client(side.settings) as client:
        return [client.submit(handler, **options) for _ in range(count)]  # type: ignore[arg-type]


def states(side: Side, ids: list[str]) -> list[State]:
    with Inspector.open(side.settings) as inspector:
        return [inspector.task(task_id).state for task_id in ids]


def test_only_tasks_that_fit_the_filter_are_cancelled_with_the_reason(side: Side, program: Program) -> None:
    wanted = submit(side, 3, tags={"user": "7"})
    others = [*submit(side, tags={"user": "8"}), *submit(side, handler="echo", tags={"user": "7"})]

    said = program.done("task", "cancel", "--handler", "compute", "--tag", "user=7", "--reason", "moved", "--yes")

    assert "3 tasks cancelled" in said.err
    assert states(side, wanted) == [State.CANCELLED] * 3
    assert states(side, others) == [State.QUEUED] * 2
    shown = program.done("task", "list", "--tag", "user=7", "--state", "cancelled", "-o", "json").json
    assert {row["reason"] for row in shown} == {"moved"}


@pytest.mark.parametrize(
    "words",
    [
        ["--state", "pending"],
        ["--queue", "default"],
        ["--tenant", "me"],
        ["--since", "1h"],
        ["--until", "+1m"],
        ["--all"],
    ],
)
def test_every_filter_of_a_list_chooses(side: Side, program: Program, words: list[str]) -> None:
    ids = submit(side, 2, tenant="me")

    assert "2 tasks cancelled" in program.done("task", "cancel", *words, "--yes").err

    assert states(side, ids) == [State.CANCELLED] * 2


def test_without_a_terminal_the_question_is_declined_with_the_count(side: Side, program: Program) -> None:
    ids = submit(side, 2)

    said = program.run("task", "cancel", "--queue", "default")

    assert said.code == 6
    assert "cancel 2 tasks in context default" in said.err
    assert "--yes" in said.err
    assert states(side, ids) == [State.QUEUED] * 2


def test_the_question_shows_a_sample_and_how_many_more(
    side: Side, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = submit(side, 5)
    monkeypatch.setattr(Session, "can_ask", True)
    refused = program.run("task", "cancel", "--queue", "default", stdin="n\n")
    agreed = program.run("task", "cancel", "--queue", "default", stdin="y\n")

    assert (refused.code, agreed.code) == (6, 0)
    assert "cancel 5 tasks in context default? [y/N]" in refused.err
    assert "compute  queued in default" in refused.err
    assert "and 2 more" in refused.err
    assert states(side, ids) == [State.CANCELLED] * 5


def test_a_dry_run_tells_how_many_in_which_state_and_changes_nothing(side: Side, program: Program) -> None:
    ids = [*submit(side, 2), *submit(side, 3, delay=600)]

    said = program.done("task", "cancel", "--queue", "default", "-n")
    named = program.done("task", "cancel", "--queue", "default", "-n", "-o", "name")

    assert "5 tasks would be cancelled: 3 scheduled, 2 queued" in said.err
    assert (said.out, sorted(named.lines)) == ("", sorted(ids))
    assert State.CANCELLED not in states(side, ids)


def test_a_dry_run_counts_named_tasks_that_have_ended_apart(side: Side, program: Program) -> None:
    ended = submit(side, 2)
    for held in side.claim(2):
        side.finish(held)
    waiting = submit(side)

    def recorded() -> list[str]:
        return sorted(row["state"] for row in program.done("task", "list", "-o", "json").json)

    wait_until(lambda: recorded() == ["queued", "succeeded", "succeeded"], "all is recorded")

    said = program.done("task", "cancel", "-n", "-o", "name", *ended, *waiting)
    none = program.done("task", "cancel", "-n", *ended)

    assert said.lines == waiting
    assert "2 tasks cannot be cancelled, having ended: 2 succeeded\n1 task would be cancelled: 1 queued" in said.err
    assert none.err == "2 tasks cannot be cancelled, having ended: 2 succeeded\nnothing is left to cancel\n"


def test_a_running_task_is_asked_to_stop_beside_the_waiting_ones(side: Side, program: Program) -> None:
    ids = submit(side, 3)
    (running,) = side.claim()

    said = program.done("task", "cancel", "--all", "--yes")

    assert "2 tasks cancelled, 1 asked to stop\n" in said.err
    assert side.look(running.id).is_cancel_requested
    assert sorted(states(side, ids)) == sorted([State.CANCELLED, State.CANCELLED, State.RUNNING])


def test_what_ended_while_the_question_was_open_is_counted_and_no_failure(
    side: Side, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(side, 3)
    (running,) = side.claim()

    def answer_late(*_: object) -> None:
        side.finish(running)

    monkeypatch.setattr(Session, "confirm", answer_late)
    said = program.run("task", "cancel", "--all", "-o", "json")

    assert said.code == 0
    assert said.err == "2 tasks cancelled, 1 had ended meanwhile\n"
    assert {row["id"]: row["done"] for row in said.json}[running.id] is None
    assert sorted(str(row["done"]) for row in said.json) == ["None", "cancelled", "cancelled"]


def test_a_named_task_that_ended_is_refused(side: Side, program: Program) -> None:
    (ended,) = submit(side)
    side.work()

    said = program.run("task", "cancel", ended)

    assert (said.code, f"task {ended} is succeeded and cannot be cancelled" in said.err) == (5, True)


def test_a_task_that_only_the_record_has_is_told_as_that(side: Side, program: Program) -> None:
    lost, _ = submit(side, 2)
    wait_until(lambda: len(program.done("task", "list", "-o", "json").json) == 2, "both are recorded")
    for name in ("st", "env"):
        side.wire.command("HDEL", side.keys.build(name), lost)

    said = program.run("task", "cancel", "--all", "--yes")

    assert said.code == 7
    assert f"{lost}: Redis does not know task {lost}, which is queued in the record: it cannot be cancelled" in said.err
    assert "1 task cancelled, 1 refused" in said.err


@pytest.mark.parametrize(
    ("verb", "told"),
    [("requeue", "1 task queued again, 1 were dead no longer"), ("discard", "1 task discarded, 1 were dealt with")],
)
def test_a_dead_letter_that_somebody_else_dealt_with_meanwhile_is_no_failure(
    side: Side, program: Program, monkeypatch: pytest.MonkeyPatch, verb: str, told: str
) -> None:
    first, _ = submit(side, 2, max_retries=0)
    for _ in range(2):
        side.work(Outcome.FAILED, error=ErrorInfo("ValueError", "no"))
    wait_until(lambda: len(program.done("dlq", "list", "-o", "json").json) == 2, "both are recorded")

    def answer_late(*_: object) -> None:
        with Inspector.open(side.settings) as other:
            other.retry([first], who="somebody else")
            wait_until(lambda: len(other.dead_letters(LetterFilter(), limit=5)) == 1, "it is recorded")

    monkeypatch.setattr(Session, "confirm", answer_late)
    said = program.run("dlq", verb, "--all")

    assert said.code == 0
    assert told in said.err


def test_many_tasks_are_cancelled_in_chunks(side: Side, program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqctl.bulk._CHUNK", 2)
    ids = submit(side, 5)

    assert "5 tasks cancelled" in program.done("task", "cancel", "--all", "--yes").err
    assert states(side, ids) == [State.CANCELLED] * 5


def test_nothing_that_fits_is_exit_0_and_one_line(side: Side, program: Program) -> None:
    submit(side)
    side.work()

    said = program.done("task", "cancel", "--all", "--yes")

    assert (said.out, said.err) == ("", "no task matches that has not ended\n")


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([], "nothing is chosen"),
        (["ABCDEF", "--queue", "default"], "ids or filters, not both"),
        (["ABCDEF", "--all"], "--all means everything: give it or ids, not both"),
        (["--queue", "a b", "--all"], "hint: without it: tqctl task cancel --queue 'a b' --yes"),
        (["--since", "1h", "--all"], "--all means everything: give it or filters, not both"),
        (["--state", "dead"], "dead tasks have ended"),
    ],
)
def test_an_unclear_choice_is_a_usage_mistake(program: Program, words: list[str], what: str) -> None:
    said = program.run("task", "cancel", *words, "--yes")

    assert said.code == 2
    assert what in said.err
