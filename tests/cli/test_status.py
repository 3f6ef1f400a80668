"""``tqctl status``: exit codes that a script can act on, and what is told beside the table."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Broker, Program
from tqctl_runtime.broker import leader_calls, worker_calls
from tqctl_runtime.core.states import Outcome


def lead(broker: Broker) -> None:
    call = leader_calls.elect(broker.keys, role=leader_calls.COORDINATOR, holder="coo_1", term=1, lease_ms=60_000)
    broker.call(call)


def error_of(program: Program) -> tuple[int, str]:
    said = program.run("status", "-o", "json")
    assert said.out.startswith("["), "rows come before the error"
    return said.code, json.loads(said.err[said.err.index("{") :])["error"]["code"]


def test_a_context_in_which_a_coordinator_leads_is_0_and_one_without_is_69(program: Program, broker: Broker) -> None:
    assert error_of(program) == (69, "unavailable")

    lead(broker)

    assert program.run("status").code == 0


def test_a_namespace_that_is_not_open_is_69_with_the_command_that_opens_it(program: Program, broker: Broker) -> None:
    program.set(TQCTL_NAMESPACE=f"{broker.namespace}.none")

    assert error_of(program) == (69, "not_open")
    assert "hint: tqctl up --detach, or: tqctl coordinator start" in program.run("status").err


def test_stores_of_two_pairs_are_78(program: Program, broker: Broker, sqlite_url: str) -> None:
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record import open_store

    with open_store(Settings(database_url=sqlite_url)) as store:
        store.pair("par_other", 1)
    program.set(TQCTL_DATABASE_URL=sqlite_url)

    assert error_of(program) == (78, "stores_differ")


def test_a_broker_that_is_away_is_69_and_rows_are_still_json(program: Program) -> None:
    program.set(TQCTL_REDIS_URL="redis://127.0.0.1:1/0")

    assert error_of(program) == (69, "broker_unavailable")


def test_late_results_are_told_with_the_time_of_the_last(program: Program, broker: Broker) -> None:
    lead(broker)
    assert "late result" not in program.run("status").err
    late = worker_calls.finished("tsk_x", "lost", Outcome.SUCCEEDED, since_start_ms=1, is_last=True, detail=b"")
    broker.call(worker_calls.round_(broker.keys, "wrk_test", 1, places=0, queues=["default"], finished=[late]))

    said = program.run("status").err

    assert "1 late result refused, the last " in said
    assert " ago: from workers that had lost their lease" in said


@pytest.mark.parametrize(("rows", "is_short"), [(1, False), (0, True), (1, True)])
def test_each_mark_that_is_reached_is_told_and_no_other(
    program: Program, broker: Broker, rows: int, is_short: bool
) -> None:
    lead(broker)
    program.done("submit", "echo", "-p", "message=x")
    marks = leader_calls.set_marks(
        broker.keys,
        term=1,
        busy_rows=rows or 10,
        busy_bytes=2**20,
        stop_rows=10,
        stop_bytes=2**20,
        is_memory_short=is_short,
    )
    broker.call(marks)

    said = program.run("status").err

    assert ("first mark reached" in said) == bool(rows)
    assert ("memory of the server is short" in said) == is_short
