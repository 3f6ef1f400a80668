"""What the client's and the Inspector's tests need around them: a namespace, a worker by hand, a recorder."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.support.environment import Environment
from tests.support.wait import wait_until
from tqctl_runtime.broker import calls, leader_calls, views, worker_calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.client import AsyncClient, Client
from tqctl_runtime.coordinator.opening import open_namespace
from tqctl_runtime.coordinator.recorder import Recorder
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import Outcome
from tqctl_runtime.core.task import ErrorInfo
from tqctl_runtime.record import open_store

_LEASE_MS = 3_600_000
ROWS: list[dict[str, Any]] = [
    {
        "name": "echo",
        "queue": "mail",
        "priority": 7,
        "max_retries": 2,
        "timeout_s": 3.0,
        "parameters": [["message", "str", None]],
    },
    {"name": "compute", "queue": "default", "priority": 5, "max_retries": 0, "timeout_s": None, "parameters": []},
]
QUEUES = ("mail", "default")


class Side:
    """An open namespace with a registered worker that does what the test says, and a recorder."""

    def __init__(self, pair: Environment) -> None:
        self.settings = pair.settings()
        self.keys = Keys(self.settings.namespace)
        self.wire = Wire(BrokerAddress.of(self.settings))
        self.store = open_store(self.settings)
        open_namespace(self.store, self.wire, self.keys)
        self.worker = "wrk_test"
        self._request = 0
        self._term = 0
        self._recorder: Recorder | None = None
        self._stores = [self.store]

    def register(self, rows: Sequence[dict[str, Any]] = ROWS) -> None:
        """Let the worker join with the catalogue *rows*."""
        info = {"name": "hand", "host": "here", "pid": 1, "version": "0", "queues": list(QUEUES), "concurrency": 5}
        info |= {"started_at": 1_700_000_000_000, "processes": 1, "handlers": [row["name"] for row in rows]}
        self.wire.call(worker_calls.register(self.keys, self.worker, lease_ms=_LEASE_MS, info=info, rows=rows))

    def round(self, **arguments: Any) -> worker_calls.RoundReply:
        """One round of the worker's lane."""
        self._request += 1
        arguments.setdefault("places", 0)
        call = worker_calls.round_(self.keys, self.worker, self._request, queues=QUEUES, **arguments)
        return self.wire.call(call)

    def claim(self, places: int = 1) -> list[worker_calls.Claimed]:
        """Take tasks and say that they have started."""
        claimed = self.round(places=places).claimed
        self.round(started=[worker_calls.started(task.id, task.token, 5) for task in claimed])
        return claimed

    def finish(
        self,
        task: worker_calls.Claimed,
        outcome: Outcome = Outcome.SUCCEEDED,
        *,
        result: bytes | None = b'"done"',
        error: ErrorInfo | None = None,
        log: bytes = b"",
        is_last: bool = True,
    ) -> None:
        """Report the end of *task*."""
        detail = Detail(None if error else result, error, log).to_bytes()
        end = worker_calls.finished(
            task.id, task.token, outcome, since_start_ms=5, is_last=is_last, delay_ms=60_000, detail=detail
        )
        assert self.round(finished=[end]).codes == [worker_calls.FINISHED]

    def work(self, outcome: Outcome = Outcome.SUCCEEDED, **arguments: Any) -> worker_calls.Claimed:
        """Run the next task from claim to finish."""
        (task,) = self.claim()
        self.finish(task, outcome, **arguments)
        return task

    def record(self) -> None:
        """Record everything that is in the journal now."""
        if self._recorder is None:
            self._recorder = self._new_recorder(self.wire)
        position = self.wire.call(calls.journal_position(self.keys))
        assert position is not None
        while not self.wire.call(calls.watermark(self.keys)).covers(position):
            self._recorder.run_once()

    def forget(self, *tasks: str) -> None:
        """Record, and let the broker forget final *tasks* that nobody waits for any more."""
        self.record()
        live = [task for task in self.wire.call(views.look(self.keys, tasks)) if task is not None]
        versions = [(task.id, task.version & 0xFFFFFFFF) for task in live]
        self.wire.call(leader_calls.forget(self.keys, versions, term=self._term, wait_ms=0))
        assert self.wire.call(views.look(self.keys, tasks)) == [None] * len(tasks)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """A recorder that runs meanwhile."""
        stop = threading.Event()
        begun = threading.Event()

        def run() -> None:
            with Wire(self.wire.address) as wire:
                recorder = self._new_recorder(wire)
                while not stop.is_set():
                    recorder.run_once()
                    begun.set()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert begun.wait(30)
            yield
        finally:
            stop.set()
            thread.join()

    def _new_recorder(self, wire: Wire) -> Recorder:
        self._term = term = self.store.next_term("coordinator", "test")
        election = leader_calls.elect(
            self.keys, role=leader_calls.COORDINATOR, holder="test", term=term, lease_ms=_LEASE_MS
        )
        assert self.wire.call(election).is_leader
        store = open_store(self.settings)
        self._stores.append(store)
        return Recorder(store=store, wire=wire, keys=self.keys, term=term, settings=self.settings)

    def silence_recorder(self) -> None:
        """Make the recorder look as if it had stopped long ago."""
        self.wire.command("HSET", self.keys.build("wm"), "at", 1)

    def wait_watched(self, task_id: str) -> None:
        """Wait until somebody waits for *task_id*: its channel has a listener."""
        channel = self.keys.done_channel(task_id)
        wait_until(lambda: self.wire.command("PUBSUB", "NUMSUB", channel)[1] > 0, f"somebody listens on {channel}")

    def look(self, task_id: str) -> views.LiveTask:
        """The live task."""
        (task,) = self.wire.call(views.look(self.keys, [task_id]))
        assert task is not None
        return task

    def close(self) -> None:
        """Let the worker leave and close the connections."""
        self.wire.call(worker_calls.deregister(self.keys, self.worker))
        self.wire.close()
        for store in self._stores:
            store.close()


@contextmanager
def side_of(pair: Environment, *, registered: bool = True) -> Iterator[Side]:
    """A :class:`Side` on *pair*, closed at the end."""
    side = Side(pair)
    try:
        if registered:
            side.register()
        yield side
    finally:
        side.close()


class SyncFace:
    """The blocking client."""

    def __init__(self, settings: Settings) -> None:
        self._client = Client(settings)

    def do(self, verb: str, *words: Any, **options: Any) -> Any:
        return getattr(self._client, verb)(*words, **options)

    def close(self) -> None:
        self._client.close()


class AsyncFace:
    """The asyncio client behind the same face; each call has a loop and connections of its own."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def do(self, verb: str, *words: Any, **options: Any) -> Any:
        async def run() -> Any:
            async with AsyncClient(self._settings) as client:
                return await getattr(client, verb)(*words, **options)

        return asyncio.run(run())

    def close(self) -> None:
        pass


Face = SyncFace | AsyncFace
