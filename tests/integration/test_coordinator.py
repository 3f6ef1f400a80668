"""Coordinators as processes and their roles as threads: handing over, draining, going on after errors."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.environment import Environment
from tests.support.servers import RedisServer, drop_namespace
from tests.support.wait import wait_until
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.calls import submit, watermark
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import COORDINATOR, elect, is_memory_short, open_gate, server_info
from tqctl_runtime.broker.views import Overview, overview
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator.leader import Leader
from tqctl_runtime.coordinator.pressure import Pressure
from tqctl_runtime.coordinator.promoter import Promoter
from tqctl_runtime.coordinator.reaper import INTERVAL, Reaper
from tqctl_runtime.coordinator.recoveries import Recoveries
from tqctl_runtime.coordinator.roles import Role, RoleSpec, Tools
from tqctl_runtime.coordinator.runner import RoleRunner
from tqctl_runtime.core.errors import Busy, ConfigError, LeaseLost, NotOpen, RecordUnavailable
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.record import open_store


def look(environment: Environment) -> Overview:
    with Wire(BrokerAddress.of(environment.settings())) as wire:
        return wire.call(overview(Keys(environment.namespace)))


def leader_pid(environment: Environment) -> int:
    seen = look(environment)
    leader = seen.leaders.get(COORDINATOR)
    if leader is None or leader.until <= seen.now:
        return 0
    return int(seen.coordinators.get(leader.holder, {}).get("pid", 0))


@pytest.mark.slow  # a follower looks at the lease every five seconds
def test_another_coordinator_takes_over_when_the_leader_is_stopped(pair: Environment) -> None:
    first = pair.start("coordinator", "start")
    wait_until(lambda: leader_pid(pair) == first.pid, "the first leads", ignore=(Exception,))
    second = pair.start("coordinator", "start")
    wait_until(lambda: len(look(pair).coordinators) == 2, "both are seen")
    term = look(pair).leaders[COORDINATOR].term

    first.send_signal(signal.SIGTERM)

    assert first.wait(timeout=30) == 0
    wait_until(lambda: leader_pid(pair) == second.pid, "the second leads")
    assert look(pair).leaders[COORDINATOR].term > term
    assert len(look(pair).coordinators) == 1
    with open_store(pair.settings(), read_only=True) as store:
        wait_until(
            lambda: [e.subject for e in store.health.events()] == [f"coordinator-{p.pid}" for p in (second, first)],
            "both leaders are events",
        )


@pytest.mark.slow  # a whole process starts
def test_an_emptied_redis_is_one_event_with_what_was_found_and_done(pair: Environment) -> None:
    first = pair.start("coordinator", "start")
    wait_until(lambda: leader_pid(pair) == first.pid, "it leads", ignore=(Exception,))
    assert pair.run("submit", "echo", "--delay", "1h").returncode == 0

    drop_namespace(str(pair.redis_url), pair.namespace)

    wait_until(lambda: leader_pid(pair) == first.pid and look(pair).scheduled == 1, "it leads again", ignore=(NotOpen,))
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=30) == 0
    with open_store(pair.settings(), read_only=True) as store:
        repair, leader = store.health.events()
    assert (repair.kind, leader.kind) == ("repair", "leader")
    assert "lost its data" in repair.message
    assert "1 tasks put back" in repair.message


@pytest.mark.slow  # the suspended leader's lease has to run out
def test_a_suspended_leader_is_followed_and_cannot_keep_the_lock_of_sqlite(embedded: Environment) -> None:
    first = embedded.start("coordinator", "start")
    wait_until(lambda: leader_pid(embedded) == first.pid, "the first leads", ignore=(Exception,))
    second = embedded.start("coordinator", "start")
    wait_until(lambda: len(look(embedded).coordinators) == 2, "both are seen")

    first.send_signal(signal.SIGSTOP)

    wait_until(lambda: leader_pid(embedded) == second.pid, "the second leads", timeout=45)
    assert first.wait(timeout=10) == -signal.SIGKILL


def test_a_coordinator_records_the_whole_journal_before_it_stops(pair: Environment) -> None:
    process = pair.start("coordinator", "start")
    wait_until(lambda: leader_pid(pair) == process.pid, "it leads", ignore=(Exception,))
    keys = Keys(pair.namespace)
    with Wire(BrokerAddress.of(pair.settings())) as wire:
        tasks = [build_submission("echo", {"message": number}) for number in range(500)]
        last = wire.call(submit(keys, tasks)).position
        os.kill(process.pid, signal.SIGTERM)
        assert process.wait(timeout=30) == 0

        assert wire.call(watermark(keys)).covers(last)
    with open_store(pair.settings(), read_only=True) as store:
        assert store.database.rows("SELECT count(*) FROM tasks") == [(500,)]


def test_a_coordinator_refuses_an_empty_redis_at_another_address_than_before(pair: Environment) -> None:
    with open_store(pair.settings()) as store:
        store.pair("par_of_another_redis", 2, "redis://before:6379/0")
        store.database.execute("UPDATE checkpoint SET sequence = 7, rows = 9")

    ended = pair.run("coordinator", "start")

    assert ended.returncode == 78
    for told in ("redis://before:6379/0", BrokerAddress.of(pair.settings()).display, "tqctl doctor --repair"):
        assert told in ended.stderr


def test_coordinators_repair_the_namespace_that_is_lost_under_them(pair: Environment) -> None:
    processes = {pair.start("coordinator", "start").pid for _ in range(2)}
    wait_until(lambda: leader_pid(pair) in processes, "one leads", ignore=(Exception,))
    keys = Keys(pair.namespace)
    with Wire(BrokerAddress.of(pair.settings())) as wire:
        tasks = [build_submission("echo", {"message": number}) for number in range(50)]
        last = wire.call(submit(keys, tasks)).position
        wait_until(lambda: wire.call(watermark(keys)).covers(last), "they are recorded")

        drop_namespace(str(pair.redis_url), pair.namespace)

        wait_until(lambda: leader_pid(pair) in processes, "one leads again", ignore=(Exception,))
        assert wire.call(watermark(keys)).position.epoch in (0, 2)
        assert wire.command("HLEN", keys.build("st")) == 50


def test_a_worker_that_lost_its_lease_with_everything_else_goes_on(pair: Environment) -> None:
    coordinator = pair.start("coordinator", "start")
    wait_until(lambda: leader_pid(pair) == coordinator.pid, "it leads", ignore=(Exception,))
    pair.start("worker", "start", "--lease", "3s")
    wait_until(lambda: len(look(pair).workers) == 1, "the worker joined")
    assert pair.run("submit", "echo", "-p", "message=before", "--wait").returncode == 0

    drop_namespace(str(pair.redis_url), pair.namespace)

    wait_until(lambda: leader_pid(pair) == coordinator.pid, "it leads again", ignore=(Exception,))
    after = pair.run("submit", "echo", "-p", "message=after", "--wait", "--wait-timeout", "30s")
    assert after.returncode == 0, after.stderr


class Ground:
    """One leader's term in a namespace of its own, and roles under it."""

    def __init__(self, url: str, namespace: str, sqlite_url: str) -> None:
        self.settings = Settings(redis_url=url, database_url=sqlite_url, namespace=namespace, lease=3_000)
        self.keys = Keys(namespace)
        self.address = BrokerAddress.of(self.settings)
        self.wire = Wire(self.address)
        self.wire.call(open_gate(self.keys, epoch=1, pairing="par_test"))

    def tools(self, term: int = 1) -> Tools:
        self.elect(term)
        return Tools(self.settings, self.keys, self.wire, open_store(self.settings), term)

    def elect(self, term: int) -> None:
        self.wire.call(elect(self.keys, role=COORDINATOR, holder=f"holder-{term}", term=term, lease_ms=10**12))

    def resign(self, term: int) -> None:
        self.wire.call(elect(self.keys, role=COORDINATOR, holder=f"holder-{term}", term=term, lease_ms=0))


