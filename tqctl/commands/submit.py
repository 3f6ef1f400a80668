"""``tqctl submit``: queue one task, or a batch of them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tqctl.flags import Flags, TailCommand, single, verb
from tqctl.output import Column, View
from tqctl.parameters import parse_payload, parse_tags
from tqctl.sending import (
    durability_of,
    has_worker,
    lacking,
    open_client,
    read_catalogue,
    read_overview,
    read_row,
    unknown,
)
from tqctl.session import Session, open_session, say
from tqctl.wish import Wish
from tqctl_runtime.config import PREFIX
from tqctl_runtime.core.errors import TqctlError, UsageError

if TYPE_CHECKING:
    from tqctl_runtime.broker.views import Overview
    from tqctl_runtime.client.receipts import Receipt
    from tqctl_runtime.client.sync import Client
    from tqctl_runtime.core.submission import Submission

_FIELDS = (
    *("id", "handler", "queue", "priority", "state", "is_duplicate", "payload", "max_retries", "timeout_s"),
    *("delay_s", "scheduled_at", "expires_s", "tags", "tenant", "correlation_id", "idempotency_key"),
)
VIEW = View(
    "submission",
    "id",
    _FIELDS,
    tuple(Column(name, name, key=name == "id") for name in ("id", "handler", "queue", "priority", "state")),
)
DURABILITIES = ("accepted", "recorded")
submit_app = single()
_EXAMPLES = """  tqctl submit echo -p message=hi --wait
  tqctl submit resize -p path=a.png -p width:=640 --queue images --priority high
  tqctl submit shell --timeout 5m -- rsync -a src/ dst/
  tqctl submit --batch tasks.ndjson"""


def positional_places(args: list[str], params: list[Any]) -> list[int]:
    """Where the positional words of *args* stand, options and their values left out."""
    takes = {name for p in params if not getattr(p, "is_flag", True) and not p.count for name in p.opts}
    places, skip = [], False
    for place, word in enumerate(args):
        if skip:
            skip = False
        elif word.startswith("-") and word != "-":
            short_with_value = not word.startswith("--") and len(word) > 2 and word[:2] in takes
            skip = word in takes and not short_with_value
        else:
            places.append(place)
    return places


@dataclass(frozen=True, slots=True)
class Options:
    """How to submit, beside what; texts as typed."""

    durability: str | None
    wait: bool
    wait_timeout: str | None
    block: str | None
    is_checked: bool
    dry_run: bool
    batch: str | None
    resume: str | None

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            UsageError: a value is unknown, or a flag lacks the one it belongs to.
        """
        if self.durability not in (None, *DURABILITIES):
            raise UsageError(f"--durability {self.durability!r} is neither accepted nor recorded")
        if self.batch is None and self.resume is not None:
            raise UsageError("--resume needs --batch", hint=f"tqctl submit --batch FILE --resume {self.resume}")
        if self.wait_timeout is not None and not self.wait:
            raise UsageError("--wait-timeout needs --wait", hint="--timeout is the time limit of each attempt")


class SubmitCommand(TailCommand):
    """Takes exactly one positional: a second one would have its own options read as ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse a second positional before any option behind it can act."""
        places = positional_places(args, self.get_params(ctx))
        if len(places) > 1 and not ctx.resilient_parsing:
            if isinstance(ctx.obj, Flags):
                ctx.obj.command = ctx.command_path
            raise _second_positional(args, places, ctx.obj)
        return super().parse_args(ctx, args)


def _second_positional(args: list[str], places: list[int], flags: Any) -> UsageError:
    words = [args[place] for place in places[1:]]
    tail = ["--", *flags.tail] if isinstance(flags, Flags) and flags.tail is not None else []
    if all("=" in word for word in words):
        fixed = [part for n, word in enumerate(args) for part in (("-p", word) if n in places[1:] else (word,))]
        hint = " ".join(f"-p {shlex.quote(word)}" for word in words)
        line = shlex.join(["tqctl", "submit", *fixed, *tail])
        return UsageError(f"{words[0]} stands outside of -p", hint=f"{hint}, so: {line}")
    handler, second = args[places[0]], places[1]
    parameters = _known_parameters(handler)
    if parameters is None:
        line = shlex.join(["tqctl", "submit", *args[:second], "--", *args[second:], *tail[1:]])
    else:
        name = parameters[0] if parameters else "KEY"
        line = shlex.join(["tqctl", "submit", handler, "-p", f"{name}={words[0]}"])
    return UsageError(f"submit takes one handler, {words[0]!r} is a second", hint=line)


