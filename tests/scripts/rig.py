"""One open namespace to try operations in: short verbs, a clock that only the test moves, views of all that is kept.

A view is flat, so that what one call changed reads as a small dictionary: ``st/A.state`` is a field of A's line,
``q:default/A`` its score, ``i:k`` a plain key and ``i:k#minutes`` what is left of its TTL, rounded up.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import redis

from tqctl_runtime.broker import calls, leader_calls, views, worker_calls
from tqctl_runtime.broker.call import Call, translate_error
from tqctl_runtime.broker.calls import BulkReply, SubmitReply
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.worker_calls import Claimed, HeartbeatReply, RoundReply
from tqctl_runtime.core.serializer import unpack_raw, unpack_stream
from tqctl_runtime.core.states import OUTCOMES_BY_CODE, STATES_BY_CODE, Outcome
from tqctl_runtime.core.submission import Submission

R = TypeVar("R")
Row = tuple[Any, ...]
#: Where the clock of every test starts, ms.
NOW = 1_800_000_000_000
LEASE, INTERVAL, TERM = 30_000, 1_000, 1
DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
_FIXED = struct.Struct(">BBIBHHHIQQQQQBBBQ")
_NAMES = (
    "layout state v priority max failures deaths attempts created base expires due started held suspect cancel watched"
)
_FIELDS = _NAMES.split()
#: Places of state and outcome numbers in journal rows, by kind.
_STATE_AT = {"S": 4, "F": 5, "T": 4, "O": 4}
#: Counters of the journal: checked for each view, so no test repeats them.
_COUNTERS = {"seq", "rows", "bytes", "fence"}


def task(task_id: str, **fields: Any) -> Submission:
    """A submission under a readable id."""
    payload = fields.pop("payload", b"{}")
    return Submission(id=task_id, handler=fields.pop("handler", "echo"), payload=payload, **fields)


def score(priority: int = 5, base: int = NOW, place: int = 0) -> float:
    """Where a task stands in line: more urgent first, then earlier, then by its place in one submit."""
    return base + place / 1024 - priority * 2**39


def decode_line(raw: bytes) -> dict[str, Any]:
    """A line of ``st``: the reading of its format that is independent of the broker's own."""
    line: dict[str, Any] = dict(zip(_FIELDS, _FIXED.unpack_from(raw), strict=True))
    queue, token, key, rest = raw[_FIXED.size :].split(b"\x00")
    assert rest == b"", "a line ends after its third string"
    line["state"] = str(STATES_BY_CODE[line["state"]])
    return line | {"queue": queue.decode(), "token": token.decode(), "idem": key.decode()}


def read_row(values: Sequence[Any]) -> Row:
    """A journal row with words for state and outcome, and text for all but the envelope or detail at its end."""
    kind = values[0].decode()
    row = [item.decode() if isinstance(item, bytes) else item for item in values[:-1]]
    last = values[-1]
    row.append(last if kind in "SF" or not isinstance(last, bytes) else last.decode())
    if kind in _STATE_AT:
        row[_STATE_AT[kind]] = str(STATES_BY_CODE[values[_STATE_AT[kind]]])
    if kind == "F":
        row[4] = str(OUTCOMES_BY_CODE[values[4]])
    return tuple(row)


@dataclass
class Seen:
    """What happened inside :meth:`Rig.changes`: new values by path (None: gone) and new journal rows."""

    keys: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


