"""``tqctl health``: stored results and recovery events, in all formats, on both databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cli.conftest import Broker, Program
from tqctl.completion import tree
from tqctl_runtime.checks import CHECKS
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record import Store, open_store
from tqctl_runtime.record.health import Result

CHECK = {"check", "level", "since", "seen_at", "success_rate", "message", "hint"}
STRETCH = {"check", "level", "since", "until", "runs", "message", "hint"}
EVENT = {"at", "kind", "subject", "message", "length_s"}
MINUTE = 60_000


@pytest.fixture
def store(store_url: str, program: Program) -> Iterator[Store]:
    """A record that *program* reads, in which nobody writes."""
    program.set(TQCTL_DATABASE_URL=store_url)
    with open_store(Settings(database_url=store_url)) as opened:
        opened.next_term("coordinator", "test")
        yield opened


def save(store: Store, ago_ms: int, level: str, name: str = "workers") -> None:
    result = Result(name, level, f"{name} are {level}", "mend it" if level == "problem" else "")
    store.health.save(now_ms() - ago_ms, [result], term=1, gap_ms=10 * MINUTE)


def test_each_check_is_listed_with_its_success_rate(store: Store, program: Program) -> None:
    for ago, level in ((3, "ok"), (2, "ok"), (1, "problem"), (0, "ok")):
        save(store, ago * MINUTE, level)

    (row,) = program.done("health", "list", "-o", "json").json
    table = program.done("health", "list").out

    assert set(row) == CHECK
    assert (row["check"], row["level"], row["success_rate"], row["hint"]) == ("workers", "ok", 0.75, None)
    assert "75.0%" in table


def test_results_that_are_old_are_told_to_be_old(store: Store, program: Program) -> None:
    assert "look now: tqctl doctor" in program.done("health", "list").err
    save(store, 10 * MINUTE, "ok")

    said = program.done("health", "list")

    assert "seen last 10m" in said.err
    assert "no coordinator looks" in said.err


def test_history_shows_how_long_each_level_lasted(store: Store, program: Program) -> None:
    for ago, level in ((5, "ok"), (4, "problem"), (3, "problem"), (2, "ok")):
        save(store, ago * MINUTE, level)
    save(store, MINUTE, "ok", "recorder lag")

    rows = program.done("health", "history", "--check", "workers", "-o", "json").json
    recent = program.done("health", "history", "--since", "150s", "-o", "jsonl").lines

    assert set(rows[0]) == STRETCH
    assert [(row["level"], row["runs"]) for row in rows] == [("ok", 1), ("problem", 2), ("ok", 1)]
    assert len(recent) == 2
    assert program.done("health", "history", "--check", "recorder-lag", "-o", "csv").lines[1].startswith("recorder lag")


def test_events_are_listed_with_how_long_they_lasted(store: Store, program: Program) -> None:
    store.health.note("outage", "record", "back after 1m", length_ms=MINUTE)
    store.health.note("leader", "coordinator", "leads in term 2", at=now_ms() - 120 * MINUTE)

    rows = program.done("health", "history", "--events", "-o", "json").json
    table = program.done("health", "history", "--events", "--since", "1h").out

    assert [(row["kind"], row["length_s"]) for row in rows] == [("outage", 60.0), ("leader", None)]
    assert set(rows[0]) == EVENT
    assert "1m" in table
    assert "leads in term 2" not in table


def test_nothing_recorded_is_exit_0_and_one_line(store: Store, program: Program) -> None:
    assert program.done("health", "history").err == "nothing is recorded of it\n"
    assert program.done("health", "history", "--events", "-o", "json").out == "[]\n"


def test_an_unknown_check_is_not_found_with_near_names(store: Store, program: Program) -> None:
    said = program.run("health", "history", "--check", "worker")

    assert said.code == 3
    assert "did you mean workers" in said.err
    assert program.run("health", "history", "--check", "workers", "--events").code == 2


def test_a_check_that_only_the_coordinator_knows_is_found_by_its_recorded_name(store: Store, program: Program) -> None:
    save(store, MINUTE, "ok", "disk-quota of us")

    (row,) = program.done("health", "history", "--check", "disk-quota-of-us", "-o", "json").json

    assert row["check"] == "disk-quota of us"


def test_a_limit_that_cuts_is_told(store: Store, program: Program) -> None:
    for number in range(3):
        store.health.note("leader", "coordinator", f"leads in term {number}")

    said = program.done("health", "history", "--events", "--limit", "2")

    assert len(said.lines) == 3
    assert "more with --limit" in said.err


def test_completion_offers_every_check_as_one_word() -> None:
    offered = next(
        option.values
        for node in tree()
        if node.path == "health history"
        for option in node.options
        if "--check" in option.names
    )

    assert offered == tuple(name.replace(" ", "-") for name in CHECKS)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
@pytest.mark.parametrize(
    "words",
    [
        ("health", "list"),
        ("health", "history"),
        ("task", "list"),
        ("task", "show", "tsk_01J0000000000000000000000A"),
        ("dlq", "list"),
        ("dlq", "requeue", "--all", "--yes"),
        ("worker", "show", "gone-1"),
        ("task", "cancel", "--all", "--yes"),
    ],
)
def test_what_needs_sql_names_while_it_is_away_what_does_not(
    program: Program, broker: Broker, words: tuple[str, ...], kind: str
) -> None:
    url = "postgresql://nobody@127.0.0.1:1/none"
    if kind == "sqlite":
        damaged = program.folder / "damaged.db"
        damaged.write_text("this is no database " * 100)
        url = f"sqlite:///{damaged}"
    program.set(TQCTL_DATABASE_URL=url)

    said = program.run(*words)

    assert said.code == 69, said
    assert "tqctl status" in said.err
    assert "tqctl health probe" in said.err