def _known_parameters(handler: str) -> list[str] | None:
    """Names of what *handler* takes; None where it runs a command, by the catalogue or else by its name."""
    from tqctl_runtime.config import load_settings
    from tqctl_runtime.core.builtins import GUARDED

    try:
        with open_client(load_settings()) as client:
            row = read_row(client, handler)
    except TqctlError:
        row = None
    if row is None:
        return None if handler in GUARDED else []
    return None if row.get("argv") else [name for name, _, _ in row["parameters"]]


@verb(submit_app, "submit", examples=_EXAMPLES, cls=SubmitCommand)
def submit(
    ctx: typer.Context,
    handler: Annotated[str | None, typer.Argument(metavar="[HANDLER]")] = None,
    param: Annotated[
        list[str] | None, typer.Option("--param", "-p", metavar="K=V", help="KEY=VALUE, KEY:=JSON or KEY=@FILE")
    ] = None,
    payload: Annotated[str | None, typer.Option(metavar="JSON|@FILE|-", help="all parameters as one object")] = None,
    queue: Annotated[str | None, typer.Option(metavar="QUEUE", help="default: the handler's")] = None,
    priority: Annotated[str | None, typer.Option(metavar="1-10", help="or low, normal, high, critical")] = None,
    delay: Annotated[str | None, typer.Option(metavar="10m", help="not before this time has passed")] = None,
    at: Annotated[str | None, typer.Option(metavar="TIME", help="not before: ISO, 18:00, tomorrow 09:00")] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="1h", help="not started this long after it is due: dropped")
    ] = None,
    max_retries: Annotated[int | None, typer.Option(metavar="N", help="N retries are N+1 attempts")] = None,
    timeout: Annotated[str | None, typer.Option(metavar="30s", help="time limit of each attempt; 0: none")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="K=V", help="for filters; repeatable")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="NAME")] = None,
    correlation_id: Annotated[str | None, typer.Option(metavar="TEXT")] = None,
    idempotency_key: Annotated[str | None, typer.Option(metavar="TEXT", help="the same key, the same task")] = None,
    unique_for: Annotated[str | None, typer.Option(metavar="10m", help="same handler and payload only once")] = None,
    durability: Annotated[str | None, typer.Option(metavar="accepted|recorded")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="until it ends; print its result")] = False,
    wait_timeout: Annotated[str | None, typer.Option(metavar="60s", help="stop waiting, the task goes on")] = None,
    block: Annotated[
        str | None, typer.Option(metavar="60s", help="try again for so long when busy; a batch does for 60s")
    ] = None,
    unchecked: Annotated[bool, typer.Option("--unchecked", help="accept handlers no worker has told of")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="check and show, submit nothing")] = False,
    batch: Annotated[str | None, typer.Option(metavar="FILE|-", help="one JSON object a line")] = None,
    resume: Annotated[str | None, typer.Option(metavar="BATCH", help="submit what is left of a batch")] = None,
) -> None:
    """Queue one task of HANDLER, or a batch. What follows -- is the command of handlers that run one."""
    session = open_session(ctx)
    options = Options(durability, wait, wait_timeout, block, not unchecked, dry_run, batch, resume)
    options.check()
    wish = Wish(
        *(handler, param or (), _payload(session, payload, options), queue, priority, delay, at, expires, max_retries),
        *(timeout, parse_tags(tag or ()), tenant, correlation_id, idempotency_key, unique_for, session.flags.tail),
    )
    if batch is not None:
        from tqctl.batch_command import run_batch

        run_batch(session, wish, options)
    elif handler is None:
        raise UsageError("no handler is named", hint="tqctl submit HANDLER -p KEY=VALUE; handlers: tqctl handler list")
    else:
        _submit_one(session, wish, options)


def _payload(session: Session, text: str | None, options: Options) -> dict[str, Any] | None:
    if text is None:
        return None
    if text == "-" and options.batch == "-":
        raise UsageError("--payload - and --batch - cannot both read stdin")
    limit = session.settings.payload_limit
    return parse_payload(text, lambda: session.stdin("--payload -").read(limit + 1), limit=limit)


def _submit_one(session: Session, wish: Wish, options: Options) -> None:
    understood = wish.understood()
    if understood is not None:
        session.note(understood)
    with open_client(session.settings, on_start=None if options.dry_run else session.note) as client:
        submission = wish.build(
            _row(client, str(wish.handler), is_checked=options.is_checked),
            is_checked=options.is_checked,
            is_watched=options.wait,
            limit=session.settings.payload_limit,
        )
        if options.dry_run:
            session.note("dry run: nothing was submitted")
            session.output.show(VIEW, [_shown(submission, None)])
            return
        task_id = _send(session, client, submission, options)
        if options.wait:
            from tqctl.waiting import wait_here

            wait_here(session, client, task_id, options.wait_timeout)


