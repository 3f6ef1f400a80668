"""``tqctl task``: find tasks, look at them, wait for them, change them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqctl.arguments import (
    HandlerName,
    Ids,
    Interval,
    Limit,
    QueueName,
    Reason,
    Since,
    SomeIds,
    StateNames,
    TagPairs,
    TenantName,
    Until,
    Watch,
    ago,
    parse_interval,
    parse_when,
    who,
)
from tqctl.changes import report
from tqctl.flags import noun, verb
from tqctl.output import Column, View
from tqctl.parameters import parse_tags
from tqctl.session import Session, open_session
from tqctl.text import plural

if TYPE_CHECKING:
    from tqctl_runtime.core.errors import TqctlError
    from tqctl_runtime.inspector import Inspector
    from tqctl_runtime.record.filters import TaskFilter

FIELDS = (
    *("id", "handler", "queue", "state", "priority", "payload", "result", "error", "failures", "deaths"),
    *("max_retries", "timeout_s", "created_at", "scheduled_at", "expires_at", "started_at", "finished_at", "worker"),
    *("tags", "tenant", "correlation_id", "idempotency_key", "parent", "reason", "progress", "attempts"),
)


def _took(row: Mapping[str, Any]) -> str:
    """How long it has run; of a final task from the first second to the last."""
    from datetime import datetime

    from tqctl_runtime.core.clock import format_duration

    if not row.get("started_at"):
        return ""
    if not row.get("finished_at"):
        return ago(row["started_at"])
    ends = [datetime.fromisoformat(row[name]).timestamp() * 1000 for name in ("started_at", "finished_at")]
    return format_duration(ends[1] - ends[0])


def why(row: Mapping[str, Any]) -> str:
    """Why a task is where it is: its error, else the reason of its last step."""
    error = row.get("error")
    if error:
        return f"{error['type']}: {error['message']}" if error.get("message") else str(error["type"])
    return str(row.get("reason") or "")


def _filter(
    state: list[str] | None,
    handler: str | None,
    queue: str | None,
    tag: list[str] | None,
    tenant: str | None,
    since: str | None,
    until: str | None,
) -> TaskFilter:
    """The tasks that the filter flags mean."""
    from tqctl_runtime.core.states import parse_state
    from tqctl_runtime.record.filters import TaskFilter

    states = [parse_state(word) for part in state or () for word in part.split(",")]
    return TaskFilter(
        states=tuple(states),
        handler=handler,
        queue=queue,
        tags=parse_tags(tag or ()),
        tenant=tenant,
        since=parse_when(since),
        until=parse_when(until),
    )


VIEW = View(
    "task",
    "id",
    FIELDS,
    (
        Column("id", "id", key=True),
        Column("handler", "handler"),
        Column("queue", "queue"),
        Column("state", "state", key=True),
        Column("pri", "priority", right=True),
        Column("failed", "failures", right=True),
        Column("age", lambda row: ago(row.get("created_at")), right=True),
        Column("took", _took, right=True),
        Column("why", why),
        Column("worker", "worker", wide=True),
        Column("tags", "tags", wide=True),
        Column("tenant", "tenant", wide=True),
        Column("scheduled", "scheduled_at", wide=True),
        Column("deaths", "deaths", right=True, wide=True),
    ),
)
ENDS = View(
    "task", "id", ("id", "state", "result", "error"), tuple(Column(name, name) for name in ("id", "state", "result"))
)
app = noun(
    "Tasks: find them, look at them, wait for them, change them.",
    "  tqctl task list --state dead --since 1h\n  tqctl task show 7K3Q9F2\n  tqctl task logs 7K3Q9F2 -f",
)


@verb(
    app,
    "list",
    examples="  tqctl task list --state running --watch\n"
    "  tqctl task list --handler resize --tag user=7 --sort -created_at\n"
    "  tqctl task list --state dead -o name | tqctl task retry - --yes",
)
def list_(
    ctx: typer.Context,
    state: StateNames = None,
    handler: HandlerName = None,
    queue: QueueName = None,
    tag: TagPairs = None,
    tenant: TenantName = None,
    since: Since = None,
    until: Until = None,
    sort: Annotated[str, typer.Option(metavar="FIELD", help="-FIELD is the other way round")] = "-created_at",
    limit: Limit = 50,
    watch: Watch = False,
    interval: Interval = "2s",
) -> None:
    """List tasks from the record, the newest first."""
    session = open_session(ctx)
    wanted = _filter(state, handler, queue, tag, tenant, since, until)
    period = parse_interval(interval)
    is_whole = session.format in ("json", "jsonl")
    with session.inspector() as inspector:

        def read() -> list[Mapping[str, Any]]:
            page = inspector.tasks(wanted, limit=limit, sort=sort, with_attempts=is_whole)
            return [task.to_json() for task in page]

        if watch:
            from tqctl.watch import watch as run_watch

            run_watch(session.output, VIEW, read, period)
            return
        rows = read()
        session.remark(inspector)
    count = session.output.rows(VIEW, rows)
    if not count:
        session.note("no task matches")
    elif count == limit:
        session.note(f"the first {count:,}; more with --limit")


@verb(app, "show", examples="  tqctl task show 7K3Q9F2\n  tqctl task show 7K3Q9F2 -o json --fields state,attempts")
def show(ctx: typer.Context, ids: Ids) -> None:
    """Show whole tasks with their attempts."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        rows = [inspector.task(task_id).to_json() for task_id in resolve_all(session, inspector, ids)]
    session.output.show(VIEW, rows)


