"""The way between a worker and its broker is cut, silent or lossy (scenarios 6, 18, 19)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from tests.chaos import hooked
from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage
from tests.chaos.test_workers import executors, has_refused
from tests.integration.worker_rig import is_alive
from tests.support.proxy import Proxy

Scale = Callable[[int, int], int]
Measured = Callable[..., None]


def assert_cut_off_worker_ends_its_work(
    stage: Stage,
    worker: subprocess.Popen[str],
    cut: Callable[[], None],
    heal: Callable[[], None],
    rounds: int,
    *,
    gives_back: bool = False,
) -> list[str]:
    """Cut *worker* off again and again while it holds tasks; the ids of all tasks.

    *gives_back*: it can still say that it ended them, in time; otherwise it says so too late and is refused.
    """
    ids: list[str] = []
    for number in range(rounds):
        until = stage.environment.home / f"until{number}"
        new = stage.submit("hold", stage.concurrency, {"until": str(until)}, queue="slow")
        ids += new
        stage.wait_effects(len(ids))
        known = stage.until(partial(stage.find_worker, worker.pid), "it is registered")
        running = executors(worker.pid)
        assert running
        before = stage.overview().counters.get("stale", 0)
        cut()
        stage.tell("the worker is cut off")
        stage.until(lambda: not any(is_alive(pid) for pid in running), "its executors have ended")  # noqa: B023
        fenced = time.time_ns()
        stage.until(partial(stage.tap.is_lost, known.id), "it is taken for dead")
        heir = stage.worker("--queues", "slow", TQCTL_LEASE="60s")
        stage.until(partial(have_run, stage, new, 2), "the second runs")
        until.touch()
        stage.drain(ids)
        late = [at for task_id, at in stage.effect_times() if task_id in new and at > fenced]
        assert len(late) == len(new), "no second run began before the first had ended"
        stage.kill(heir, 15)
        heal()
        if not gives_back:
            stage.until(partial(has_refused, stage, before + 1), "what it offers is refused")
        stage.until(partial(has_joined_again, stage, worker.pid, known.id), "it joins again")
    return ids


def have_run(stage: Stage, ids: list[str], times: int) -> bool:
    """Whether each of *ids* had its effect that often."""
    runs = stage.effects()
    return all(runs[task_id] >= times for task_id in ids)


def has_joined_again(stage: Stage, pid: int, old: str) -> bool:
    """Whether the worker *pid* is known by another id than *old*."""
    now = stage.find_worker(pid)
    return now is not None and now.id != old


def test_a_worker_cut_off_from_the_broker_ends_what_it_runs_before_others_begin(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 18: the link is reset and refused; after it heals nothing of the old run is accepted."""
    assert stage.server is not None
    rounds = scale(2, 8)
    stage.tap.last(1)
    stage.coordinator()
    with Proxy(stage.server.url) as proxy:
        worker = stage.worker("--queues", "slow", TQCTL_REDIS_URL=proxy.url)
        ids = assert_cut_off_worker_ends_its_work(stage, worker, proxy.refuse, proxy.resume, rounds)

        figures = assert_world(stage, ids, healthy_deaths=True)

    assert figures.repeated == len(ids)
    measured(figures, partitions=rounds)


