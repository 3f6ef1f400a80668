"""A pair of stores with real workers and coordinators on it, and the hands that hurt them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.chaos.tap import Tap
from tests.support.durable import DurableRedis
from tests.support.environment import Environment
from tests.support.wait import wait_until
from tqctl_runtime.broker import calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import COORDINATOR
from tqctl_runtime.broker.views import LiveWorker, Overview, overview
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.client import Client
from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import FINAL
from tqctl_runtime.record import open_store

APP = str(Path(__file__).with_name("app.py"))
#: The environment variable that tells handlers where to note their effects.
EFFECTS = "TQ_CHAOS_EFFECTS"
#: Patience of the suite: a takeover alone lasts 20 s, on a machine that others use too.
PATIENCE = 100.0
_FINAL = ", ".join(f"'{state}'" for state in FINAL)


@dataclass
class Stage:
    """Use as a context manager. *values* are settings of every process, as their environment spells them."""

    environment: Environment
    server: DurableRedis | None
    rng: random.Random
    values: dict[str, str] = field(default_factory=dict)
    concurrency: int = 4
    #: What was done to the world, in order: printed when something does not hold.
    faults: list[str] = field(default_factory=list)
    #: Set where the test failed: a fixture is not told by an exception.
    has_failed: bool = False
    _closing: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.values = {"TQCTL_LEASE": "3s", "TQCTL_GRACE": "500ms", EFFECTS: str(self.effects_file), **self.values}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.environment.kill_all()
        self._closing.close()
        if error is not None or self.has_failed:
            self._keep_journal()
            self._tell_all()

    # -- what is there

    @property
    def settings(self) -> Settings:
        """The set-up for code inside the test."""
        return self.environment.settings(lease=3_000)

    @property
    def effects_file(self) -> Path:
        """Where handlers note that they ran."""
        return self.environment.home / "effects"

    @cached_property
    def keys(self) -> Keys:
        """The keys of the namespace."""
        return Keys(self.environment.namespace)

    @cached_property
    def wire(self) -> Wire:
        """A connection of the test's own; errors are the caller's."""
        return self._closing.enter_context(Wire(BrokerAddress.of(self.settings)))

    @cached_property
    def tap(self) -> Tap:
        """The journal, read from the first look on."""
        return self._closing.enter_context(Tap(BrokerAddress.of(self.settings), self.keys))

    @cached_property
    def client(self) -> Client:
        """A client, ``accepted`` by default."""
        return self._closing.enter_context(Client(self.settings))

    def new_client(self, **options: Any) -> Client:
        """A client of its own, closed with the stage."""
        return self._closing.enter_context(Client(self.settings, **options))

    def effects(self) -> Counter[str]:
        """How often each task had its effect."""
        if not self.effects_file.exists():
            return Counter()
        return Counter(line.split()[0] for line in self.effects_file.read_text().splitlines())

    def effect_times(self) -> list[tuple[str, int]]:
        """Each effect with its time in nanoseconds."""
        rows = [line.split() for line in self.effects_file.read_text().splitlines()]
        return [(row[0], int(row[3])) for row in rows]

    def overview(self) -> Overview:
        """The live figures, once the broker answers."""

        def look() -> Overview:
            return self.wire.call(overview(self.keys))

        return wait_until(look, "the broker answers", timeout=PATIENCE, ignore=(TqctlError,))

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the record."""
        with open_store(self.settings, read_only=True) as store:
            return store.database.rows(statement, values)

    # -- processes

    def start(self, *words: str, command: Sequence[str] | None = None, **env: str) -> subprocess.Popen[str]:
        """Start tqctl, or the program that *command* starts, with the stage's settings."""
        return self.environment.start(*words, env=self.values | env, command=command)

    def coordinator(self, *, command: Sequence[str] | None = None, **env: str) -> subprocess.Popen[str]:
        """A coordinator that is seen."""
        process = self.start("coordinator", "start", command=command, **env)
        self.until(
            lambda: any(info.get("pid") == process.pid for info in self._look().coordinators.values()),
            "the coordinator is seen",
            process,
        )
        return process

    def begin_worker(self, *words: str, command: Sequence[str] | None = None, **env: str) -> subprocess.Popen[str]:
        """A worker, not waited for."""
        words = ("worker", "start", "--app", APP, "--concurrency", str(self.concurrency), *words)
        return self.start(*words, command=command, **env)

    def worker(self, *words: str, command: Sequence[str] | None = None, **env: str) -> subprocess.Popen[str]:
        """A worker that has registered."""
        process = self.begin_worker(*words, command=command, **env)
        self.until(lambda: self.find_worker(process.pid), "the worker is registered", process)
        return process

    def find_worker(self, pid: int) -> LiveWorker | None:
        """The registration of the worker with this process id."""
        found = [worker for worker in self._look().workers if worker.info.get("pid") == pid]
        return found[-1] if found else None

    def _look(self) -> Overview:
        return self.wire.call(overview(self.keys))

    def until(self, predicate: Any, description: str, process: subprocess.Popen[str] | None = None) -> Any:
        """The first true value of *predicate*; a broker that is away, or not open yet, counts as "not yet"."""

        def ask() -> Any:
            assert process is None or process.poll() is None, f"{description}: it ended with {process.returncode}"
            return predicate()

        return wait_until(ask, description, timeout=PATIENCE, interval=0.05, ignore=(TqctlError,))

    def leader_pid(self) -> int:
        """The process that leads now; 0 where none does."""
        seen = self._look()
        leader = seen.leaders.get(COORDINATOR)
        if leader is None or leader.until <= seen.now:
            return 0
        return int(seen.coordinators.get(leader.holder, {}).get("pid", 0))

    def wait_leader(self, *, other_than: int = 0) -> int:
        """The process that leads, once one does."""
        return int(self.until(lambda: (pid := self.leader_pid()) and pid != other_than and pid, "somebody leads"))

    def kill(self, process: subprocess.Popen[str], number: int = signal.SIGKILL) -> int:
        """Signal *process*, also one that is stopped, and wait for its end; its exit code."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)
            os.kill(process.pid, signal.SIGCONT)
        return process.wait(timeout=PATIENCE)

    def tell(self, fault: str) -> None:
        """Note a fault."""
        self.faults.append(fault)

    # -- submits and ends

    def submit(self, handler: str, count: int, payload: dict[str, Any] | None = None, **options: Any) -> list[str]:
        """Submit *count* equal tasks; their ids, every one acknowledged."""
        return self.client.submit_many([(handler, payload or {})] * count, **options)

    def wait_effects(self, count: int) -> None:
        """Wait until *count* different tasks had their effect."""
        self.until(lambda: len(self.effects()) >= count, f"{count} tasks with an effect")

    def recorded_final(self) -> int:
        """How many tasks are final in the record."""
        return int(self.sql(f"SELECT count(*) FROM tasks WHERE state IN ({_FINAL})")[0][0])

    def drain(self, ids: Sequence[str]) -> None:
        """Wait until every task of *ids* is final in the record, and the record has the whole journal."""
        self.until(lambda: self.recorded_final() >= len(set(ids)), f"{len(set(ids))} final tasks in the record")

        def is_empty() -> bool:
            return not int(self.server_count("HLEN", "st")) and self._is_told()

        self.until(is_empty, "the record is level with the journal and nothing is live")

    def wait_told(self) -> None:
        """Wait until the record and the tap have the whole journal."""
        self.until(self._is_told, "record and tap are level with the journal")

    def _is_told(self) -> bool:
        seen = self._look()
        epoch, seq = int(seen.meta["epoch"]), int(seen.meta["seq"])
        mark = seen.watermark.position
        return (mark.epoch, mark.seq) == (epoch, seq) and self.tap.last(epoch) == seq

    def server_count(self, command: str, key: str) -> int:
        """The reply of a counting *command* on a key of the namespace."""
        return int(self.wire.command(command, self.keys.build(key)))

    def wait_level(self) -> None:
        """Wait until the record is level with the journal."""
        self.until(lambda: self._look().lag_rows == 0, "the record is level with the journal")

    def pause(self, queue: str) -> None:
        """Pause *queue*."""
        self.wire.call(calls.pause(self.keys, queue, reason="chaos", who="chaos"))

    def resume(self, queue: str) -> None:
        """Resume *queue*."""
        self.wire.call(calls.resume(self.keys, queue, who="chaos"))

    def server_add(self, key: str, part: str, member: str) -> None:
        """Put *member* into a sorted set of the namespace."""
        self.wire.command("ZADD", self.keys.build(key, part), 1, member)

    def _keep_journal(self) -> None:
        """Write what the tap saw beside the effects and the logs: a failure must be explained from them."""
        if "tap" not in self.__dict__:
            return
        with (self.environment.home / "journal").open("w") as file:
            for epoch, entries in self.tap.epochs().items():
                for entry in entries:
                    file.writelines(f"{epoch} {entry.seq} {entry.stream_id} {row}\n" for row in entry.rows)

    def _tell_all(self) -> None:
        print(f"journal, effects and logs of this run: {self.environment.home}", file=sys.stderr)
        print("faults:", *self.faults, sep="\n  ", file=sys.stderr)
        for log in sorted(self.environment.home.glob("*.log")):
            text = log.read_text(errors="replace").splitlines()
            print(f"--- {log.name}, last of {len(text)} lines", *text[-60:], sep="\n", file=sys.stderr)


def pass_time(seconds: float) -> None:
    """Let a fault last: the one thing that a test of outages cannot wait for otherwise."""
    threading.Event().wait(seconds)


@contextlib.contextmanager
def suspended(process: subprocess.Popen[str]) -> Iterator[None]:
    """SIGSTOP inside, SIGCONT after."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
