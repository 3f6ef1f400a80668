"""A PostgreSQL that goes away, says nothing or loses its answer to COMMIT: the journal waits, nothing is doubled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import redis

from tests.integration.recorder_stage import Stage, drain
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer, drop_namespace
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator.opening import open_namespace
from tqctl_runtime.coordinator.recorder import Recorder
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.errors import RecordUnavailable
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import State
from tqctl_runtime.record import open_store, postgres


@pytest.fixture
def proxy(postgres_url: str) -> Iterator[Proxy]:
    with Proxy(postgres_url) as opened:
        yield opened


@pytest.fixture
def stage(redis7: RedisServer, postgres_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    monkeypatch.setattr(postgres, "REPLY_TIMEOUT", 1.0)
    settings = Settings(namespace=namespace, redis_url=redis7.url, database_url=postgres_url)
    client = redis.Redis.from_url(redis7.url, protocol=2)
    with open_store(settings) as store, Wire(BrokerAddress.of(settings)) as wire, client:
        keys = Keys(namespace)
        open_namespace(store, wire, keys)
        ready = Stage(settings, keys, wire, store, client)
        with ready.closing:
            yield ready
    drop_namespace(redis7.url, namespace)


@pytest.fixture
def recorder(stage: Stage, proxy: Proxy) -> Recorder:
    """A recorder that reaches SQL through *proxy*, and has recorded what there was."""
    store = stage.closing.enter_context(open_store(Settings(database_url=proxy.url)))
    wire = stage.closing.enter_context(Wire(BrokerAddress.of(stage.settings)))
    made = Recorder(store=store, wire=wire, keys=stage.keys, term=stage.elect("a"), settings=stage.settings)
    drain(made)
    return made


def finished(stage: Stage, count: int) -> list[str]:
    ids = stage.submit(count)
    stage.finish(stage.claim(), Detail(result=b"1"))
    return ids


def assert_each_once(stage: Stage, ids: list[str]) -> None:
    assert stage.states(ids) == {State.SUCCEEDED}
    rows = stage.store.database.rows("SELECT task_id, COUNT(*) FROM attempts GROUP BY task_id")
    assert sorted(rows) == sorted((task_id, 1) for task_id in ids)
    assert stage.watermark().position == stage.end()
    assert stage.live() == set()


def test_an_outage_of_sql_keeps_the_journal_and_recovers_by_itself(
    stage: Stage, recorder: Recorder, proxy: Proxy
) -> None:
    proxy.refuse()
    ids = finished(stage, 20)
    kept = stage.journal()
    for _ in range(3):
        with pytest.raises(RecordUnavailable):
            recorder.run_once()

    assert stage.store.lookup.states(ids) == {}
    assert stage.journal() == kept
    proxy.resume()
    drain(recorder)
    assert_each_once(stage, ids)


def test_a_server_that_says_nothing_does_not_hold_the_leader(stage: Stage, recorder: Recorder, proxy: Proxy) -> None:
    ids = finished(stage, 20)
    proxy.pause()

    with pytest.raises(RecordUnavailable):
        recorder.run_once()

    proxy.cut()
    proxy.resume()
    drain(recorder)
    assert_each_once(stage, ids)


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_commit_whose_answer_is_lost_is_found_out_from_the_checkpoint(
    stage: Stage, recorder: Recorder, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, direction: Any
) -> None:
    """Held upwards the commit never arrives; held downwards it is done and nobody hears of it."""
    database = recorder._writer._database
    execute = database.execute
    before = stage.store.checkpoint()

    def lose_the_answer(statement: str, values: Sequence[Any] = ()) -> int:
        if statement == "COMMIT":
            proxy.pause(direction)
        return execute(statement, values)

    monkeypatch.setattr(database, "execute", lose_the_answer)
    ids = finished(stage, 20)
    with pytest.raises(RecordUnavailable):
        recorder.run_once()
    monkeypatch.undo()
    proxy.cut()
    proxy.resume()

    # The server ends the other session when it hears of the cut; until then its rows are locked, not lost.
    found = stage.store.checkpoint()
    assert (found == before) == (direction == "up")
    drain(recorder)
    assert_each_once(stage, ids)