def _send(session: Session, client: Client, submission: Submission, options: Options) -> str:
    """Submit it and wait for the record; returns the id, which is told whatever ends the wait."""
    from tqctl.patience import not_recorded, obstacle, patience
    from tqctl.terminated import Terminated, raising_terminated
    from tqctl_runtime.client.receipts import Unconfirmed, conflict

    task_id, told = submission.id, "may be queued or not"
    posted = None
    try:
        with raising_terminated():
            patient = patience(options.block, 0, session.note)
            posted = patient.post(client, [submission], durability_of(options.durability))
            receipt = posted.receipts()[0]
            if receipt.is_conflict:
                raise conflict(receipt)
            task_id, told = receipt.id, "is queued, and was not seen in the record yet"
            _tell(session, client, submission, receipt, is_waited=options.wait)
            client.confirm(posted, waiting=lambda: session.note(f"queued, waiting for the record: {obstacle(client)}"))
    except (KeyboardInterrupt, Terminated):
        say(f"{task_id} {told}: tqctl task show {task_id}")
        raise
    except Unconfirmed as error:
        if posted is None and not options.wait:
            session.output.line(task_id)
        if not options.wait:
            raise
        session.note(error.message)
    else:
        if options.durability is None and not posted.is_recorded:
            session.note(not_recorded(client))
    return task_id


def _tell(session: Session, client: Client, submission: Submission, receipt: Receipt, *, is_waited: bool) -> None:
    """Print the id before the record is waited for, with what its reader should know."""
    if not is_waited:
        _print_id(session, submission, receipt)
        sys.stdout.flush()
    if receipt.is_duplicate:
        session.note(f"already submitted as {receipt.id}")
    _warn(session, client, submission)


def _row(client: Client, handler: str, *, is_checked: bool) -> Any:
    row = read_row(client, handler)
    if row is None and is_checked:
        error = unknown(handler, read_catalogue(client))
        raise type(error)(error.message, hint=f"{error.hint}; --unchecked submits it anyway")
    return row


def _print_id(session: Session, submission: Submission, answer: Receipt) -> None:
    if session.flags.output in (None, "name") and not session.flags.fields:
        session.output.line(answer.id)
    elif session.format == "json":
        session.output.show(VIEW, [_shown(submission, answer)])
    else:
        session.output.rows(VIEW, [_shown(submission, answer)])


def _shown(submission: Submission, answer: Receipt | None) -> dict[str, Any]:
    from tqctl_runtime.core.clock import iso
    from tqctl_runtime.core.serializer import load_json

    return {
        "id": answer.id if answer else None,
        "handler": submission.handler,
        "queue": submission.queue,
        "priority": submission.priority,
        "state": str(answer.state) if answer and answer.state else None,
        "is_duplicate": bool(answer and answer.is_duplicate),
        "payload": load_json(submission.payload, limit=len(submission.payload)),
        "max_retries": submission.max_retries,
        "timeout_s": submission.timeout_ms / 1000 or None,
        "delay_s": submission.delay_ms / 1000 or None,
        "scheduled_at": iso(submission.due_at),
        "expires_s": submission.expires_ms / 1000 or None,
        "tags": submission.tags,
        "tenant": submission.tenant,
        "correlation_id": submission.correlation_id,
        "idempotency_key": submission.idempotency_key,
    }


def _warn(session: Session, client: Client, submission: Submission) -> None:
    if session.flags.quiet:
        return
    try:
        overview = read_overview(client)
    except TqctlError:
        return  # the task is accepted; what could not be looked at is no news about it
    warn_without_worker(session, overview, submission.handler, submission.queue)
    paused = next((q for q in overview.queues if q.name == submission.queue and q.pause), None)
    if paused is not None:
        session.note(f"queue {submission.queue} is paused; tqctl queue resume {submission.queue}")


def warn_without_worker(session: Session, overview: Overview, handler: str, queue: str) -> None:
    """Say where nobody runs tasks of *handler* in *queue* now why that is, or the command that starts a worker."""
    if has_worker(overview, handler, queue):
        return
    for worker, settings in lacking(overview, handler).items():
        names = ", ".join(f"{name} ({PREFIX}{name.upper()})" for name in settings)
        session.note(f"no live worker runs {handler}; it waits. {worker} has it, but {names} is not set there")
        return
    queues = "" if queue == "default" else f" --queues {queue}"
    session.note(f"no live worker runs {handler} of queue {queue}; it waits. Start one: tqctl worker start{queues}")
