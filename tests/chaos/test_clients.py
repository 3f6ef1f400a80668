"""Clients that repeat themselves, are killed, change their mind (scenarios 25, 26)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage
from tqctl_runtime.broker import calls
from tqctl_runtime.core.states import State

Scale = Callable[[int, int], int]
Measured = Callable[..., None]

#: Submits every key of its list, tells each acknowledged one, and begins again with what is left after an error.
_CLIENT = """
import json, random, sys
from tqctl_runtime.client import Client
from tqctl_runtime.config import load_settings
seed, count = map(int, sys.argv[1:])
keys = [f"key-{number}" for number in range(count)]
random.Random(seed).shuffle(keys)
with Client(load_settings()) as client:
    for key in keys:
        task = client.submit("work", {"ms": 1}, idempotency_key=key)
        print(json.dumps([key, task]), flush=True)
"""


def test_many_clients_with_the_same_keys_make_one_task_a_key(stage: Stage, scale: Scale, measured: Measured) -> None:
    """Scenario 25: eight clients submit the same keys in different order; half of them are killed on the way."""
    assert stage.server is not None
    keys, clients = scale(200, 2_000), 8
    stage.tap.last(1)
    stage.coordinator()
    stage.worker()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _CLIENT, str(stage.rng.randrange(1 << 30)), str(keys)],
            env=stage.environment.env,
            cwd=stage.environment.home,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(clients)
    ]
    for number, client in enumerate(started[: clients // 2]):
        stage.wait_effects((number + 1) * keys // clients)
        client.send_signal(signal.SIGKILL)
        stage.tell(f"client {client.pid} is killed")
    told: dict[str, set[str]] = {}
    for client in started:
        lines = [line for line in client.communicate(timeout=100)[0].splitlines() if line.endswith("]")]
        for key, task in map(json.loads, lines):
            told.setdefault(key, set()).add(task)
    assert [client.returncode for client in started[clients // 2 :]] == [0] * (clients - clients // 2)
    ids = sorted(task for tasks in told.values() for task in tasks)
    stage.drain(ids)

    figures = assert_world(stage, ids)

    assert len(told) == keys
    assert [key for key, tasks in told.items() if len(tasks) != 1] == []
    assert stage.sql("SELECT count(*), count(DISTINCT idempotency_key) FROM tasks") == [(keys, keys)]
    assert figures.repeated == 0
    measured(figures, keys=keys, clients=clients, killed=clients // 2)


def test_cancels_race_with_everything_and_nothing_starts_after_one_was_acknowledged(
    stage: Stage, scale: Scale, measured: Measured
) -> None:
    """Scenario 26: queued, claimed, running, finishing and retrying tasks are cancelled by four threads."""
    assert stage.server is not None
    races = scale(1_000, 10_000)
    stage.tap.last(1)
    stage.coordinator()
    for _ in range(2):
        stage.worker()
    rng = stage.rng
    items: list[tuple[str, dict[str, Any]]] = [
        rng.choice([("work", {"ms": rng.choice([0, 1, 5, 30])}), ("flaky", {"ms": 1}), ("async_work", {"ms": 5})])
        for _ in range(races)
    ]
    answers: dict[str, tuple[int, int]] = {}
    lock = threading.Lock()

    def cancel(part: list[str]) -> None:
        with stage_wire(stage) as wire:
            for task_id in part:
                reply = wire.call_idempotent(calls.cancel(stage.keys, [task_id], reason="changed my mind", who="chaos"))
                with lock:
                    answers[task_id] = (reply.codes[0], time.time_ns())

    ids: list[str] = []

    def are_few() -> bool:
        return len(stage.effects()) >= len(ids) - len(answers) - 8

    with ThreadPoolExecutor(4) as pool:
        for start in range(0, races, 20):
            # Few enough in line that a cancel meets its task anywhere: in line, handed out, running, ended.
            stage.until(are_few, "few tasks are left")
            made = stage.client.submit_many(items[start : start + 20])
            ids += made
            doomed = rng.sample(made, 12)
            pool.submit(cancel, doomed[:6])
            pool.submit(cancel, doomed[6:])
    stage.drain(ids)
    ends = {row[0]: State(row[1]) for row in stage.sql("SELECT id, state FROM tasks WHERE state = 'cancelled'")}

    figures = assert_world(stage, ids, ends=ends)

    outcomes = [code for code, _ in answers.values()]
    at_once = {task_id: at for task_id, (code, at) in answers.items() if code == calls.CANCELLED}
    assert at_once.keys() <= ends.keys(), "what was said to be cancelled is cancelled"
    assert ends.keys() <= answers.keys(), "nothing is cancelled that nobody cancelled"
    late = [task_id for task_id, at in stage.effect_times() if task_id in at_once and at > at_once[task_id]]
    assert late == [], "nothing starts once its cancel was acknowledged"
    measured(
        figures,
        cancels=len(answers),
        final_at_once=outcomes.count(calls.CANCELLED),
        requested=outcomes.count(calls.REQUESTED),
        too_late=len(outcomes) - outcomes.count(calls.CANCELLED) - outcomes.count(calls.REQUESTED),
        cancelled=len(ends),
    )


def stage_wire(stage: Stage) -> Any:
    """A connection of its own."""
    from tqctl_runtime.broker.address import BrokerAddress
    from tqctl_runtime.broker.wire import Wire

    return Wire(BrokerAddress.of(stage.settings))
