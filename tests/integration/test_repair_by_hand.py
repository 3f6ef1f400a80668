"""``tqctl doctor --repair``: what it shows, what it asks, what it does, and that it leaves alone what is well."""

from __future__ import annotations

import json
from typing import Any

from tests.integration.loss import lose_everything, record
from tests.integration.recorder_stage import Stage
from tests.support.environment import Environment
from tqctl_runtime.broker.leader_calls import pairing
from tqctl_runtime.coordinator.opening import open_namespace


def preview(pair: Environment) -> tuple[int, dict[str, Any]]:
    """The exit code of a preview, and what it shows."""
    said = pair.run("doctor", "--repair", "-n", "-o", "json")
    return said.returncode, json.loads(said.stdout)


def test_an_empty_redis_elsewhere_is_filled_once_somebody_says_so(pair: Environment, stage: Stage) -> None:
    open_namespace(stage.store, stage.wire, stage.keys, place="redis://before:6379/0")
    ids = stage.submit(3)
    record(stage)
    lose_everything(stage)

    code, shown = preview(pair)
    asked = pair.run("doctor", "--repair")
    untouched = stage.redis.exists(stage.keys.meta)
    done = pair.run("doctor", "--repair", "--yes", "-o", "json")

    counts = [shown[name] for name in ("open_in_record", "open_in_redis", "open_only_in_record")]
    assert (code, shown["situation"], counts) == (20, "elsewhere", [3, 0, 3])
    assert "redis://before:6379/0" in shown["message"]
    assert (asked.returncode, untouched) == (6, 0)
    assert "tasks that have not ended: 3 in the record, 0 in Redis" in asked.stderr
    assert (done.returncode, json.loads(done.stdout)["tasks"]) == (0, 3), done.stderr
    assert stage.live() == set(ids)


def test_a_pair_that_is_well_is_not_touched(pair: Environment, stage: Stage) -> None:
    stage.submit(2)
    record(stage)

    code, shown = preview(pair)
    done = pair.run("doctor", "--repair", "--yes")

    assert (code, shown["is_needed"], shown["open_in_record"], shown["open_in_redis"]) == (0, False, 2, 2)
    assert (done.returncode, "nothing to repair" in done.stderr) == (0, True)
    assert stage.wire.call(pairing(stage.keys)) is not None
    assert stage.end().epoch == 1


def test_tasks_that_only_one_store_has_are_brought_together(pair: Environment, stage: Stage) -> None:
    lost, kept, unknown = stage.submit(3)
    record(stage)
    for name in ("st", "env"):
        stage.redis.hdel(stage.keys.build(name), lost)
    stage.redis.zrem(stage.keys.build("ready", "default"), lost)
    stage.store.database.execute("DELETE FROM tasks WHERE id = ?", (unknown,))

    code, shown = preview(pair)
    done = pair.run("doctor", "--repair", "--yes")

    assert (code, shown["situation"], shown["open_only_in_record"], shown["open_only_in_redis"]) == (20, "fine", 1, 1)
    assert done.returncode == 0, done.stderr
    assert stage.live() == {lost, kept, unknown}
    record(stage, "d")
    assert len(stage.states([lost, kept, unknown])) == 1


def test_redis_of_another_pair_is_merged_once_somebody_says_so(pair: Environment, stage: Stage) -> None:
    recorded = stage.submit(1)
    record(stage)
    lose_everything(stage)
    stage.redis.hset(stage.keys.meta, mapping={"epoch": 1, "pairing": "par_other", "layout": 1})
    theirs = stage.submit(2)

    code, shown = preview(pair)
    started = pair.run("coordinator", "start")
    done = pair.run("doctor", "--repair", "--yes")

    assert (code, shown["situation"]) == (20, "other pair")
    assert started.returncode == 78
    assert done.returncode == 0, done.stderr
    assert stage.live() == {*recorded, *theirs}


def test_a_preview_of_nothing_in_particular_is_a_mistake(pair: Environment) -> None:
    assert pair.run("doctor", "-n").returncode == 2
