"""Waiting for tasks to end: what to ask and how to read it; :mod:`sync` and :mod:`asynchronous` do the asking.

A waiter listens on the tasks' channels first and asks then, so that no end falls between; a poll catches what a broken
connection swallowed. Ends that Redis has forgotten, or kept no result of, come from the record.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tqctl_runtime.broker import calls
from tqctl_runtime.client.outcomes import Ended, no_such_task
from tqctl_runtime.client.receipts import PATIENCE
from tqctl_runtime.core.errors import BrokerUnavailable, RecordUnavailable, WaitTimeout
from tqctl_runtime.core.states import FINAL, State

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.wire import Subscription, Wire

#: The safety net beside the channels, and the wait for an end that only the record can tell, in seconds.
POLL, RECORD_POLL = 1.0, 0.05
#: How long the record may take to tell why a task died or was cancelled; the end itself is known by then.
_REASON_PATIENCE = 1.0
#: How long a wait goes on for a result that only the record will have, in seconds: longer, nobody records.
_RESULT_PATIENCE = 60.0
_BURST = 500
#: Tasks that the hint of a wait that ended too early repeats.
_MOST_NAMED = 20

#: Reads the end of a task from the record; None where the record does not know it, or not its end.
ReadEnd = Callable[[str], Ended | None]


class Pending:
    """The tasks that are still waited for, and until when."""

    def __init__(self, ids: Iterable[str], timeout: float | None) -> None:
        self.ids = dict.fromkeys(ids)
        self._timeout = timeout
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._owed: dict[str, float] = {}

    def pause(self) -> float:
        """How long to listen before asking again, in seconds.

        Raises:
            WaitTimeout: the time is over.
        """
        longest = RECORD_POLL if self._owed else POLL
        if self._deadline is None:
            return longest
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise self.too_late()
        return min(longest, left)

    def too_late(self) -> WaitTimeout:
        """The error for tasks that did not end in time."""
        first = next(iter(self.ids))
        what = f"task {first}" if len(self.ids) == 1 else f"{len(self.ids):,} tasks, {first} among them,"
        named = list(self.ids)[:_MOST_NAMED]
        hint = " ".join(["tqctl task wait", *named, *(["…"] if len(named) < len(self.ids) else [])])
        return WaitTimeout(f"{what} did not end within {self._timeout:g} s; the work goes on", hint=hint)

    def due(self) -> list[str]:
        """All ids that are still waited for."""
        return list(self.ids)

    def asks_record(self, seen: calls.Watched) -> bool:
        """Whether :meth:`settle` may read the record, which blocks."""
        return seen.state is None or (seen.state in FINAL and self._is_vague(seen))

    @staticmethod
    def _is_vague(seen: calls.Watched) -> bool:
        """Whether the record knows more of the end. Of a cancel Redis keeps the handler's word only."""
        return seen.state == State.CANCELLED or (not seen.detail and seen.state != State.EXPIRED)

    def settle(self, seen: calls.Watched, read_end: ReadEnd) -> Ended | None:
        """The end of a task that *seen* tells, the record asked where it must be; None while it has not ended.

        Raises:
            NotFound: neither store knows the task.
            RecordUnavailable: only the record could tell, and it cannot be reached.
        """
        if seen.id not in self.ids or (seen.state is not None and seen.state not in FINAL):
            return None
        end = self._end(seen, read_end)
        if end is not None:
            self._owed.pop(seen.id, None)
            del self.ids[seen.id]
        return end

    def recorded_ends(self, read_end: ReadEnd) -> Iterator[Ended]:
        """The ends that the record knows, for when there is no broker to ask."""
        for task_id in self.due():
            try:
                end = read_end(task_id)
            except RecordUnavailable:
                return
            if end is not None:
                del self.ids[task_id]
                yield end

    def _end(self, seen: calls.Watched, read_end: ReadEnd) -> Ended | None:
        if seen.state is None:
            return self._recorded(seen, read_end)
        told = Ended.of_detail(seen.id, seen.state, seen.detail)
        if not self._is_vague(seen):
            return told
        since = self._owed.setdefault(seen.id, time.monotonic())
        try:
            found = read_end(seen.id)
        except RecordUnavailable:
            if seen.state != State.CANCELLED:
                raise
            return told  # the record would only tell why
        if found is not None and found.state == seen.state:  # else it is the end before it was run again
            return found
        waited = time.monotonic() - since
        if seen.state in (State.DEAD, State.CANCELLED) and waited > _REASON_PATIENCE:
            return told
        if waited > _RESULT_PATIENCE:
            raise RecordUnavailable(
                f"task {seen.id} has {seen.state}, but its result has not come to the record", hint="tqctl status"
            )
        return None

    def _recorded(self, seen: calls.Watched, read_end: ReadEnd) -> Ended:
        found = read_end(seen.id)
        if found is None:
            raise no_such_task(seen.id)
        return found


def wait_for_ends(
    wire: Wire, keys: Keys, ids: Sequence[str], timeout: float | None, read_end: ReadEnd
) -> Iterator[Ended]:
    """The ends of *ids* as they come.

    Raises:
        WaitTimeout: *timeout* seconds passed before all had ended.
        NotFound: neither store knows a task.
        BrokerUnavailable: there never was a broker, or none for a while, and the record knows no end.
        RecordUnavailable: only the record could tell, and it cannot be reached.
    """
    pending = Pending(ids, timeout)
    lost_at: float | None = None
    is_first = True
    while pending.ids:
        try:
            with wire.subscribe(*map(keys.done_channel, pending.ids)) as heard:
                is_first = False
                for end in _listen(wire, keys, heard, pending, read_end):
                    lost_at = None
                    if end is not None:
                        yield end
        except BrokerUnavailable:
            lost_at = lost_at or time.monotonic()
            is_over = not wire.was_connected or time.monotonic() - lost_at > PATIENCE
            if is_first or is_over:
                is_first = False
                yield from pending.recorded_ends(read_end)
            if pending.ids and is_over:
                raise
            if pending.ids:
                time.sleep(min(RECORD_POLL, pending.pause()))


def _listen(wire: Wire, keys: Keys, heard: Subscription, pending: Pending, read_end: ReadEnd) -> Iterator[Ended | None]:
    """The ends of what is pending as they come; None where the broker answered."""
    asked = pending.due()
    while pending.ids:
        for start in range(0, len(asked), calls.CHUNK):
            watched = wire.call(calls.watch(keys, asked[start : start + calls.CHUNK]))
            yield None
            for seen in watched:
                end = pending.settle(seen, read_end)
                if end is not None:
                    yield end
        if pending.ids:
            asked = _next_news(heard, pending)


def _next_news(heard: Subscription, pending: Pending) -> list[str]:
    """Ids to ask about: those told on their channels, or all when nothing came."""
    message = heard.wait(pending.pause())
    if message is None:
        return pending.due()
    told = [message]
    while len(told) < _BURST and (message := heard.wait(0)) is not None:
        told.append(message)
    return [task_id for channel, _ in told if (task_id := task_of(channel)) in pending.ids]


def task_of(channel: str) -> str:
    """The task id at the end of a done channel's name."""
    return channel.rpartition(":")[2]
