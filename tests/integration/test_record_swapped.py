"""A file of SQLite that is put in the record's place under those who have it open: nobody works in the old one."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.recorder_stage import Stage, drain
from tests.integration.test_coordinator import leader_pid
from tests.support.environment import Environment
from tests.support.wait import wait_until
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.calls import submit, watermark
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import RecordUnavailable
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.record import open_store
from tqctl_runtime.record.sqlite import SqliteDatabase

pytestmark = pytest.mark.parametrize("pair", ["valkey+sqlite"], indirect=True)


def place(settings: Settings) -> Path:
    return Path(settings.record_url.removeprefix("sqlite:///"))


def copy(path: Path) -> Path:
    """A copy of the record beside it, as it is now."""
    made = path.with_name("copy.db")
    with sqlite3.connect(path) as connection:
        connection.execute("VACUUM INTO ?", (str(made),))
    connection.close()
    return made


def swap(made: Path, path: Path) -> None:
    """*made* is put in the place of the file at *path*, whose log goes with it."""
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    made.replace(path)


def recorded(settings: Settings) -> set[str]:
    """The ids in the file that the path leads to now."""
    with open_store(settings, read_only=True) as store:
        return {row[0] for row in store.database.rows("SELECT id FROM tasks")}


def send(settings: Settings, count: int) -> set[str]:
    wanted = [build_submission("echo", {"n": n}) for n in range(count)]
    with Wire(BrokerAddress.of(settings)) as wire:
        return {accepted.id for accepted in wire.call(submit(Keys(settings.namespace), wanted)).accepted}


def test_a_recorder_tells_nothing_of_a_file_that_was_replaced_and_replays_into_the_one_that_is_there(
    stage: Stage,
) -> None:
    path = place(stage.settings)
    recorder = stage.recorder(stage.elect("c"))
    ids = stage.submit(2)
    drain(recorder)
    older = copy(path)
    ids += stage.submit(2)
    drain(recorder)
    told = stage.watermark().position.seq
    swap(older, path)
    ids += stage.submit(2)

    with pytest.raises(RecordUnavailable, match="another file was put in its place"):
        recorder.run_once()
    assert stage.watermark().position.seq == told
    assert recorded(stage.settings) == set(ids[:2])

    drain(recorder)
    assert recorded(stage.settings) == set(ids)
    assert stage.watermark().position.seq == stage.end().seq


def test_what_is_committed_into_a_file_that_goes_away_meanwhile_is_not_told_as_recorded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = place(stage.settings)
    recorder = stage.recorder(stage.elect("c"))
    drain(recorder)
    older, whole = copy(path), SqliteDatabase.execute

    def late(self: SqliteDatabase, statement: str, values: Sequence[Any] = ()) -> int:
        if statement != "COMMIT" or not older.exists():
            return whole(self, statement, values)
        with self.guarded():
            self.connection.execute(statement)
            swap(older, path)
        return 0

    (new,) = stage.submit(1)
    monkeypatch.setattr(SqliteDatabase, "execute", late)

    with pytest.raises(RecordUnavailable):
        recorder.run_once()
    assert stage.watermark().position.seq < stage.end().seq

    drain(recorder)
    assert recorded(stage.settings) == {new}


def test_a_file_that_is_taken_away_is_waited_for_and_not_replaced_by_an_empty_one(stage: Stage) -> None:
    path = place(stage.settings)
    recorder = stage.recorder(stage.elect("c"))
    ids = stage.submit(2)
    drain(recorder)
    older = copy(path)
    path.unlink()
    ids += stage.submit(1)

    for _ in range(2):
        with pytest.raises(RecordUnavailable):
            recorder.run_once()
    assert not path.exists()

    swap(older, path)
    drain(recorder)
    assert recorded(stage.settings) == set(ids)


def test_a_reader_that_stays_reads_the_file_that_is_there(stage: Stage) -> None:
    path = place(stage.settings)
    with open_store(stage.settings, read_only=True) as reader:
        assert reader.lookup.states(stage.submit(1)) == {}
        older = copy(path)
        with sqlite3.connect(older) as other:
            other.execute("UPDATE checkpoint SET broker = 'elsewhere'")
        other.close()
        swap(older, path)

        with pytest.raises(RecordUnavailable):
            reader.paired()
        paired = reader.paired()

    assert paired is not None
    assert paired[1] == "elsewhere"


def test_a_link_that_leads_to_another_file_counts_as_another_file(stage: Stage, tmp_path: Path) -> None:
    path, link = place(stage.settings), tmp_path / "link.db"
    older = copy(path)
    link.symlink_to(path)
    with open_store(Settings(database_url=f"sqlite:///{link}")) as store:
        store.database.execute("UPDATE checkpoint SET broker = 'one'")
        (tmp_path / "next.db").symlink_to(older)
        (tmp_path / "next.db").replace(link)

        with pytest.raises(RecordUnavailable):
            store.database.execute("UPDATE checkpoint SET broker = 'two'")
        store.database.execute("UPDATE checkpoint SET broker = 'two'")

    with sqlite3.connect(older) as other:
        assert other.execute("SELECT broker FROM checkpoint").fetchall() == [("two",)]
    other.close()


@pytest.mark.parametrize("trimmed", [False, True], ids=["replayed", "repaired"])
def test_a_coordinator_at_work_brings_a_copy_up_that_was_put_in_the_records_place(
    pair: Environment, trimmed: bool
) -> None:
    settings = pair.settings()
    path = place(settings)
    process = pair.start("coordinator", "start")
    wait_until(lambda: leader_pid(pair) == process.pid, "it leads", ignore=(Exception,))
    ids = send(settings, 3)
    wait_until(lambda: recorded(settings) == ids, "the first are recorded")
    older = copy(path)
    ids |= send(settings, 2)
    wait_until(lambda: recorded(settings) == ids, "the next are recorded too")
    if trimmed:
        with redis.Redis.from_url(str(pair.redis_url), protocol=2) as client:
            client.xtrim(Keys(settings.namespace).build("journal"), maxlen=0, approximate=False)
    swap(older, path)
    ids |= send(settings, 2)

    wait_until(lambda: recorded(settings) == ids, "everything is in the file that is there", ignore=(Exception,))

    def leads() -> bool:
        with Wire(BrokerAddress.of(settings)) as wire:
            mark = wire.call(watermark(Keys(settings.namespace)))
        return mark.position.epoch == (2 if trimmed else 1) and leader_pid(pair) == process.pid

    wait_until(leads, "it leads and records in one epoch", ignore=(Exception,))
