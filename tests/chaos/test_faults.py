"""Seeded faults in every client of the stores: before a call, after it was carried out, late, twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos import hooked
from tests.chaos.feeder import Feeder, Wanted
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage
from tests.chaos.test_losses import epoch_of, in_flight
from tqctl_runtime.broker.link import Link
from tqctl_runtime.client import AsyncClient
from tqctl_runtime.core.states import State

Scale = Callable[[int, int], int]
Measured = Callable[..., None]
_LEASE = "6s"


def start_processes(stage: Stage, seed: int, *, rate: float, sql_rate: float) -> None:
    """Two coordinators and three workers whose calls meet faults."""
    for number in range(5):
        hooks = {"faults": seed, "rate": rate, "sql_rate": sql_rate, "number": number}
        start = stage.coordinator if number < 2 else stage.worker
        start(command=hooked.COMMAND, TQCTL_LEASE=_LEASE, **{hooked.HOOKS: json.dumps(hooks)})


def infected_client(stage: Stage, seed: int, rate: float) -> tuple[Any, hooked.Dice]:
    """A client whose calls meet faults, and what was thrown."""
    client, dice = stage.new_client(), hooked.Dice(seed, rate)
    hooked.infect_wire(client.wire, dice)
    return client, dice


def some_of_all(tasks: int) -> list[Wanted]:
    """Tasks that succeed, fail first, run on a loop, have children, come later, are unique for a moment."""
    kinds = ("work", "flaky", "async_work", "beget", "work", "work")
    wanted: list[Wanted] = []
    for number in range(tasks):
        options: dict[str, Any] = {}
        if number % 6 == 4:
            options["delay"] = 0.5
        if number % 6 == 5:
            options["unique_for"] = 2
        payload = {"children": 2} if kinds[number % 6] == "beget" else {"ms": number / 1_000}
        wanted.append((kinds[number % 6], payload, options))
    return wanted


def submit_by_link(stage: Stage, monkeypatch: pytest.MonkeyPatch, seed: int, rate: float, tasks: int) -> list[str]:
    """Submit and wait by the asyncio client while its calls meet faults; the ids, each of which it saw succeed."""
    for verb in ("call", "command", "blocking", "_heard"):
        monkeypatch.setattr(Link, verb, getattr(Link, verb))
    hooked.infect_links(hooked.Dice(f"async {seed}", rate))

    async def run() -> list[str]:
        async with AsyncClient(stage.settings) as client:
            ids = [await client.submit("work", {"ms": 1}) for _ in range(tasks)]
            assert {end.state async for end in client.wait_each(ids)} == {State.SUCCEEDED}
            return ids

    return asyncio.run(run())


def test_nothing_is_lost_or_doubled_while_calls_and_statements_fail_come_late_or_come_twice(
    stage: Stage, seed: int, scale: Scale, measured: Measured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers, their tasks' submits, coordinators with all their roles, and clients of both kinds."""
    tasks, rate, sql_rate = scale(300, 6_000), 0.08, 0.02
    stage.tap.last(1)
    start_processes(stage, seed, rate=rate, sql_rate=sql_rate)
    client, dice = infected_client(stage, seed, rate)
    stage.pause("parked")
    with Feeder(client, some_of_all(tasks), at_once=5) as feeder:
        parked = stage.submit("work", 20, queue="parked")
        assert client.cancel(parked) <= len(parked)
        by_link = submit_by_link(stage, monkeypatch, seed, rate, tasks // 15)
        ids = feeder.finish()
    waited = list(client.wait_each(ids[:50]))
    ids += [*by_link, *parked]
    stage.drain(ids)
    children = [row[0] for row in stage.sql("SELECT id FROM tasks WHERE parent IS NOT NULL")]
    stage.until(lambda: not stage.sql("SELECT 1 FROM windows"), "unique windows that ended are pruned")
    stage.drain(ids)

    ends = dict.fromkeys(parked, State.CANCELLED)
    figures = assert_world(stage, [*ids, *children], ends=ends, healthy_deaths=True)

    assert {end.state for end in waited} == {State.SUCCEEDED}
    assert len(children) == 2 * (tasks // 6)
    assert stage.sql("SELECT count(*) FROM tasks") == [(len(ids) + len(children),)]
    measured(figures, rate=rate, sql_rate=sql_rate, faults_of_the_client=dice.thrown)


def test_a_repair_whose_calls_and_statements_fail_begins_anew_until_it_ends(
    stage: Stage, seed: int, scale: Scale, measured: Measured
) -> None:
    """FLUSHALL while everybody's calls meet faults: what is recorded comes back whole."""
    assert stage.server is not None
    tasks, rate = scale(200, 2_000), 0.02
    stage.tap.last(1)
    start_processes(stage, seed, rate=rate, sql_rate=rate / 4)
    client, dice = infected_client(stage, seed, rate)
    wanted: list[Wanted] = [("work", {"ms": 5}, {})] * tasks
    with Feeder(client, wanted, at_once=10, durability="recorded") as feeder:
        feeder.allow(tasks // 2)
        stage.wait_effects(tasks // 4)
        allowed = in_flight(stage)
        stage.server.command("FLUSHALL")
        stage.until(lambda: epoch_of(stage) >= 2, "it is repaired")
        ids = feeder.finish()
    stage.drain(ids)

    figures = assert_world(stage, ids, has_whole_journal=False, open_across_repair=allowed, healthy_deaths=True)

    measured(figures, rate=rate, faults_of_the_client=dice.thrown, repaired_to_epoch=epoch_of(stage))
