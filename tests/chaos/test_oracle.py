"""The judge itself: each of its rules is broken on purpose once, and must be found."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.chaos.oracle import assert_world
from tests.chaos.stage import Stage
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.record import open_store

Harm = Callable[[Stage, list[str]], object]


def write(stage: Stage, statement: str) -> None:
    """Change the record behind everybody's back."""
    with open_store(stage.settings) as store:
        store.database.execute(statement)


def forget_entry(stage: Stage) -> None:
    """Lose an entry of the journal."""
    stage.tap._entries.pop(sorted(stage.tap._entries)[1])


def write_late(stage: Stage, ids: list[str]) -> None:
    """Let a worker write after it was taken for dead."""
    place = min(stage.tap._entries)
    gone = next(row[7] for row in stage.tap.rows("F"))
    stage.tap._entries[place].rows.insert(0, ("W", 0, gone, "lost", ""))


HARMS: dict[str, Harm] = {
    "O1": lambda _, ids: ids.append(new_id("tsk")),
    "O2: 1 tasks ended": lambda stage, _: write(stage, "UPDATE tasks SET state = 'dead'"),
    "O2: an attempt": lambda stage, _: write(stage, "UPDATE attempts SET finished_at = NULL"),
    "O3: attempts": lambda stage, _: write(stage, "UPDATE attempts SET number = 2"),
    "O3: epoch 1 has a gap": lambda stage, _: forget_entry(stage),
    "O3: the record is not": lambda stage, _: write(stage, "UPDATE tasks SET version = version + 1"),
    "O3: the checkpoint": lambda stage, _: write(stage, "UPDATE checkpoint SET sequence = sequence - 1"),
    "O5": lambda stage, ids: stage.effects_file.write_text(f"{ids[0]} 1 1\n{ids[0]} 1 2\n"),
    "O6: tasks stand": lambda stage, ids: stage.server_add("ready", "default", ids[0]),
    "O6: keys are left": lambda stage, _: stage.wire.command("SET", f"{stage.keys.prefix}odd", "1"),
    "O7": write_late,
}


@pytest.mark.in_make_test
def test_the_judge_finds_each_broken_rule(valkey_stage: Stage) -> None:
    stage = valkey_stage
    stage.tap.last(1)
    processes = [stage.coordinator(), stage.worker()]
    ids = stage.submit("work", 1)
    stage.drain(ids)
    assert_world(stage, ids)

    for process in processes:
        stage.kill(process)
    files = {path: path.read_bytes() for path in stage.environment.home.glob("record.db*")}
    entries, effects = dict(stage.tap._entries), stage.effects_file.read_text()
    for rule, harm in HARMS.items():
        acknowledged = list(ids)
        harm(stage, acknowledged)
        with pytest.raises(AssertionError, match=rule):
            assert_world(stage, acknowledged)
        for path in stage.environment.home.glob("record.db*"):
            path.unlink()
        for path, data in files.items():
            path.write_bytes(data)
        stage.tap._entries = {
            key: value._replace(rows=[row for row in value.rows if row[1]]) for key, value in entries.items()
        }
        stage.effects_file.write_text(effects)
        stage.wire.command("DEL", f"{stage.keys.prefix}odd", stage.keys.build("ready", "default"))
    assert_world(stage, ids)
