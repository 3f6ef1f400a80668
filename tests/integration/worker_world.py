"""A broker with whole workers on it, and a test that plays the leader: promotes what is due, reaps the dead."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.integration.worker_rig import APP
from tests.support.wait import wait_until
from tqctl_runtime.broker import calls, leader_calls, views
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.serializer import unpack_stream
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import FINAL, OUTCOMES_BY_CODE, State
from tqctl_runtime.core.submission import build_submission

_MAIN = """
import json, logging, sys
from pathlib import Path
from tqctl_runtime.core.errors import ConfigError
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.worker.main import run_worker
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(message)s")
values = json.loads(sys.argv[1])
state = Path(values.pop("state_file"))
values |= {"app": tuple(values["app"]), "home": Path(values["home"])}
try:
    sys.exit(run_worker(Settings(**values), version="test", on_state=state.write_text))
except ConfigError as error:
    sys.exit(error.message)
"""
TERM = 1
FIXED = ["fixed", 0.05, 1.0, 0.0, []]


class WorkerProcess:
    """A worker in a process of its own, with its log."""

    def __init__(self, world: World, number: int, values: dict[str, Any]) -> None:
        self.state_file = world.folder / f"state{number}"
        self.log_file = world.folder / f"worker{number}.log"
        values["state_file"] = str(self.state_file)
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _MAIN, json.dumps(values)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def state(self) -> str:
        """What it last told of itself."""
        return self.state_file.read_text() if self.state_file.exists() else ""

    @property
    def log(self) -> str:
        """Its log so far."""
        return self.log_file.read_text()

    def signal(self, number: int) -> None:
        """Send it signal *number*."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Its exit code."""
        wait_until(lambda: self.process.poll() is not None, "its exit")
        return self.process.returncode

    def is_running(self) -> bool:
        """Whether it is ready; fails when it ended."""
        assert self.process.poll() is None, self.log
        return self.state == "running"


class World:
    """Use as a context manager."""

    def __init__(self, url: str, namespace: str, folder: Path, **values: Any) -> None:
        self.url = url
        self.folder = folder
        self.keys = Keys(namespace)
        self.wire = Wire(BrokerAddress.of(Settings(namespace=namespace, redis_url=url)))
        self._values = {"namespace": namespace, "redis_url": url, "app": [APP], "home": str(folder), **values}
        self._values.setdefault("lease", 3_000)
        self._values.setdefault("grace", 500)
        self._workers: list[WorkerProcess] = []

    def __enter__(self) -> Self:
        self.wire.call(leader_calls.open_gate(self.keys, epoch=1, pairing="test"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.signal(signal.SIGCONT)
                worker.signal(signal.SIGKILL)
                worker.process.wait()
            if error is not None:
                print(worker.log, file=sys.stderr)
        self.wire.close()

    def worker(self, **values: Any) -> WorkerProcess:
        """Start a worker and wait until it is ready."""
        worker = self.begin_worker(**values)
        wait_until(worker.is_running, "a ready worker")
        return worker

    def begin_worker(self, **values: Any) -> WorkerProcess:
        """Start a worker."""
        worker = WorkerProcess(self, len(self._workers), self._values | values)
        self._workers.append(worker)
        return worker

    def submit(self, handler: str, payload: dict[str, Any] | None = None, count: int = 1, **options: Any) -> list[str]:
        """Submit *count* tasks; their ids. Retries wait 50 ms."""
        options.setdefault("backoff", FIXED)
        made = [build_submission(handler, payload or {}, watched=True, **options) for _ in range(count)]
        for start in range(0, count, 1000):
            self.wire.call(calls.submit(self.keys, made[start : start + 1000]))
        return [item.id for item in made]

    def lead(self) -> None:
        """Do what a leader does each second: promote and reap."""
        reply = self.wire.call(
            leader_calls.elect(self.keys, role="coordinator", holder="test", term=TERM, lease_ms=60_000)
        )
        assert reply.is_leader
        self.wire.call(leader_calls.promote(self.keys, term=TERM))
        self.wire.call(leader_calls.reap(self.keys, term=TERM, interval_ms=60_000, lease_ms=360_000))

    def look(self, *ids: str) -> list[views.LiveTask]:
        """The tasks as the broker knows them."""
        found = [task for start in range(0, len(ids), 500) for task in self._look(ids[start : start + 500])]
        assert len(found) == len(ids)
        return found

    def _look(self, ids: Sequence[str]) -> list[views.LiveTask]:
        return [task for task in self.wire.call(views.look(self.keys, ids)) if task is not None]

    def until(self, predicate: Callable[[], Any], description: str) -> Any:
        """Lead until *predicate* is true; its value."""

        def look() -> Any:
            self.lead()
            return predicate()

        return wait_until(look, description)

    def until_state(self, state: State, *ids: str) -> list[views.LiveTask]:
        """Lead until all of *ids* are in *state*."""
        self.until(lambda: all(task.state is state for task in self.look(*ids)), f"{len(ids)} tasks {state}")
        return self.look(*ids)

    def until_final(self, *ids: str) -> list[views.LiveTask]:
        """Lead until all of *ids* are in a final state."""
        self.until(lambda: all(task.state in FINAL for task in self.look(*ids)), f"{len(ids)} final tasks")
        return self.look(*ids)

    def cancel(self, *ids: str) -> None:
        """Ask for *ids* to be cancelled."""
        self.wire.call(calls.cancel(self.keys, ids, reason="not wanted", who="test"))

    def server(self) -> redis.Redis:
        """A connection of its own, for what no script does."""
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=10)

    def overview(self) -> views.Overview:
        """The live figures."""
        return self.wire.call(views.overview(self.keys))

    def rows(self, *kinds: str) -> list[list[Any]]:
        """Journal rows of *kinds*, oldest first."""
        found = []
        for entry in self.wire.call(leader_calls.read_journal(self.keys, "0-0", count=100_000)):
            found += [row for row in unpack_stream(entry.rows) if row[0].decode() in kinds]
        return found

    def outcomes(self, task_id: str) -> list[str]:
        """How the attempts of *task_id* ended, in their order."""
        return [str(OUTCOMES_BY_CODE[row[4]]) for row in self.rows("F") if row[2].decode() == task_id]

    def detail(self, task: views.LiveTask) -> Detail:
        """What the last attempt of a final watched task left."""
        return Detail.from_bytes(task.detail)

    def result(self, task_id: str) -> Any:
        """The result of *task_id* once it succeeded."""
        (task,) = self.until_state(State.SUCCEEDED, task_id)
        return json.loads(self.detail(task).result or b"")


def lines_of(path: Path) -> list[str]:
    """The lines of *path*; none where it does not exist."""
    return path.read_text().splitlines() if path.exists() else []


def parents_of(pid: int) -> int:
    """The parent of process *pid*."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def children_of(pid: int) -> list[int]:
    """The children of process *pid*."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if entry.name.isdigit() and parents_of(int(entry.name)) == pid:
                found.append(int(entry.name))
    return found
