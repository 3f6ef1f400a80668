"""The Inspector: one object for everything a person or a script asks or orders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self

from tqctl_runtime.broker import calls, views
from tqctl_runtime.client.outcomes import Ended, no_such_task
from tqctl_runtime.core.errors import AmbiguousId, NotFound, Pending, RecordUnavailable, WaitTimeout
from tqctl_runtime.core.ids import TAIL_MINIMUM, ULID_LENGTH, is_name, is_task_id
from tqctl_runtime.core.states import FINAL, State
from tqctl_runtime.core.submission import Envelope
from tqctl_runtime.inspector import lists, logs, verbs
from tqctl_runtime.inspector.freshness import Freshness
from tqctl_runtime.inspector.live import Live
from tqctl_runtime.inspector.logs import Chunk
from tqctl_runtime.inspector.merge import json_value, merge
from tqctl_runtime.inspector.models import QueueInfo
from tqctl_runtime.inspector.paired import PairedStore
from tqctl_runtime.observe import registry
from tqctl_runtime.record.filters import LetterFilter, Sort, TaskFilter

if TYPE_CHECKING:
    from types import TracebackType

    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.core.task import Task
    from tqctl_runtime.inspector.models import Change, CoordinatorInfo, RecordLag, WorkerInfo
    from tqctl_runtime.record import Store
    from tqctl_runtime.record.health import CheckState, Recovery, Stretch
    from tqctl_runtime.record.read import DeadLetter

_CANDIDATES = 10
#: How long a change by filter waits for tasks that were just submitted to be recorded, in seconds.
_CATCH_UP_FOR_CHANGE = 5.0


class Inspector:
    """Asks Redis first and SQL then; lists come from SQL alone. It joins what runs and starts or creates nothing.

    One thread at a time uses it. Where the stores are of two pairs, what needs the record raises StoresDiffer.
    Where only one store answers, reads tell what that one knows, verbs raise
    BrokerUnavailable, and lists raise RecordUnavailable.
    """

    def __init__(self, settings: Settings, live: Live, store: Store) -> None:
        self.settings = settings
        self._live = live
        self._store = store
        self._freshness = Freshness(live)

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """An Inspector on the stores that *settings* name; it connects at the first question."""
        live = Live(settings)
        return cls(settings, live, PairedStore(settings, live))

    @property
    def remark(self) -> str | None:
        """What a reader of the last list should know, as one line for stderr; None where it was up to date."""
        return self._freshness.remark

    # -- single tasks

    def resolve(self, tail: str) -> str:
        """The whole id that *tail* means; a whole id as it is, whether it exists or not.

        Raises:
            NotFound: no id ends so, or the tail is too short.
            AmbiguousId: several do; *candidates* names them.
        """
        word = tail.strip().upper().removeprefix("TSK_")
        if is_task_id(f"tsk_{word}"):
            return f"tsk_{word}"
        if not TAIL_MINIMUM <= len(word) < ULID_LENGTH:
            raise NotFound(f"there is no task {tail!r}", hint=f"an id, or at least its last {TAIL_MINIMUM} characters")
        if not word.isalnum() or not word.isascii():
            raise NotFound(f"there is no task {tail!r}", hint="tqctl task list")
        is_current = self._live.catch_up()
        found = self._recorded_tails(word)
        if not found or not is_current:
            found = list(dict.fromkeys([*found, *self._live.find_tails(word, _CANDIDATES)]))
        if not found:
            raise NotFound(f"no task's id ends with {tail!r}", hint="tqctl task list")
        if len(found) > 1:
            raise AmbiguousId(tail, found)
        return found[0]

    def _recorded_tails(self, word: str) -> list[str]:
        try:
            return self._store.lookup.candidates(word, _CANDIDATES)
        except RecordUnavailable:
            if self._live.absence is not None:
                raise
            return []

    def task(self, task_id: str) -> Task:
        """Everything about one task.

        Raises:
            NotFound: neither store knows it.
            RecordUnavailable: it is not live, and the record cannot be read.
        """
        live, recorded = self._views(task_id)
        if live is not None:
            return merge(live, recorded)
        if recorded is None:
            raise no_such_task(task_id)
        return recorded

    def _views(self, task_id: str) -> tuple[views.LiveTask | None, Task | None]:
        live = self._live.look([task_id]).get(task_id)
        try:
            recorded = self._store.lookup.task(task_id)
            if live is not None and _is_behind(live, recorded) and self._live.catch_up():
                live = self._live.look([task_id]).get(task_id)
                recorded = self._store.lookup.task(task_id)
        except RecordUnavailable:
            if live is None:
                raise
            return live, None
        return live, recorded

    def result(self, task_id: str) -> Any:
        """The result of a task that succeeded.

        Raises:
            NotFound: neither store knows it.
            Pending: it has not ended, or the record does not have its result yet.
            TaskFailed: it ended dead or expired.
            TaskTimedOut: its own time limit ended it.
            TaskCancelled: it was cancelled.
        """
        live, recorded = self._views(task_id)
        if live is None and recorded is None:
            raise no_such_task(task_id)
        task = recorded if live is None else merge(live, recorded)
        assert task is not None
        if task.state not in FINAL:
            raise Pending(f"task {task_id} is {task.state}", hint=f"tqctl task wait {task_id}")
        if live is not None and not live.detail and (recorded is None or recorded.state != live.state):
            raise Pending(f"task {task_id} is {task.state}, its result is not in the record yet", hint="tqctl status")
        return Ended.of_task(task).value()

    def logs(self, task_id: str, attempt: int | None = None) -> list[Chunk]:
        """(attempt, bytes) of what attempts wrote, that of a running one included."""
        self._live.catch_up()
        return logs.read(self._live, self._store, task_id, attempt)

    def follow_logs(self, task_id: str) -> Iterator[Chunk]:
        """(attempt, bytes) of what attempts wrote and write, until the task ends."""
        return logs.follow(self._live, self._store, task_id)

    def wait(self, ids: Iterable[str], timeout: float | None = None) -> Iterator[tuple[str, Task | None]]:
        """Each task when it has ended; those that did not within *timeout* seconds come last, with None."""
        from tqctl_runtime.client.waiting import wait_for_ends

        wanted = dict.fromkeys(ids)
        try:
            for end in wait_for_ends(self._live.wire, self._live.keys, list(wanted), timeout, self._read_end):
                del wanted[end.id]
                yield end.id, self.task(end.id)
        except WaitTimeout:
            for task_id in wanted:
                yield task_id, None

    def _read_end(self, task_id: str) -> Ended | None:
        task = self._store.lookup.task(task_id)
        return None if task is None or task.state not in FINAL else Ended.of_task(task)

    def states(self, ids: Sequence[str]) -> dict[str, State]:
        """The states of those of *ids* that the record knows."""
        return self._store.lookup.states(ids)

    def standing(self, ids: Sequence[str]) -> dict[str, tuple[str, Any]]:
        """Handler and payload of those of *ids* that either store knows.

        Raises:
            BrokerUnavailable: the broker cannot be asked.
            RecordUnavailable: one is not live, and the record cannot be read.
        """
        live = self._live.ask(views.look(self._live.keys, ids))
        envelopes = {task.id: Envelope.from_bytes(task.envelope) for task in live if task is not None}
        found = {task_id: (envelope.handler, json_value(envelope.payload)) for task_id, envelope in envelopes.items()}
        rest = [task_id for task_id in ids if task_id not in found]
        # A task leaves the broker only once it is recorded: looked for in this order, none slips through.
        recorded = self._store.lookup.tasks(rest) if rest else {}
        return {**found, **{task_id: (task.handler, task.payload) for task_id, task in recorded.items()}}

    # -- lists

    def tasks(
        self,
        where: TaskFilter | None = None,
        limit: int = 50,
        sort: str = "-created_at",
        *,
        with_attempts: bool = False,
    ) -> list[Task]:
        """A page of tasks from the record; their attempts are read only where they are asked for.

        Raises:
            UsageError: nothing is sorted by that.
            RecordUnavailable: the record cannot be read.
        """
        order = Sort.parse(sort)
        self._freshness.check()
        page = self._store.queries.tasks(where, limit=limit, sort=order)
        if with_attempts:
            attempts = self._store.lookup.attempts([task.id for task in page])
            for task in page:
                task.attempts = attempts.get(task.id, [])
        return page

    def task_ids(self, where: TaskFilter, limit: int = 1_000_000) -> list[str]:
        """Ids of the tasks that a change is meant for, latest first: waits longer for the record than a list does.

        Raises:
            RecordUnavailable: the record cannot be read.
        """
        self._freshness.check(_CATCH_UP_FOR_CHANGE)
        return self._store.queries.task_ids(where, limit=limit)

    def count(self, where: TaskFilter | None = None) -> int:
        """How many tasks the record has."""
        self._freshness.check()
        return self._store.queries.count_tasks(where)

    def counts(self, where: TaskFilter | None = None) -> dict[str, int]:
        """How many tasks the record has in each state."""
        self._freshness.check()
        return {str(state): count for state, count in self._store.queries.counts_by_state(where).items()}

    def dead_letters(self, where: LetterFilter | None = None, limit: int = 50) -> list[DeadLetter]:
        """Dead letters from the record, latest first."""
        self._freshness.check()
        return self._store.queries.dead_letters(where, limit=limit)

    def dead_letter_ids(self, where: LetterFilter | None = None, limit: int = 100_000) -> list[str]:
        """Ids of tasks with an open dead letter, latest first."""
        self._freshness.check()
        return self._store.queries.dead_letter_ids(where, limit=limit)

    # -- verbs on tasks

    def cancel(self, ids: Sequence[str], reason: str = "cancelled by an operator", who: str = "") -> list[Change]:
        """Cancel tasks: ``cancelled``, ``requested``, or an error for each."""
        return verbs.cancel(self._live, self._store, ids, reason=reason, who=who)

    def retry(self, ids: Sequence[str], who: str = "") -> list[Change]:
        """Run tasks again (or now): ``queued`` or an error for each."""
        return verbs.retry(self._live, self._store, ids, who=who)

    def discard(self, ids: Sequence[str], who: str = "", reason: str = "discarded by an operator") -> list[Change]:
        """Close dead letters: ``discarded`` or an error for each."""
        self._live.catch_up()
        return verbs.discard(self._live, self._store, ids, reason=reason, who=who)

    # -- queues

    def queues(self) -> list[QueueInfo]:
        """By name the queues that have unfinished tasks, a pause or a live worker; without a broker by the record."""
        overview = self._try_overview()
        if overview is None:
            return lists.recorded_queues(self._counts(()), self._store.queries.settings("pause"))
        try:
            return lists.queues(overview, self._counts(lists.live_queues(overview)))
        except RecordUnavailable:
            return lists.queues(overview, None)

    def queue(self, name: str) -> QueueInfo:
        """The queue *name*, also an empty one that is in no list any more.

        Raises:
            NotFound: no task of it is known, and nobody pauses or serves it.
        """
        known = {item.name: item for item in self.queues()}
        if name in known:
            return known[name]
        if is_name(name) and self._store.queries.has_queue(name):
            return QueueInfo(name, 0, scheduled=0, retrying=0, running=0)
        near = get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "tqctl queue list"
        raise NotFound(f"no queue is called {name!r}", hint=hint)

    def _counts(self, names: Iterable[str]) -> lists.Counts:
        self._freshness.check()
        counted = self._store.queries.counts_by_state
        wanted = sorted({*names, *self._store.queries.queues(lists.COUNTED)})
        return {name: counted(TaskFilter(queue=name, states=lists.COUNTED)) for name in wanted}

    def pause(self, queue: str, for_ms: int = 0, reason: str = "", who: str = "") -> int:
        """Pause *queue* for *for_ms* (0: until it is resumed); until when in ms, 0 without end."""
        return self._live.change(calls.pause(self._live.keys, queue, for_ms=for_ms, reason=reason, who=who))

    def resume(self, queue: str, who: str = "") -> bool:
        """Resume *queue*; returns whether it was paused."""
        return self._live.change(calls.resume(self._live.keys, queue, who=who))

    def purge(self, queue: str, who: str = "", reason: str = "purged by an operator") -> int:
        """Cancel all tasks that stand in line in *queue*; how many. Those that workers hold stay."""
        purged = 0
        while True:
            done, left = self._live.change(calls.purge(self._live.keys, queue, reason=reason, who=who))
            purged += done
            if not done or not left:
                return purged

    # -- handlers, processes, the stores themselves

    def handlers(self) -> list[dict[str, Any]]:
        """The catalogue rows by name, each with ``workers``, the live ones that have it."""
        overview = self._try_overview()
        rows = self._live.try_ask(calls.catalogue(self._live.keys))
        if rows is None:
            rows = self._store.queries.handlers()
        return [lists.with_workers(row, overview) for row in rows.values()]

    def handler(self, name: str) -> dict[str, Any]:
        """The catalogue row of handler *name*.

        Raises:
            UnknownHandler: no worker ever had it; near names are in the hint.
        """
        rows: Mapping[str, dict[str, Any]] = {row["name"]: row for row in self.handlers()}
        if name not in rows:
            from tqctl_runtime.core.handler import unknown_handler

            raise unknown_handler(name, rows)
        return rows[name]

    def workers(self) -> list[WorkerInfo]:
        """The registered workers by name; none where the broker cannot be asked."""
        overview = self._try_overview()
        return [] if overview is None else lists.workers(overview, self._kernel_state)

    def past_worker(self, word: str) -> WorkerInfo | None:
        """The worker that the record has under *word*, an id, the end of one or a name; the latest of several.

        Raises:
            RecordUnavailable: the record cannot be read.
        """
        self._freshness.check()
        found = self._store.queries.workers(word, limit=1)
        return lists.recorded_worker(found[0]) if found else None

    def coordinators(self) -> list[CoordinatorInfo]:
        """The live coordinators, the leader first.

        Raises:
            BrokerUnavailable: the broker cannot be asked.
        """
        return lists.coordinators(self.overview(), self._kernel_state)

    def _kernel_state(self, role: str, host: object, pid: object) -> str | None:
        return registry.kernel_state(self.settings, role, host, pid)

    def record_lag(self) -> RecordLag:
        """How far the record is behind.

        Raises:
            BrokerUnavailable: the broker cannot be asked.
        """
        return self._live.lag()

    # -- health

    def checks(self, *, window_ms: int) -> list[CheckState]:
        """Each check as a leader saw it last within *window_ms*, with its success rate in that time.

        Raises:
            RecordUnavailable: the record cannot be read.
        """
        return self._store.health.checks(window_ms=window_ms)

    def check_history(self, check: str | None = None, *, since: int = 0, limit: int = 100) -> list[Stretch]:
        """How long *check*, or each, stayed at which level from *since* (ms) on, the latest first.

        Raises:
            RecordUnavailable: the record cannot be read.
        """
        return self._store.health.history(check, since=since, limit=limit)

    def recoveries(self, *, since: int = 0, limit: int = 100) -> list[Recovery]:
        """What was recovered from since *since* (ms), the latest first.

        Raises:
            RecordUnavailable: the record cannot be read.
        """
        return self._store.health.events(since=since, limit=limit)

    def overview(self) -> views.Overview:
        """The live figures of everything.

        Raises:
            BrokerUnavailable: the broker cannot be asked.
        """
        return self._live.ask(views.overview(self._live.keys))

    def _try_overview(self) -> views.Overview | None:
        overview = self._live.try_ask(views.overview(self._live.keys))
        self._freshness.note_absence()
        return overview

    def close(self) -> None:
        """Close the connections."""
        self._live.close()
        self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_behind(live: views.LiveTask, recorded: Task | None) -> bool:
    """Whether the record lacks something that *live* shows was decided."""
    return recorded is None or recorded.state != live.state or len(recorded.attempts) < live.attempts
