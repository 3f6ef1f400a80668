"""Every call of the broker through both clients on both servers: the same decoded answers, the same errors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.contract.link_side import AsyncioWire
from tests.support.servers import RedisServer
from tqctl_runtime.broker import calls, leader_calls, views, worker_calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.calls import Position, Watched
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import Election, Opened
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import BrokerUnavailable, Busy, LeaseLost, StoresDiffer
from tqctl_runtime.core.serializer import unpack_stream
from tqctl_runtime.core.states import Outcome, State
from tqctl_runtime.core.submission import Submission

NOW = 1_800_000_000_000
Client = Wire | AsyncioWire
TASK = Submission(id="A", handler="echo", payload=b'{"n":1}')


@pytest.fixture(params=["wire", "link"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Client]]:
    """Connects the client under test."""
    made: list[Client] = []

    def connect_to(url: str) -> Client:
        address = BrokerAddress.parse(url)
        made.append(Wire(address) if request.param == "wire" else AsyncioWire(address))
        return made[-1]

    yield connect_to
    for client in made:
        client.close()


@pytest.fixture
def client(connect: Callable[[str], Client], broker_address_url: str) -> Client:
    return connect(broker_address_url)


@pytest.fixture
def keys(namespace: str) -> Keys:
    return Keys(namespace)


class Script:
    """A conversation: asks through *client* and remembers which builders were used."""

    def __init__(self, client: Client, keys: Keys) -> None:
        self.client, self.keys = client, keys
        self.used: set[str] = set()

    def ask(self, build: Callable[..., Call[Any]], *words: Any, **options: Any) -> Any:
        self.used.add(build.__name__)
        if "now" in inspect.signature(build).parameters:
            options["now"] = NOW
        return self.client.call(build(self.keys, *words, **options))


def builders() -> set[str]:
    """All public functions that build a call of a namespace."""
    found = set()
    for module in (calls, views, worker_calls, leader_calls):
        for name, function in inspect.getmembers(module, inspect.isfunction):
            is_own = function.__module__ == module.__name__ and not name.startswith("_")
            if is_own and next(iter(inspect.signature(function).parameters), "") == "keys":
                found.add(name)
    return found


def test_every_call_is_carried_and_decoded_alike(client: Client, keys: Keys) -> None:
    story = Script(client, keys)
    ask = story.ask
    _open_and_lead(ask)
    token = _submit_and_claim(ask)
    _finish_and_wait(ask, token)
    _operate(ask)
    _record_and_forget(ask)
    _look_around(ask)
    assert story.used == builders()


Ask = Callable[..., Any]


def _open_and_lead(ask: Ask) -> None:
    assert ask(calls.journal_position) is None
    assert ask(leader_calls.pairing) is None
    assert ask(leader_calls.open_gate, epoch=1, pairing="p") == Opened(1, "p", is_new=True)
    assert ask(leader_calls.pairing) == (1, "p")
    election = ask(leader_calls.elect, role="coordinator", holder="c1", term=1, lease_ms=5_000)
    assert election == Election(True, "c1", 1, NOW + 5_000)
    assert ask(leader_calls.reap, term=1, interval_ms=1_000, lease_ms=3_000) == leader_calls.Reaped(NOW, 0, 0, 0)
    marks = {"busy_rows": 99, "busy_bytes": 10**9, "stop_rows": 99, "stop_bytes": 10**9}
    assert ask(leader_calls.set_marks, term=1, is_memory_short=False, **marks) == Position(1, 0)
    assert ask(leader_calls.coordinator_beat, "c1", {"pid": 1}) > 0


def _submit_and_claim(ask: Ask) -> str:
    assert ask(worker_calls.wait_for_bell, ["default"], seconds=0.01) is False
    reply = ask(calls.submit, [TASK, Submission(id="B", handler="echo", payload=b"{}", delay_ms=1)])
    assert (reply.position, reply.is_recorder_alive) == (Position(1, 1), False)
    assert [(one.id, one.state) for one in reply.accepted] == [("A", State.QUEUED), ("B", State.SCHEDULED)]
    assert ask(worker_calls.wait_for_bell, ["default"], seconds=5) is True
    row = {"name": "echo", "queue": "default"}
    assert ask(worker_calls.register, "w1", lease_ms=3_000, info={"name": "a"}, rows=[row])
    assert ask(calls.catalogue_row, "echo") == row
    assert ask(calls.catalogue_row, "nosuch") is None
    assert ask(calls.catalogue)["echo"] == row
    (held,) = ask(worker_calls.round_, "w1", 1, places=5, queues=["default"]).claimed
    assert (held.id, held.envelope, held.created_at) == ("A", TASK.envelope(), NOW)
    return str(held.token)


def _finish_and_wait(ask: Ask, token: str) -> None:
    assert ask(calls.watch, ["A"]) == [Watched("A", State.QUEUED, 1, is_forgotten=False, detail=b"")]
    assert ask(worker_calls.note, [("A", token, '{"percent":50}', b"line\n")]) is None
    beat = ask(
        worker_calls.heartbeat, "w1", lease_ms=3_000, held=[("A", token), ("X", "y")], answered=0, figures={"busy": 1}
    )
    assert (beat.now, beat.is_known, beat.lost, beat.cancelled) == (NOW, True, ["X"], {})
    (chunk,) = ask(views.log_entries, "A")
    assert chunk[1:] == (0, b"line\n")
    started = worker_calls.started("A", token, 7)
    finished = worker_calls.finished("A", token, Outcome.SUCCEEDED, since_start_ms=7, detail=b"\x00\xff")
    reply = ask(worker_calls.round_, "w1", 2, places=0, queues=[], started=[started], finished=[finished])
    assert (reply.now, reply.codes, reply.claimed) == (NOW, [1], [])
    assert ask(calls.watch, ["A", "X"]) == [
        Watched("A", State.SUCCEEDED, 3, is_forgotten=False, detail=b"\x00\xff"),
        Watched("X", None, 0, is_forgotten=False, detail=b""),
    ]


def _operate(ask: Ask) -> None:
    assert ask(calls.retry, [("B", None), ("X", None)], reason="", who="me").codes == [1, 0]
    assert ask(calls.pause, "default", for_ms=1_000, reason="r", who="me") == NOW + 1_000
    assert ask(calls.resume, "default", who="me") is True
    assert ask(calls.resume, "default", who="me") is False
    assert ask(calls.purge, "default", reason="r", who="me") == (1, 0)
    assert ask(calls.cancel, ["A", "B", "X"], reason="r", who="me").codes == [3, 3, 0]
    assert ask(calls.discard, ["A"], reason="r", who="me") == 8
    assert ask(leader_calls.promote, term=1) == (0, 0)


def _record_and_forget(ask: Ask) -> None:
    entries = ask(leader_calls.read_journal, "0-0", count=100)
    assert [(entry.epoch, entry.seq) for entry in entries] == [(1, number) for number in range(1, 9)]
    assert [unpack_stream(entry.rows)[0][0] for entry in entries] == [b"S", b"K", b"R", b"T", b"K", b"K", b"T", b"L"]
    assert ask(leader_calls.read_journal, entries[-1].stream_id, count=1, block_ms=1) == []
    assert ask(leader_calls.journal_last) == entries[-1].stream_id
    assert ask(calls.watermark) == calls.Watermark(Position(0, 0), 0, 0, 0)
    published = ask(
        leader_calls.publish, term=1, epoch=1, seq=8, stream_id=entries[-1].stream_id, rows=11, size=500, keep_ms=0
    )
    assert (published.now, published.seq) == (NOW, 8)
    assert ask(calls.watermark) == calls.Watermark(Position(1, 8), 11, 500, NOW)
    assert ask(calls.journal_position) == Position(1, 8)
    assert ask(leader_calls.forget, [("A", 3), ("B", 3)], term=1) == ["A"]
    assert ask(leader_calls.forget, [("A", 3)], term=1, wait_ms=0) == []


def _look_around(ask: Ask) -> None:
    assert ask(views.look, ["A", "B"]) == [None, None]
    assert ask(calls.submit, [TASK]).accepted[0].is_known
    seen = ask(views.overview)
    assert (seen.now, seen.meta["epoch"], seen.handlers, seen.scheduled) == (NOW, "1", 1, 0)
    assert [(one.id, one.held, one.figures) for one in seen.workers] == [("w1", 0, {"busy": 1})]
    assert ask(worker_calls.deregister, "w1") == 0


def test_the_server_tells_of_itself(client: Client) -> None:
    info = client.call(leader_calls.server_info("server", "memory"))
    assert {"redis_version", "run_id", "maxmemory_policy", "used_memory"} <= info.keys()


def test_a_namespace_that_is_not_open_is_unavailable(client: Client, keys: Keys) -> None:
    with pytest.raises(BrokerUnavailable, match="not open") as error:
        client.call(calls.submit(keys, [TASK]))
    assert error.value.hint is not None


def test_refusals_come_as_our_errors(client: Client, keys: Keys) -> None:
    client.call(leader_calls.open_gate(keys, epoch=1, pairing="p"))
    with pytest.raises(LeaseLost, match="term 5 of coordinator is over"):
        client.call(leader_calls.promote(keys, term=5))
    client.call(worker_calls.round_(keys, "w1", 2, places=0, queues=[]))
    with pytest.raises(LeaseLost, match="answered before"):
        client.call(worker_calls.round_(keys, "w1", 1, places=0, queues=[]))
    client.call(Call("hset", ["HSET", keys.meta, "memory_busy", "1"], int))
    with pytest.raises(Busy) as busy:
        client.call(calls.submit(keys, [TASK]))
    assert busy.value.retry_after == 1
    client.call(Call("hset", ["HSET", keys.meta, "layout", "99"], int))
    with pytest.raises(StoresDiffer, match="layout 99"):
        client.call(calls.submit(keys, [TASK]))


def test_a_full_server_is_busy(connect: Callable[[str], Client], own_redis: RedisServer, keys: Keys) -> None:
    client = connect(own_redis.url)
    client.call(leader_calls.open_gate(keys, epoch=1, pairing="p"))
    client.call(Call("config", ["CONFIG", "SET", "maxmemory", "1mb"], lambda reply: reply))
    with pytest.raises(Busy, match="memory is full"):
        client.call(calls.submit(keys, [TASK]))
    assert client.call(worker_calls.register(keys, "w1", lease_ms=1_000, info={}, rows=[]))
