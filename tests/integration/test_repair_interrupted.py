"""A repair that is killed anywhere, or meets another one, ends as one that was let alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from tests.integration.loss import copy_namespace, lose_everything, put_namespace_back, record, reopen, started
from tests.integration.recorder_stage import Stage, drain
from tests.support.environment import Environment
from tests.support.wait import wait_until
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.repair_calls import SILENT_MS
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator.opening import open_namespace
from tqctl_runtime.coordinator.repair import Repair
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.errors import LeaseLost, NeedsRepair, NotOpen, UnderRepair
from tqctl_runtime.core.states import State
from tqctl_runtime.record import open_store

STEPS = ["_drain", "_copy", "_wipe", "_put_back_tasks", "_put_back_rest", "_open"]


class _Killed(BaseException):
    pass


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_repair_that_was_killed_is_followed_by_one_that_ends_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    done, waiting, running = stage.submit(3)
    record(stage)
    before = copy_namespace(stage)
    held = stage.claim(1)
    stage.finish(held, Detail(result=b"1"))
    started(stage, stage.claim(1))
    record(stage, "d")
    put_namespace_back(stage, before)
    (only_in_redis,) = stage.submit()
    whole = getattr(Repair, step)

    def killed(self: Repair, *rest: Any) -> None:
        if moment == "after":
            whole(self, *rest)
        raise _Killed

    for _ in range(2):
        monkeypatch.setattr(Repair, step, killed)
        with pytest.raises(_Killed):
            reopen(stage)
        monkeypatch.undo()
        if (step, moment) == ("_open", "after"):
            break
        with pytest.raises(NotOpen):
            stage.submit()
        with pytest.raises(UnderRepair):
            reopen(stage)
        stage.redis.hincrby(stage.keys.meta, "repair_at", -SILENT_MS)
    reopen(stage)
    record(stage, "e")

    assert stage.live() == {waiting, running, only_in_redis}
    assert stage.states([done]) == {State.SUCCEEDED}
    assert stage.states([waiting, running, only_in_redis]) == {State.QUEUED}
    task = stage.store.lookup.task(waiting)
    assert task is not None
    assert [(one.number, one.outcome) for one in task.attempts] == [(1, "interrupted")]
    assert "repair_term" not in {key.decode() for key in stage.redis.hkeys(stage.keys.meta)}


def test_of_coordinators_that_find_the_loss_at_once_one_repairs_and_the_others_wait(pair: Environment) -> None:
    settings = pair.settings()
    keys = Keys(settings.namespace)

    def one(number: int) -> int:
        with open_store(settings) as store, Wire(BrokerAddress.of(settings)) as wire:
            found: list[int] = []

            def opened() -> bool:
                found.append(open_namespace(store, wire, keys, holder=f"c{number}").epoch)
                return True

            wait_until(opened, "it is open", ignore=(UnderRepair, LeaseLost))
            return found[0]

    with (
        open_store(settings) as store,
        Wire(BrokerAddress.of(settings)) as wire,
        redis.Redis.from_url(str(pair.redis_url)) as client,
    ):
        open_namespace(store, wire, keys)
        stage = Stage(settings, keys, wire, store, client)
        with stage.closing:
            ids = stage.submit(500)
            record(stage)
            lose_everything(stage)
            with ThreadPoolExecutor(4) as pool:
                epochs = list(pool.map(one, range(4)))
            assert set(epochs) == {2}
            assert stage.live() == set(ids)
            assert ["500 tasks put back" in event.message for event in store.health.events()] == [True]


def test_a_recorder_of_before_is_fenced_out_by_a_repair(stage: Stage) -> None:
    ids = stage.submit(2)
    old = stage.recorder(stage.elect("old"))
    drain(old)
    lose_everything(stage)
    reopen(stage)

    with pytest.raises(NeedsRepair):
        old.run_once()
    with pytest.raises(LeaseLost):
        old.run_once()

    record(stage)
    assert stage.states(ids) == {State.QUEUED}
