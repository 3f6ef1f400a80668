"""Tasks per second that the recorder's writer puts into SQL: python tests/bench/bench_recorder.py [URL].

Each task is a submit row and a finish row, in entries as the broker writes them. ``together`` has both in one
transaction, as when workers keep up; ``apart`` records all submits first, as after a backlog. CPU is this process's.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgpack import Packer

from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import OUTCOME_CODES, STATE_CODES, Outcome, State
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.record import Store, open_store

SUBMITS_PER_ENTRY = 1_000
FINISHES_PER_ENTRY = 50


class Entry(NamedTuple):
    """A journal entry."""

    stream_id: str
    epoch: int
    seq: int
    rows: bytes


class Journal:
    """Makes entries with contiguous sequence numbers."""

    def __init__(self) -> None:
        self._packer = Packer()
        self._seq = 0
        self._now = 1_800_000_000_000

    def entry(self, rows: list[list[object]]) -> Entry:
        """One entry of *rows*."""
        self._seq += 1
        self._now += 1
        return Entry(f"{self._now}-0", 1, self._seq, b"".join(map(self._packer.pack, rows)))

    def submits(self, ids: list[str]) -> Iterator[Entry]:
        """Entries that submit *ids*."""
        envelope = build_submission("echo", {"message": "hello"}, tags=None).envelope()
        queued = STATE_CODES[State.QUEUED]
        for start in range(0, len(ids), SUBMITS_PER_ENTRY):
            yield self.entry(
                [
                    [b"S", self._now, i, 1, queued, b"default", 5, 5, 0, 0, b"", b"", envelope]
                    for i in ids[start : start + SUBMITS_PER_ENTRY]
                ]
            )

    def finishes(self, ids: list[str]) -> Iterator[Entry]:
        """Entries in which *ids* succeeded at the first attempt."""
        detail = Detail(result=b'{"message":"hello"}').to_bytes()
        outcome, state = OUTCOME_CODES[Outcome.SUCCEEDED], STATE_CODES[State.SUCCEEDED]
        worker = new_id("wrk").encode()
        for start in range(0, len(ids), FINISHES_PER_ENTRY):
            now = self._now
            yield self.entry(
                [
                    [b"F", now, i, 2, outcome, state, 1, worker, now - 3, 0, 0, 0, b"", detail]
                    for i in ids[start : start + FINISHES_PER_ENTRY]
                ]
            )


def batches(tasks: int, size: int, *, together: bool) -> list[list[Entry]]:
    """What the recorder reads: *tasks* tasks in batches of *size*."""
    journal = Journal()
    groups = [[new_id("tsk") for _ in range(min(size, tasks - at))] for at in range(0, tasks, size)]
    if together:
        return [[*journal.submits(group), *journal.finishes(group)] for group in groups]
    return [list(journal.submits(group)) for group in groups] + [list(journal.finishes(group)) for group in groups]


def run(store: Store, work: list[list[Entry]], tasks: int) -> tuple[float, float]:
    """Tasks per second, and microseconds of CPU in this process for each."""
    for table in ("tasks", "attempts", "task_tags", "events", "checkpoint"):
        store.database.execute(f"DELETE FROM {table}")
    store.pair("bench", 1)
    writer = store.writer(store.next_term("bench", "bench"))
    checkpoint = writer.take()
    began, cpu = time.perf_counter(), time.process_time()
    for entries in work:
        done = writer.apply(entries, checkpoint)
        checkpoint = done.checkpoint
        if done.quarantined:
            raise SystemExit(f"quarantined: {done.quarantined[0]}")
    took, used = time.perf_counter() - began, time.process_time() - cpu
    return tasks / took, used / tasks * 1e6


def main() -> None:
    """Print a table of rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", nargs="?", help="an empty PostgreSQL database; SQLite in a temporary folder otherwise")
    parser.add_argument("--tasks", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), database_url=options.url)
        with open_store(settings) as store:
            store.prepare()
            for name, together in (("together", True), ("apart", False)):
                work = batches(options.tasks, options.batch, together=together)
                results = [run(store, work, options.tasks) for _ in range(options.rounds)]
                rate = statistics.median(rate for rate, _ in results)
                cpu = statistics.median(cpu for _, cpu in results)
                best = max(rate for rate, _ in results)
                print(f"{store.kind:11} {name:9} {rate:9,.0f} tasks/s (best {best:,.0f}), {cpu:5.1f} us CPU a task")


if __name__ == "__main__":
    main()