def test_a_worker_behind_a_silent_link_ends_what_it_runs_before_others_begin(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 18: half open, nothing is refused and nothing arrives."""
    assert stage.server is not None
    rounds = scale(1, 4)
    stage.tap.last(1)
    stage.coordinator()
    with Proxy(stage.server.url) as proxy:
        worker = stage.worker("--queues", "slow", TQCTL_REDIS_URL=proxy.url)
        ids = assert_cut_off_worker_ends_its_work(stage, worker, proxy.pause, proxy.resume, rounds)

        figures = assert_world(stage, ids, healthy_deaths=True)

    measured(figures, silences=rounds)


@pytest.fixture
def island(stage: Stage) -> Iterator[tuple[list[str], str, str]]:
    """A network namespace: the words that run a program in it, the broker's address there, and our end of its cable."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("not run, missing: root and iproute2 for a network namespace")
    name = f"tq{os.getpid() % 100_000}"
    near, far, net = f"{name}a", f"{name}b", f"10.{os.getpid() % 200 + 20}.{os.getpid() // 200 % 250}"
    made = subprocess.run(
        f"ip netns add {name} && ip link add {near} type veth peer name {far} && ip link set {far} netns {name}"
        f" && ip addr add {net}.1/24 dev {near} && ip link set {near} up"
        f" && ip netns exec {name} ip addr add {net}.2/24 dev {far} && ip netns exec {name} ip link set {far} up",
        shell=True,
        capture_output=True,
        text=True,
    )
    try:
        if made.returncode:
            pytest.skip(f"not run, missing: a network namespace ({made.stderr.strip()})")
        yield ["ip", "netns", "exec", name], f"{net}.1", near
    finally:
        subprocess.run(f"ip netns del {name}; ip link del {near}", shell=True, capture_output=True)


@pytest.mark.root
def test_a_worker_in_a_network_that_loses_its_cable_ends_what_it_runs_before_others_begin(
    stage: Stage, island: tuple[list[str], str, str], scale: Scale, measured: Measured
) -> None:
    """Scenario 18, with a real interface that goes down."""
    inside, address, cable = island
    assert stage.server is not None
    rounds = scale(1, 4)
    stage.tap.last(1)
    stage.server.listen_on(address)
    stage.coordinator()
    words = [*inside, sys.executable, "-m", "tqctl"]
    url = stage.server.url.replace("127.0.0.1", address)
    worker = stage.worker("--queues", "slow", command=words, TQCTL_REDIS_URL=url)

    def set_cable(state: str) -> None:
        subprocess.run(["ip", "link", "set", cable, state], check=True)

    ids = assert_cut_off_worker_ends_its_work(
        stage, worker, partial(set_cable, "down"), partial(set_cable, "up"), rounds
    )

    figures = assert_world(stage, ids, healthy_deaths=True)

    measured(figures, unplugged=rounds)


def test_a_worker_whose_heartbeats_do_not_leave_ends_what_it_runs_before_others_begin(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 6: the supervisor lives and talks, but its lease is not renewed."""
    rounds = scale(1, 4)
    stage.tap.last(1)
    stage.coordinator()
    deaf = stage.environment.home / "deaf"
    worker = stage.worker("--queues", "slow", command=hooked.COMMAND, **{hooked.HOOKS: json.dumps({"deaf": str(deaf)})})
    ids = assert_cut_off_worker_ends_its_work(stage, worker, deaf.touch, deaf.unlink, rounds, gives_back=True)

    figures = assert_world(stage, ids)

    measured(figures, silenced=rounds)


def test_workers_go_on_claiming_after_each_broken_connection(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 19: the server drops its clients, the proxy goes silent and resets; no worker stays deaf."""
    assert stage.server is not None
    cycles, silences = scale(10, 100), scale(1, 5)
    stage.tap.last(1)
    stage.coordinator()
    ids: list[str] = []
    with Proxy(stage.server.url) as proxy:
        stage.worker(TQCTL_REDIS_URL=proxy.url, TQCTL_LEASE="30s")

        def assert_heard() -> None:
            ids.extend(stage.submit("work", 3))
            stage.wait_effects(len(ids))

        for _ in range(cycles):
            stage.server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            stage.until(lambda: stage.wire.command("PING"), "we are connected again")
            assert_heard()
            proxy.cut()
            assert_heard()
        for _ in range(silences):
            accepted = proxy.accepted
            proxy.pause()
            stage.until(lambda: proxy.accepted > accepted, "the worker gave the connection up")  # noqa: B023
            proxy.cut()
            proxy.resume()
            assert_heard()
        stage.drain(ids)

        figures = assert_world(stage, ids)

    assert figures.repeated == 0
    measured(figures, drops=cycles, resets=cycles, silences=silences)