@pytest.fixture
def ground(broker_address_url: str, namespace: str, sqlite_url: str) -> Any:
    made = Ground(broker_address_url, namespace, sqlite_url)
    yield made
    made.wire.close()


@pytest.mark.parametrize("role", [Promoter, Reaper, Pressure])
def test_a_role_of_an_earlier_term_writes_nothing(ground: Ground, role: Callable[[Tools], Role]) -> None:
    stale = role(ground.tools(1))
    stale.run_once()
    ground.resign(1)
    ground.elect(2)

    with pytest.raises(LeaseLost):
        stale.run_once()


def test_the_promoter_moves_what_is_due_and_nothing_else(ground: Ground) -> None:
    now = 1_900_000_000_000
    soon, later = build_submission("echo", {}, delay_ms=1_000), build_submission("echo", {}, delay_ms=5_000)
    ground.wire.call(submit(ground.keys, [soon, later], now=now))
    promoter = Promoter(ground.tools())

    assert [promoter.run_once(now + 999), promoter.run_once(now + 1_000), promoter.run_once(now + 1_000)] == [0, 1, 0]
    assert ground.wire.call(overview(ground.keys)).queues[0].head == soon.id


def test_after_a_gap_the_reaper_waits_for_one_lease(ground: Ground) -> None:
    now, interval = 1_900_000_000_000, int(INTERVAL * 1000)
    reaper = Reaper(ground.tools())
    reaper.run_once(now)
    ground.wire.command("ZADD", ground.keys.build("leases"), now + interval, "wrk_gone")

    after_gap = now + 4 * interval
    ticks = [after_gap + step * interval for step in range(4)]

    assert [reaper.run_once(tick) for tick in ticks] == [0, 0, 0, 1]