@verb(app, "result")
def result(ctx: typer.Context, ids: Ids) -> None:
    """Print results as JSON, one a line; 8 for a task that has not ended, 11 to 13 for one that failed."""
    from tqctl.waiting import together
    from tqctl_runtime.core.errors import Pending, TaskCancelled, TaskFailed

    session = open_session(ctx)
    failures: list[TqctlError] = []
    with session.inspector() as inspector:
        found = resolve_all(session, inspector, ids)
        for task_id in found:
            try:
                session.output.value(inspector.result(task_id))
            except (Pending, TaskCancelled, TaskFailed) as failure:
                failures.append(failure)
                if len(found) > 1:
                    session.note(failure.message)
    error = together(failures, len(found))
    if error is not None:
        raise error


@verb(app, "logs", examples="  tqctl task logs 7K3Q9F2 -f\n  tqctl task logs 7K3Q9F2 --attempt 1")
def logs(
    ctx: typer.Context,
    ids: Ids,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="until the task ends")] = False,
    attempt: Annotated[int | None, typer.Option(metavar="N", help="of one attempt", min=1)] = None,
) -> None:
    """Print what attempts wrote: stdout, stderr and logging."""
    from tqctl_runtime.core.errors import UsageError

    session = open_session(ctx)
    with session.inspector() as inspector:
        found = resolve_all(session, inspector, ids)
        if follow and (len(found) > 1 or attempt is not None):
            raise UsageError("--follow shows one task from its live attempt on")
        if follow:
            from tqctl.guard import end_with_reader

            end_with_reader()
        for task_id in found:
            chunks = inspector.follow_logs(task_id) if follow else inspector.logs(task_id, attempt)
            last: int | None = None
            for number, data in chunks:
                if last is not None and number != last:
                    session.note(f"attempt {number}:")
                last = number
                session.output.log(data)
            if last is None:
                session.note(f"{task_id} wrote nothing")


@verb(
    app, "wait", examples="  tqctl task wait 7K3Q9F2 --wait-timeout 60s\n  tqctl task list -o name | tqctl task wait -"
)
def wait(
    ctx: typer.Context,
    ids: Ids,
    wait_timeout: Annotated[str | None, typer.Option(metavar="60s", help="stop waiting, the tasks go on")] = None,
) -> None:
    """Wait until tasks end: 0 if they succeed, else the code of their end; one task's result is printed."""
    from tqctl.sending import open_client
    from tqctl.waiting import wait_for_all, wait_here

    session = open_session(ctx)
    with session.inspector() as inspector:
        found = resolve_all(session, inspector, ids)
    if len(found) > 1:
        wait_for_all(session, found, wait_timeout)
        return
    with open_client(session.settings) as client:
        wait_here(session, client, found[0], wait_timeout)


@verb(
    app,
    "cancel",
    examples="  tqctl task cancel 7K3Q9F2 --reason 'wrong file'\n"
    "  tqctl task cancel --queue mail --state queued --since 1h -n\n"
    "  tqctl task cancel --handler resize --tag user=7 --yes",
)
def cancel(
    ctx: typer.Context,
    ids: SomeIds = None,
    state: StateNames = None,
    handler: HandlerName = None,
    queue: QueueName = None,
    tag: TagPairs = None,
    tenant: TenantName = None,
    since: Since = None,
    until: Until = None,
    everything: Annotated[bool, typer.Option("--all", help="all that have not ended")] = False,
    reason: Reason = "cancelled by an operator",
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="only show what would be cancelled")] = False,
) -> None:
    """Cancel tasks by id or by filter: waiting ones at once, running ones are asked to stop, then killed."""
    from tqctl.bulk import cancel_all, choose, preview, sample

    session = open_session(ctx)
    wanted = _filter(state, handler, queue, tag, tenant, since, until)
    with session.inspector() as inspector:
        if ids:
            choose(session, wanted, has_ids=True, is_all=everything)
            found = resolve_all(session, inspector, ids)
        else:
            found = inspector.task_ids(choose(session, wanted, has_ids=False, is_all=everything))
            session.remark(inspector)
        if not found:
            session.note("no task matches that has not ended")
        elif dry_run:
            preview(session, inspector, found)
        else:
            if len(found) > 1 or not ids:
                session.confirm(f"cancel {plural(len(found), 'task')}", sample(inspector, found))
            changes = cancel_all(session, inspector, found, reason)
            report(session, changes, "cancelled", overtaken=None if ids else "had ended meanwhile")


@verb(app, "retry", examples="  tqctl task retry 7K3Q9F2")
def retry(ctx: typer.Context, ids: Ids) -> None:
    """Run final tasks again with the same id, or scheduled ones now; history is kept."""
    session = open_session(ctx)
    with session.inspector() as inspector:
        found = resolve_all(session, inspector, ids)
        if len(found) > 1:
            session.confirm(f"retry {len(found):,} tasks", found)
        report(session, inspector.retry(found, who=who()), "queued again")


def resolve_all(session: Session, inspector: Inspector, words: list[str]) -> list[str]:
    """Whole ids of *words*: ids, tails, or ``-`` for those of stdin.

    Raises:
        NotFound: one fits no task.
        AmbiguousId: one fits several.
        UsageError: stdin held none.
    """
    from tqctl_runtime.core.errors import UsageError

    found = [inspector.resolve(word) for word in session.ids(words)]
    if not found:
        raise UsageError("no id was given")
    return list(dict.fromkeys(found))
