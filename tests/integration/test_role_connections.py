"""Connections of a role: none that lay idle makes it wait, and an outage that a role met is an event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.support.environment import Environment
from tests.support.proxy import Proxy
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.coordinator import runner as runner_module
from tqctl_runtime.coordinator.leader import Leader
from tqctl_runtime.coordinator.recoveries import Recoveries
from tqctl_runtime.coordinator.roles import Role, RoleSpec, Tools
from tqctl_runtime.coordinator.runner import RoleRunner
from tqctl_runtime.core.errors import BrokerUnavailable, RecordUnavailable
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record import open_store


class Lead(Leader):
    """A leader that nobody doubts."""

    def __init__(self) -> None:
        pass

    @property
    def term(self) -> int | None:
        return 1


class Asking(Role):
    """Asks both stores in each step, after *happens* was called with the step's number; stops with the last one."""

    def __init__(self, tools: Tools, happens: Callable[[int], None], at_end: Callable[[], object], steps: int) -> None:
        self._tools = tools
        self._happens = happens
        self._at_end = at_end
        self._left = list(range(1, steps + 1))

    def run_once(self) -> int:
        step = self._left.pop(0) if self._left else 0
        if not self._left:
            self._at_end()
        self._happens(step)
        self._tools.wire.command("PING")
        self._tools.store.database.rows("SELECT 1")
        return 1


def told_of(settings: Settings, steps: int, happens: Callable[[int], None]) -> tuple[list[str], list[tuple[str, str]]]:
    """What a role said that it cannot work for, and the events that were noted."""
    problems: list[str] = []
    recoveries = Recoveries()

    async def scenario() -> None:
        loop, halt = asyncio.get_running_loop(), asyncio.Event()

        def build(tools: Tools) -> Role:
            return Asking(tools, happens, lambda: loop.call_soon_threadsafe(halt.set), steps)

        spec = RoleSpec("asking", 0.0, build)
        keys, address = Keys(settings.namespace), BrokerAddress.of(settings)
        hurry = asyncio.Event()
        runner = RoleRunner(
            spec, settings, keys, address, Lead(), term=1, halt=halt, hurry=hurry, recoveries=recoveries
        )
        wait_after = runner._wait_after

        async def told(problem: str, *, is_ours: bool) -> None:
            problems.append(problem)
            await wait_after(problem, is_ours=is_ours)

        runner._wait_after = told  # type: ignore[method-assign]
        await runner.run()

    asyncio.run(scenario())
    with open_store(settings) as store:
        store.prepare()
        recoveries.flush(store)
        return problems, [(event.kind, event.subject) for event in store.health.events()]


@pytest.fixture
def proxy(pair: Environment) -> Iterator[Proxy]:
    with Proxy(str(pair.redis_url)) as opened:
        yield opened


def test_a_broker_that_was_started_anew_while_sql_was_away_makes_no_role_wait(pair: Environment, proxy: Proxy) -> None:
    def happens(step: int) -> None:
        if step == 2:
            proxy.cut()
            raise RecordUnavailable("SQL is away")

    problems, _ = told_of(pair.settings(redis_url=proxy.url), 3, happens)

    assert problems == ["SQL is away"]


def test_a_connection_that_was_lost_while_it_lay_idle_is_made_again_without_a_word(
    pair: Environment, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner_module, "_IDLE_SECONDS", -1.0)

    problems, _ = told_of(pair.settings(redis_url=proxy.url), 3, lambda step: proxy.cut() if step == 2 else None)

    assert problems == []


def test_an_outage_of_the_broker_that_a_role_met_is_an_event_also_where_no_heartbeat_met_it(pair: Environment) -> None:
    def happens(step: int) -> None:
        if step == 2:
            raise BrokerUnavailable("Redis is away")

    _, events = told_of(pair.settings(), 3, happens)

    assert events == [("outage", "broker")]
