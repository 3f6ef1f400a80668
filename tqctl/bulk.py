"""Changes to many tasks: chosen by ids or filters, shown before, made in chunks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tqctl.arguments import who
from tqctl.changes import VIEW
from tqctl.text import plural, shell_line
from tqctl_runtime.core.errors import NotFound, TqctlError, UsageError
from tqctl_runtime.core.states import FINAL, State

if TYPE_CHECKING:
    from tqctl.session import Session
    from tqctl_runtime.inspector import Change, Inspector
    from tqctl_runtime.record.filters import TaskFilter

#: Tasks described before a question.
_SAMPLE = 3
#: Tasks of one call.
_CHUNK = 1_000
_OPEN = tuple(state for state in State if state not in FINAL)


def check_choice(session: Session, *, has_ids: bool, is_filtered: bool, is_all: bool) -> None:
    """Refuse a bulk change whose objects are not chosen in exactly one way: by ids, by filters, or by ``--all``.

    Raises:
        UsageError: in none, or in several; for ``--all`` beside others with the command that narrows.
    """
    if has_ids and is_filtered:
        raise UsageError("give ids or filters, not both")
    if is_all and (has_ids or is_filtered):
        other = "ids" if has_ids else "filters"
        narrowed = shell_line(["tqctl", *(word for word in session.flags.words if word != "--all")])
        raise UsageError(f"--all means everything: give it or {other}, not both", hint=f"without it: {narrowed}")
    if not (has_ids or is_filtered or is_all):
        raise UsageError("nothing is chosen", hint="give ids, a filter such as --queue or --handler, or --all")


def choose(session: Session, where: TaskFilter, *, has_ids: bool, is_all: bool) -> TaskFilter:
    """*where* narrowed to tasks that have not ended.

    Raises:
        UsageError: the choice is not clear, or of a state in which nothing can be cancelled.
    """
    named = (where.states, where.handler, where.queue, where.tags, where.tenant)
    is_filtered = any(named) or where.since is not None or where.until is not None
    check_choice(session, has_ids=has_ids, is_filtered=is_filtered, is_all=is_all)
    ended = [str(state) for state in where.states if state in FINAL]
    if ended:
        raise UsageError(f"{' and '.join(ended)} tasks have ended: nothing is left to cancel")
    return replace(where, states=where.states or _OPEN)


def sample(inspector: Inspector, ids: Sequence[str]) -> list[str]:
    """*ids*, the first few with what they are."""
    return [_describe(inspector, task_id) for task_id in ids[:_SAMPLE]] + list(ids[_SAMPLE:])


def _describe(inspector: Inspector, task_id: str) -> str:
    try:
        task = inspector.task(task_id)
    except NotFound:
        return task_id
    return f"{task_id}  {task.handler}  {task.state} in {task.queue}"


def preview(session: Session, inspector: Inspector, ids: Sequence[str]) -> None:
    """Show what would be cancelled: how many by state, and a sample; all of them where a format was asked for.

    Those of *ids* that have ended are counted apart.
    """
    states = inspector.states(ids)
    ended = Counter(str(state) for task_id in ids if (state := states.get(task_id)) in FINAL)
    ids = [task_id for task_id in ids if states.get(task_id) not in FINAL]
    if session.flags.output is not None or session.flags.fields:
        session.output.rows(VIEW, [{"id": task_id, "done": None, "error": None} for task_id in ids])
    if ended:
        told = ", ".join(f"{count:,} {state}" for state, count in ended.most_common())
        session.note(f"{plural(ended.total(), 'task')} cannot be cancelled, having ended: {told}")
    if not ids:
        session.note("nothing is left to cancel")
        return
    counts = Counter(str(states.get(task_id, "not recorded")) for task_id in ids)
    by_state = ", ".join(f"{count:,} {state}" for state, count in counts.most_common())
    session.note(f"{plural(len(ids), 'task')} would be cancelled: {by_state}")
    for line in sample(inspector, ids[:_SAMPLE]):
        session.note(f"  {line}")
    if len(ids) > _SAMPLE:
        session.note(f"  … and {len(ids) - _SAMPLE:,} more")


def cancel_all(session: Session, inspector: Inspector, ids: Sequence[str], reason: str) -> list[Change]:
    """Cancel *ids* a chunk at a time; where the broker goes away meanwhile, how far it came is told."""
    changes: list[Change] = []
    name = who()
    for start in range(0, len(ids), _CHUNK):
        try:
            changes += inspector.cancel(ids[start : start + _CHUNK], reason=reason, who=name)
        except (TqctlError, KeyboardInterrupt):
            if changes:
                done = sum(change.is_done for change in changes)
                session.note(f"{done:,} of {len(ids):,} were cancelled before; the same command goes on")
            raise
    return changes
