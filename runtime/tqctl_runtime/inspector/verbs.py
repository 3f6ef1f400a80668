"""What operators do to tasks, many at once: each id gets its own answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tqctl_runtime.broker import calls
from tqctl_runtime.client.outcomes import no_such_task
from tqctl_runtime.core.errors import Conflict, Overtaken, RecordUnavailable, TqctlError
from tqctl_runtime.core.states import FINAL, State
from tqctl_runtime.inspector.models import Change
from tqctl_runtime.record.filters import LetterFilter

if TYPE_CHECKING:
    from tqctl_runtime.inspector.live import Live
    from tqctl_runtime.record import Store
    from tqctl_runtime.record.read import Revival

#: From these an operator's retry runs a task again.
REVIVABLE = frozenset({State.DEAD, State.CANCELLED, State.EXPIRED})
RETRY_REASON = "retried by an operator"


def parts(ids: Sequence[str]) -> Iterator[list[str]]:
    """*ids*, each once, in lists for one call each."""
    wanted = list(dict.fromkeys(ids))
    for start in range(0, len(wanted), calls.CHUNK):
        yield wanted[start : start + calls.CHUNK]


def cancel(live: Live, store: Store, ids: Sequence[str], *, reason: str, who: str) -> list[Change]:
    """Cancel tasks: ``cancelled`` at once, or ``requested`` of whoever runs it."""
    changes = []
    for part in parts(ids):
        reply = live.change(calls.cancel(live.keys, part, reason=reason, who=who))
        codes = dict(zip(part, reply.codes, strict=True))
        states = _states(live, store, [item for item, code in codes.items() if code in (calls.FINAL, calls.ABSENT)])
        for task_id, code in codes.items():
            if code == calls.CANCELLED:
                changes.append(Change(task_id, "cancelled"))
            elif code == calls.REQUESTED:
                changes.append(Change(task_id, "requested"))
            else:
                state = states.get(task_id)
                changes.append(Change(task_id, error=_too_late(task_id, state, code, "cancelled")))
    return changes


def retry(live: Live, store: Store, ids: Sequence[str], *, who: str) -> list[Change]:
    """Run tasks again with failures and deaths at 0, scheduled and retrying ones now: ``queued``."""
    changes = []
    for part in parts(ids):
        codes = _retry(live, [(task_id, None) for task_id in part], who)
        forgotten = [task_id for task_id, code in codes.items() if code == calls.ABSENT]
        known = store.lookup.revivals(forgotten) if forgotten else {}
        revived: list[tuple[str, calls.Recorded | None]] = [
            (task_id, _recorded(item)) for task_id, item in known.items() if item.state in REVIVABLE
        ]
        codes |= _retry(live, revived, who)
        states = _states(live, store, [item for item, code in codes.items() if code != calls.DONE])
        for task_id, code in codes.items():
            error = None if code == calls.DONE else _too_late(task_id, states.get(task_id), code, "retried")
            changes.append(Change(task_id, None if error else "queued", error))
    return changes


def _retry(live: Live, tasks: list[tuple[str, calls.Recorded | None]], who: str) -> dict[str, int]:
    if not tasks:
        return {}
    # Sent once: the same retry twice would be answered as a conflict with itself.
    reply = live.ask(calls.retry(live.keys, tasks, reason=RETRY_REASON, who=who))
    return dict(zip([task_id for task_id, _ in tasks], reply.codes, strict=True))


def _recorded(known: Revival) -> calls.Recorded:
    return calls.Recorded(
        envelope=known.envelope,
        version=known.epoch << 32 | known.v,
        attempts=known.attempts,
        queue=known.queue,
        priority=known.priority,
        max_retries=known.max_retries,
        idempotency_key=known.idempotency_key,
        fingerprint=known.fingerprint,
        created_at=known.created_at,
    )


def discard(live: Live, store: Store, ids: Sequence[str], *, reason: str, who: str) -> list[Change]:
    """Close the open dead letters of tasks: ``discarded``; the tasks stay dead."""
    changes = []
    for part in parts(ids):
        letters = store.queries.dead_letters(LetterFilter(task_ids=tuple(part)), limit=len(part))
        letters_open = {letter.task_id for letter in letters}
        wanted = [task_id for task_id in part if task_id in letters_open]
        if wanted:
            live.change(calls.discard(live.keys, wanted, reason=reason, who=who))
        for task_id in part:
            error = None if task_id in letters_open else Overtaken(f"task {task_id} has no open dead letter")
            changes.append(Change(task_id, None if error else "discarded", error))
    return changes


def _states(live: Live, store: Store, ids: list[str]) -> dict[str, State]:
    """The states of *ids*: of the broker where it has them, else of the record as far as it can be read."""
    if not ids:
        return {}
    found = {task_id: task.state for task_id, task in live.look(ids).items()}
    missing = [task_id for task_id in ids if task_id not in found]
    try:
        return {**store.lookup.states(missing), **found} if missing else found
    except RecordUnavailable:
        return found


def _too_late(task_id: str, state: State | None, code: int, verb: str) -> TqctlError:
    if state is None:
        return no_such_task(task_id)
    if code == calls.ABSENT and state not in FINAL:
        said = f"Redis does not know task {task_id}, which is {state} in the record: it cannot be {verb}"
        return Conflict(said, hint="tqctl doctor --repair -n")
    return Overtaken(f"task {task_id} is {state} and cannot be {verb}", hint=f"tqctl task show {task_id}")