def test_lost_workers_are_an_event(ground: Ground) -> None:
    now, interval = 1_900_000_000_000, int(INTERVAL * 1000)
    tools = ground.tools()
    reaper = Reaper(tools)
    ground.wire.command("ZADD", ground.keys.build("leases"), now, "wrk_gone")
    for step in range(6):
        reaper.run_once(now + step * interval)

    tools.recoveries.flush(tools.store)

    events = [event for event in tools.store.health.events() if event.kind == "worker"]
    assert [event.message for event in events] == ["1 lost, 0 tasks taken back"]


def test_submits_answer_busy_while_memory_is_short(own_redis: RedisServer, namespace: str, sqlite_url: str) -> None:
    ground = Ground(own_redis.url, namespace, sqlite_url)
    pressure = Pressure(ground.tools())
    ground.wire.command("SET", "filler", "x" * 20_000_000)
    used = int(ground.wire.call(server_info("memory"))["used_memory"])
    ground.wire.command("CONFIG", "SET", "maxmemory", int(used * 1.1))
    assert is_memory_short(ground.wire.call(server_info("memory")))

    pressure.run_once()
    with pytest.raises(Busy, match="memory"):
        ground.wire.call(submit(ground.keys, [build_submission("echo", {})]))

    ground.wire.command("CONFIG", "SET", "maxmemory", 0)
    pressure.run_once()
    assert ground.wire.call(submit(ground.keys, [build_submission("echo", {})])).accepted[0].state is not None
    ground.wire.close()


class Script(Role):
    """A role whose steps are scripted: numbers are done, exceptions raised; then it stops the runner."""

    def __init__(self, steps: list[int | Exception], at_end: Callable[[], object]) -> None:
        self.steps = steps
        self.at_end = at_end
        self.built = 0

    def build(self, _: Tools) -> Role:
        self.built += 1
        return self

    def run_once(self) -> int:
        step = self.steps.pop(0)
        if not self.steps:
            self.at_end()
        if isinstance(step, Exception):
            raise step
        return step


class Lead(Leader):
    """A leader for as long as nobody doubts it."""

    def __init__(self) -> None:
        self.doubts: list[str] = []

    @property
    def term(self) -> int | None:
        return None if self.doubts else 1

    def doubt(self, why: str) -> None:
        self.doubts.append(why)


def run_role(
    sqlite_url: str, steps: list[int | Exception], *, drains: bool = False, interval: float = 0.0
) -> tuple[RoleRunner, Script, Lead]:
    async def scenario() -> tuple[RoleRunner, Script, Lead]:
        loop = asyncio.get_running_loop()
        halt, lead = asyncio.Event(), Lead()
        script = Script(steps, lambda: loop.call_soon_threadsafe(halt.set))
        if drains:
            halt.set()
        runner = RoleRunner(
            RoleSpec("scripted", interval, script.build, drains=drains),
            Settings(database_url=sqlite_url),
            Keys("unused"),
            BrokerAddress(path="/nowhere"),
            lead,
            term=1,
            halt=halt,
            hurry=asyncio.Event(),
            recoveries=Recoveries(),
        )
        await runner.run()
        return runner, script, lead

    return asyncio.run(scenario())


def test_a_role_goes_on_after_a_store_was_away(sqlite_url: str) -> None:
    runner, script, lead = run_role(sqlite_url, [1, RecordUnavailable("away"), 1, 0])

    assert (script.steps, script.built, lead.doubts, runner.problem) == ([], 1, [], None)


def test_a_role_that_could_not_work_tries_again_before_its_next_turn(sqlite_url: str) -> None:
    _, script, _ = run_role(sqlite_url, [RecordUnavailable("away"), ValueError("odd"), 1, 0], interval=3_600.0)

    assert script.steps == []


def test_a_role_with_a_bug_is_built_anew_and_its_trouble_is_told(sqlite_url: str) -> None:
    runner, script, lead = run_role(sqlite_url, [1, ValueError("odd"), 1, ConfigError("broken")])

    assert (script.steps, script.built, lead.doubts) == ([], 2, [])
    assert runner.problem == "broken"


def test_a_refused_write_ends_the_leadership_and_the_role(sqlite_url: str) -> None:
    _, script, lead = run_role(sqlite_url, [1, LeaseLost("term 1 is over"), 99])

    assert script.steps == [99]
    assert lead.doubts == ["scripted: term 1 is over"]


def test_a_draining_role_works_until_nothing_is_left(sqlite_url: str) -> None:
    _, script, _ = run_role(sqlite_url, [500, 20, 0, 99], drains=True)

    assert script.steps == [99]
