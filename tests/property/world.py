"""Both worlds in one shape: what the broker really holds, and what the model says it must hold."""

from __future__ import annotations

from typing import Any

import redis

from tests.property.model import Model
from tests.scripts.rig import Rig, Row, decode_line, read_row
from tqctl_runtime.core.serializer import unpack_stream
from tqctl_runtime.core.states import STATE_CODES, State

QUEUES = ("a", "b")
World = dict[str, Any]


def _text(flat: list[bytes]) -> dict[str, str]:
    return {flat[at].decode(): flat[at + 1].decode("latin-1") for at in range(0, len(flat), 2)}


def _scores(flat: list[bytes]) -> dict[str, int]:
    return {flat[at].decode(): int(float(flat[at + 1])) for at in range(0, len(flat), 2)}


class Reader:
    """Reads one namespace whole, in one round trip, without looking for keys."""

    def __init__(self, client: redis.Redis, rig: Rig) -> None:
        self._client = client
        self._key = rig.keys.build
        self._after = "-"

    def read(self, model: Model) -> tuple[World, list[Row], list[int]]:
        """What the broker holds, the journal rows since the last reading, and the numbers of their entries."""
        key, asked = self._key, list[str]()
        pipe: Any = self._client.pipeline(transaction=False)

        def ask(name: str, *words: str) -> None:
            asked.append(name)
            pipe.execute_command(*words)

        ask("st", "HGETALL", key("st"))
        ask("env", "HKEYS", key("env"))
        for name in ("cancel", "res", "pause", "stat"):
            ask(name, "HGETALL", key(name))
        ask("prog", "HKEYS", key("prog"))
        for name in ("sched", "exp", "leases"):
            ask(name, "ZRANGE", key(name), "0", "-1", "WITHSCORES")
        for queue in QUEUES:
            ask(f"ready {queue}", "ZRANGE", key("ready", queue), "0", "-1")
            ask(f"suspects {queue}", "ZRANGE", key("suspects", queue), "0", "-1")
            ask(f"bell {queue}", "LLEN", key("bell", queue))
        for worker in model.workers:
            ask(f"own {worker}", "HGETALL", key("own", worker))
        for task_id in [*model.tasks, *model.tombs]:
            ask(f"tomb {task_id}", "GET", key("tomb", task_id))
        for idem in model.keys:
            ask(f"key {idem}", "GET", key("idem", idem))
            ask(f"key ttl {idem}", "PTTL", key("idem", idem))
        ask("journal", "XRANGE", key("journal"), self._after, "+")
        replies = dict(zip(asked, pipe.execute(), strict=True))
        rows, numbers = self._new_rows(replies.pop("journal"), model.epoch)
        return self._shape(replies), rows, numbers

    def start_anew(self) -> None:
        """The journal is another one now."""
        self._after = "-"

    def _new_rows(self, entries: list[Any], epoch: int) -> tuple[list[Row], list[int]]:
        rows, numbers = list[Row](), list[int]()
        for stream_id, fields in entries:
            values = dict(zip(fields[::2], fields[1::2], strict=True))
            assert int(values[b"e"]) == epoch
            numbers.append(int(values[b"s"]))
            rows += [read_row(row) for row in unpack_stream(values[b"r"])]
            self._after = "(" + stream_id.decode()
        return rows, numbers

    @staticmethod
    def _shape(replies: dict[str, Any]) -> World:
        world: World = {}
        for name, reply in replies.items():
            kind = name.partition(" ")[0]
            if kind == "st":
                world[name] = {reply[at].decode(): decode_line(reply[at + 1]) for at in range(0, len(reply), 2)}
            elif kind in {"cancel", "res", "pause", "own", "stat"}:
                world[name] = _text(reply)
            elif kind in {"sched", "exp", "leases"}:
                world[name] = _scores(reply)
            elif kind in {"env", "prog"}:
                world[name] = {item.decode() for item in reply}
            elif kind in {"ready", "suspects"}:
                world[name] = [item.decode() for item in reply]
            elif isinstance(reply, bytes):
                world[name] = reply.decode()
            else:
                world[name] = reply
        return world


def expected(model: Model) -> World:
    """What the broker must hold; bells and the sweep's index are held to rules instead, see ``check_rules``."""
    tasks = model.tasks.values()
    world: World = {
        "st": {task.id: task.line() for task in tasks},
        "env": set(model.tasks),
        "cancel": {task.id: task.cancel_reason for task in tasks if task.cancel and not task.is_final},
        "res": {task.id: task.detail.decode("latin-1") for task in tasks if task.detail is not None},
        "pause": {queue: str(until) for queue, until in model.pauses.items()},
        "prog": model.progress,
        "stat": {"stale": str(model.stale), "stale_at": str(model.stale_at)} if model.stale else {},
        "sched": {task.id: task.due for task in tasks if task.state in {State.SCHEDULED, State.RETRYING}},
        "leases": {name: worker.until for name, worker in model.workers.items()},
    }
    for queue in QUEUES:
        world[f"ready {queue}"] = [task.id for task in model.line(queue, suspects=False)]
        world[f"suspects {queue}"] = [task.id for task in model.line(queue, suspects=True)]
    for name, worker in model.workers.items():
        world[f"own {name}"] = {task_id: f"{request} {at}" for task_id, (request, at) in worker.own.items()}
    for task_id in model.tasks:
        world[f"tomb {task_id}"] = None
    for task in model.tombs.values():
        world[f"tomb {task.id}"] = f"{task.epoch} {task.v} {STATE_CODES[task.state]} {task.token}"
    for key, (task_id, fingerprint) in model.keys.items():
        world[f"key {key}"] = f"{task_id} {fingerprint}"
    return world


def check_rules(model: Model, world: World) -> None:
    """Take out of *world* what is held to rules instead of values, and check it."""
    for queue in QUEUES:
        assert world.pop(f"bell {queue}") <= 1, "INV-5: a bell holds at most one element"
    swept = world.pop("exp")
    for task in model.tasks.values():
        if task.is_final:
            assert task.id not in swept, "INV-5: nothing of a final task waits for its expiry"
        elif task.may_expire and not task.held:
            assert swept.get(task.id) == task.expires, "INV-9: the sweep must find a task that can expire"
    for key, (task_id, _) in model.keys.items():
        holder = model.tasks.get(task_id)
        is_running_out = world.pop(f"key ttl {key}") > 0
        assert is_running_out is (holder is None or holder.is_final), "INV-5, INV-7: a key outlives its task by a day"
