"""``tqctl dlq``: tasks that died; requeue or discard them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from tqctl.arguments import HandlerName, Ids, Limit, QueueName, SomeIds, ago, who
from tqctl.changes import report
from tqctl.commands.task import resolve_all, why
from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.session import Session, open_session
from tqctl.text import plural

if TYPE_CHECKING:
    from tqctl_runtime.inspector import Inspector, LetterFilter

VIEW = View(
    "dead letter",
    "task_id",
    (
        *("task_id", "died_at", "handler", "queue", "reason", "error", "fingerprint"),
        *("closed_at", "closed_as", "closed_by"),
    ),
    (
        Column("id", "task_id", key=True),
        Column("handler", "handler"),
        Column("queue", "queue"),
        Column("age", lambda row: ago(row.get("died_at")), right=True),
        Column("reason", "reason"),
        Column("error", lambda row: why({"error": row.get("error")})),
        Column("closed", lambda row: row.get("closed_as") or "", wide=True),
        Column("by", "closed_by", wide=True),
    ),
)
#: With ``--all`` it matters how each was dealt with.
CLOSED_VIEW = replace(VIEW, columns=tuple(replace(column, wide=False) for column in VIEW.columns))
ErrorText = Annotated[str | None, typer.Option(metavar="TEXT", help="part of the error's type or message")]
app = noun(
    "Dead letters: tasks that will not run again by themselves.",
    "  tqctl dlq list --error Timeout\n  tqctl dlq requeue 7K3Q9F2\n  tqctl dlq discard --handler resize --yes",
)


@verb(app, "list")
def list_(
    ctx: typer.Context,
    handler: HandlerName = None,
    queue: QueueName = None,
    error: ErrorText = None,
    everything: Annotated[bool, typer.Option("--all", help="also those requeued or discarded")] = False,
    limit: Limit = 50,
) -> None:
    """List dead letters, the newest first."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        found = inspector.dead_letters(_filter((handler, queue, error), with_closed=everything), limit=limit)
        session.remark(inspector)
    count = session.output.rows(CLOSED_VIEW if everything else VIEW, [letter.to_json() for letter in found])
    if not count:
        session.note("no dead letter matches")
    elif count == limit:
        session.note(f"the first {count:,}; more with --limit")


@verb(app, "show")
def show(ctx: typer.Context, ids: Ids) -> None:
    """Show dead tasks whole: error, traceback, all attempts."""
    from tqctl.commands.task import VIEW as TASK_VIEW

    session = open_session(ctx)
    with session.inspector() as inspector:
        rows = [inspector.task(task_id).to_json() for task_id in resolve_all(session, inspector, ids)]
    session.output.show(TASK_VIEW, rows)


@verb(app, "requeue", examples="  tqctl dlq requeue 7K3Q9F2\n  tqctl dlq requeue --handler resize --yes")
def requeue(
    ctx: typer.Context,
    ids: SomeIds = None,
    handler: HandlerName = None,
    queue: QueueName = None,
    error: ErrorText = None,
    everything: Annotated[bool, typer.Option("--all", help="all open ones")] = False,
) -> None:
    """Run dead tasks again: same id, counts reset, history kept."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        found = _pick(session, inspector, ids, (handler, queue, error), is_all=everything)
        if found:
            if len(found) > 1:
                session.confirm(f"requeue {plural(len(found), 'task')}", found)
            changes = inspector.retry(found, who=who())
            report(session, changes, "queued again", overtaken=None if ids else "were dead no longer")


@verb(app, "discard", examples="  tqctl dlq discard --error 'No such file' --yes")
def discard(
    ctx: typer.Context,
    ids: SomeIds = None,
    handler: HandlerName = None,
    queue: QueueName = None,
    error: ErrorText = None,
    everything: Annotated[bool, typer.Option("--all", help="all open ones")] = False,
) -> None:
    """Mark dead letters as dealt with; the tasks stay dead and keep their history."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        found = _pick(session, inspector, ids, (handler, queue, error), is_all=everything)
        if found:
            session.confirm(f"discard {plural(len(found), 'dead letter')}", found)
            changes = inspector.discard(found, who=who())
            report(session, changes, "discarded", overtaken=None if ids else "were dealt with meanwhile")


_Filters = tuple[str | None, str | None, str | None]
_EVERYTHING = 1_000_000


def _filter(filters: _Filters, *, with_closed: bool = False) -> LetterFilter:
    from tqctl_runtime.record.filters import LetterFilter

    handler, queue, error = filters
    return LetterFilter(handler=handler, queue=queue, error=error, with_closed=with_closed)


def _pick(
    session: Session, inspector: Inspector, ids: list[str] | None, filters: _Filters, *, is_all: bool
) -> list[str]:
    """The dead letters that ids, filters or ``--all`` name."""
    from tqctl.bulk import check_choice

    is_filtered = any(value is not None for value in filters)
    check_choice(session, has_ids=bool(ids), is_filtered=is_filtered, is_all=is_all)
    if ids:
        return resolve_all(session, inspector, ids)
    found = inspector.dead_letter_ids(_filter(filters), limit=_EVERYTHING)
    session.remark(inspector)
    if not found:
        session.note("no dead letter matches")
    return found