class Rig:
    """A namespace on *client*'s server. Verbs use the rig's clock; *requests* counts each worker's rounds."""

    def __init__(self, client: redis.Redis, namespace: str, *, is_open: bool = True) -> None:
        client.response_callbacks.clear()
        self.client = client
        self._execute: Any = client.execute_command
        self.keys = Keys(namespace)
        self.now = NOW
        self.requests: dict[str, int] = {}
        if is_open:
            self.do(leader_calls.open_gate(self.keys, epoch=1, pairing="pair"))

    def do(self, call: Call[R]) -> R:
        """The decoded reply of *call*, as both clients give it."""
        try:
            return call.decode(self._send(call))
        except redis.ResponseError as error:
            # redis-py takes the first word off the errors that it knows.
            code = getattr(error, "status_code", None)
            raise translate_error(f"{code} {error}" if code else str(error)) from None

    def _send(self, call: Call[Any]) -> Any:
        try:
            return self._execute(*call.words())
        except redis.exceptions.NoScriptError:
            return self._execute(*call.eval_words())

    def raw(self, *words: Any) -> Any:
        """The reply of a plain command, undecoded."""
        return self._execute(*words)

    # --- verbs of clients and operators

    def submit(self, *tasks: Submission) -> SubmitReply:
        return self.do(calls.submit(self.keys, tasks, now=self.now))

    def cancel(self, *ids: str, reason: str = "why", who: str = "me") -> list[int]:
        return self.do(calls.cancel(self.keys, ids, reason=reason, who=who, now=self.now)).codes

    def retry(self, *ids: str, known: calls.Recorded | None = None) -> BulkReply:
        return self.do(calls.retry(self.keys, [(i, known) for i in ids], reason="why", who="me", now=self.now))

    def pause(self, queue: str = "default", for_ms: int = 0) -> int:
        return self.do(calls.pause(self.keys, queue, for_ms=for_ms, reason="why", who="me", now=self.now))

    def resume(self, queue: str = "default") -> bool:
        return self.do(calls.resume(self.keys, queue, who="me", now=self.now))

    def watch(self, *ids: str) -> list[calls.Watched]:
        return self.do(calls.watch(self.keys, ids, now=self.now))

    def look(self, *ids: str) -> list[views.LiveTask | None]:
        return self.do(views.look(self.keys, ids, now=self.now))

    def live(self, task_id: str) -> views.LiveTask:
        """The one live task *task_id*."""
        (found,) = self.look(task_id)
        assert found is not None
        return found

    # --- verbs of workers

    def join(self, worker: str = "w1", **info: Any) -> str:
        self.do(worker_calls.register(self.keys, worker, lease_ms=LEASE, info=info, rows=[], now=self.now))
        return worker

    def round(self, worker: str = "w1", *, request: int | None = None, places: int = 0, **more: Any) -> RoundReply:
        """One round; *request* repeats an earlier number, by default it is the next one."""
        if request is None:
            request = self.requests.get(worker, 0) + 1
        self.requests[worker] = max(request, self.requests.get(worker, 0))
        queues = more.pop("queues", ("default",))
        call = worker_calls.round_(self.keys, worker, request, places=places, queues=queues, now=self.now, **more)
        return self.do(call)

    def claim(self, worker: str = "w1", places: int = 1, **more: Any) -> list[Claimed]:
        """What *worker*, joined where it was not, gets for *places*."""
        if self.raw("ZSCORE", self.keys.build("leases"), worker) is None:
            self.join(worker)
        return self.round(worker, places=places, **more).claimed

    def start(self, held: Claimed, worker: str = "w1", ago: int = 0) -> None:
        self.round(worker, started=[worker_calls.started(held.id, held.token, ago)])

    def finish(self, held: Claimed, outcome: Outcome, worker: str = "w1", **more: Any) -> int:
        """The code of one reported end; it had started 10 ms before unless *since_start_ms* says otherwise."""
        more.setdefault("since_start_ms", 10)
        return self.round(worker, finished=[worker_calls.finished(held.id, held.token, outcome, **more)]).codes[0]

    def beat(
        self, worker: str = "w1", *held: Claimed, answered: int | None = None, lease_ms: int = LEASE
    ) -> HeartbeatReply:
        """A heartbeat that lists *held*; *answered* is the last round that it has heard of, by default the last."""
        pairs = [(one.id, one.token) for one in held]
        number = self.requests.get(worker, 0) if answered is None else answered
        call = worker_calls.heartbeat(
            self.keys, worker, lease_ms=lease_ms, held=pairs, answered=number, figures={}, now=self.now
        )
        return self.do(call)

    def leave(self, worker: str = "w1") -> int:
        return self.do(worker_calls.deregister(self.keys, worker, now=self.now))

    # --- verbs of the coordinator

    def lead(self, term: int = TERM, holder: str = "c1", lease_ms: int = DAY) -> leader_calls.Election:
        role = leader_calls.COORDINATOR
        call = leader_calls.elect(self.keys, role=role, holder=holder, term=term, lease_ms=lease_ms, now=self.now)
        return self.do(call)

    def promote(self, limit: int = 500, term: int = TERM) -> tuple[int, int]:
        return self.do(leader_calls.promote(self.keys, term=term, limit=limit, now=self.now))

    def reap(self, term: int = TERM, lease_ms: int = LEASE) -> leader_calls.Reaped:
        call = leader_calls.reap(self.keys, term=term, interval_ms=INTERVAL, lease_ms=lease_ms, now=self.now)
        return self.do(call)

    def forget(self, *tasks: tuple[str, int], wait_ms: int = MINUTE, term: int | None = None) -> list[str]:
        """Let go of recorded *tasks*, under *term* or by a leader that is made for it."""
        if term is None:
            assert self.lead().is_leader
            term = TERM
        return self.do(leader_calls.forget(self.keys, tasks, term=term, wait_ms=wait_ms, now=self.now))

    def marks(
        self,
        busy: int = 10**9,
        stop: int = 10**9,
        *,
        busy_bytes: int = 10**12,
        stop_bytes: int = 10**12,
        is_memory_short: bool = False,
        term: int = TERM,
    ) -> None:
        call = leader_calls.set_marks(
            self.keys,
            term=term,
            busy_rows=busy,
            busy_bytes=busy_bytes,
            stop_rows=stop,
            stop_bytes=stop_bytes,
            is_memory_short=is_memory_short,
            now=self.now,
        )
        self.do(call)

    # --- views

    def entries(self, after: str = "0-0") -> list[leader_calls.Entry]:
        """The journal's entries behind stream id *after*."""
        return self.do(leader_calls.read_journal(self.keys, after, count=1_000_000))

    def rows(self) -> list[Row]:
        """All journal rows; checks on the way that the journal's own figures are true and gapless."""
        entries = self.entries()
        meta = self.hash("meta")
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        found = [row for entry in entries for row in unpack_stream(entry.rows)]
        figures = (len(entries), len(found), sum(len(entry.rows) for entry in entries))
        assert (int(meta["seq"]), int(meta["rows"]), int(meta["bytes"])) == figures
        return [read_row(row) for row in found]

    def hash(self, name: str, part: str = "") -> dict[str, bytes]:
        """A whole hash by the name of its key builder."""
        flat = self.raw("HGETALL", self.keys.build(name, part))
        return {flat[at].decode(): flat[at + 1] for at in range(0, len(flat), 2)}

    def zset(self, name: str, part: str = "") -> dict[str, float]:
        """A whole sorted set in its order."""
        flat = self.raw("ZRANGE", self.keys.build(name, part), 0, -1, "WITHSCORES")
        return {flat[at].decode(): float(flat[at + 1]) for at in range(0, len(flat), 2)}

    def names(self) -> list[str]:
        """Every key of the namespace, without its prefix."""
        found: list[str] = []
        cursor = "0"
        while True:
            cursor, some = self.raw("SCAN", cursor, "MATCH", self.keys.prefix + "*", "COUNT", 1000)
            found += [name.decode().removeprefix(self.keys.prefix) for name in some]
            if cursor in (b"0", "0"):
                return sorted(set(found))

    def view(self) -> dict[str, Any]:
        """Everything the namespace holds but the journal, flat."""
        flat: dict[str, Any] = {}
        for name in self.names():
            key = self.keys.prefix + name
            if name != "j":
                flat |= self._flatten(name, key, self.raw("TYPE", key))
            left = self.raw("PTTL", key)
            if left > 0:
                flat[name + "#minutes"] = -(-left // MINUTE)
        return flat

    def _flatten(self, name: str, key: str, kind: bytes) -> dict[str, Any]:
        if kind == b"string":
            return {name: self._string(name, self.raw("GET", key))}
        if kind == b"list":
            return {name: self.raw("LRANGE", key, 0, -1)}
        if kind == b"set":
            return {f"{name}/{item.decode()}": True for item in self.raw("SMEMBERS", key)}
        if kind == b"stream":
            return {name: [item[1] for item in self.raw("XRANGE", key, "-", "+")]}
        flat = self.raw("HGETALL", key) if kind == b"hash" else self.raw("ZRANGE", key, 0, -1, "WITHSCORES")
        found: dict[str, Any] = {}
        for at in range(0, len(flat), 2):
            part, value = flat[at].decode(), flat[at + 1]
            if name == "st":
                found |= {f"st/{part}.{label}": item for label, item in decode_line(value).items()}
            elif name != "meta" or part not in _COUNTERS:
                found[f"{name}/{part}"] = float(value) if kind == b"zset" else value
        return found

    def _string(self, name: str, value: bytes) -> Any:
        if name.startswith("slot:"):
            request, token, codes, ids = unpack_raw(value)
            return (request, token.decode(), codes, [item.decode() for item in ids])
        return value.decode()

    @contextlib.contextmanager
    def changes(self) -> Iterator[Seen]:
        """All that the calls inside change, in the whole namespace."""
        seen = Seen()
        before, had = self.view(), len(self.rows())
        yield seen
        after = self.view()
        paths = sorted(before.keys() | after.keys())
        seen.keys = {path: after.get(path) for path in paths if before.get(path) != after.get(path)}
        seen.rows = self.rows()[had:]
