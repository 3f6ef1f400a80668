"""The ``--batch`` side of ``submit``: the stream, progress, bad lines, the summary, waiting."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tqctl.batch import Batch, Events, Report, Standing, mark_of
from tqctl.commands.submit import warn_without_worker
from tqctl.output import Column, View
from tqctl.patience import OF_A_BATCH, not_recorded, obstacle, patience
from tqctl.sending import durability_of, open_client, read_catalogue, read_overview
from tqctl.session import say
from tqctl.terminated import Terminated, raising_terminated
from tqctl.text import dump, plural, shell_line
from tqctl_runtime.core.errors import Partial, TqctlError, UsageError
from tqctl_runtime.core.ids import new_id

if TYPE_CHECKING:
    from tqctl.commands.submit import Options
    from tqctl.session import Session
    from tqctl.wish import Wish
    from tqctl_runtime.client.receipts import Durability, Posted
    from tqctl_runtime.client.sync import Client
    from tqctl_runtime.core.submission import Submission

_MOST_WARNINGS = 5
_MOST_COMPLAINTS = 1_000
#: What a batch is called: an id, and the mark of the flags it was started with.
_BATCH_ID = re.compile(r"bat_[0-9A-HJKMNP-TV-Z]{26}_([0-9a-f]{8})\Z")

VIEW = View(
    "batch",
    "batch",
    ("batch", "lines", "submitted", "repeated", "refused"),
    tuple(Column(name, name, key=name == "batch") for name in ("batch", "lines", "submitted", "repeated", "refused")),
)


def run_batch(session: Session, wish: Wish, options: Options) -> None:
    """Submit the lines of ``--batch``.

    Raises:
        Partial: some lines were refused; each was told by its number.
        TqctlError: the broker failed; the note tells how to go on.
    """
    if wish.argv is not None:
        raise UsageError("nothing may follow -- beside --batch", hint='a line carries it as "argv": ["cmd", "arg"]')
    batch_id = _batch_id(wish, options)
    with (
        _open(session, str(options.batch)) as (stream, size),
        open_client(session.settings, on_start=None if options.dry_run else session.note) as client,
        _progress(session, size) as moved,
    ):
        if options.resume is None and not options.dry_run:
            session.note(f"batch {batch_id}")
        batch = _make(session, client, wish, options, batch_id, moved)
        report = _run(session, batch, stream, options)
    if not (report.submitted or report.repeated or report.refused):
        session.note(f"--batch {options.batch} held no lines")
    if options.dry_run:
        session.note(f"dry run: {plural(report.submitted, 'task')} would be submitted, {len(report.refused):,} refused")
    else:
        _settle(session, report, options)
    if report.refused:
        raise Partial(f"{plural(len(report.refused), 'line')} of {report.lines:,} refused")


def _make(
    session: Session, client: Client, wish: Wish, options: Options, batch_id: str, moved: Callable[[int], None]
) -> Batch:
    events = Events(
        refused=_refused(session),
        accepted=_accepted(session),
        moved=moved,
        waiting=_waiting(session, client),
    )
    return Batch(
        _DrySender() if options.dry_run else client,
        batch_id,
        wish,
        events,
        read_catalogue(client),
        patience(options.block, OF_A_BATCH, session.note),
        durability=durability_of(options.durability),
        limit=session.settings.payload_limit,
        is_checked=options.is_checked,
        is_watched=options.wait,
        standing=_standing(session) if options.resume else None,
    )


def _batch_id(wish: Wish, options: Options) -> str:
    """The id to go on with, or a fresh one.

    Raises:
        UsageError: it is no batch id, or flags that are the defaults of its lines are not those it was started with.
    """
    mark = mark_of(wish)
    if options.resume is None:
        return f"{new_id('bat')}_{mark}"
    found = _BATCH_ID.match(options.resume)
    if found is None:
        raise UsageError(f"{options.resume!r} is not a batch id", hint="it begins with bat_ and was told at the start")
    if found[1] != mark:
        raise UsageError(
            f"{options.resume} was started with other flags, and they are the defaults of its lines",
            hint="repeat the flags as they were (HANDLER, --queue, -p …): the line told when it stopped has them",
        )
    return options.resume


def _run(session: Session, batch: Batch, stream: BinaryIO, options: Options) -> Report:
    try:
        with raising_terminated():
            return batch.run(stream)
    except (KeyboardInterrupt, Terminated, TqctlError):
        if not options.dry_run:
            _tell(session, batch.report)
            words = ["tqctl", *session.flags.words]
            words += [] if options.resume else ["--resume", batch.report.batch]
            again = ", with the same lines on stdin" if options.batch == "-" else ""
            say(f"stopped after line {_how_far(batch)}; the rest{again}: {shell_line(words)}")
        raise


def _how_far(batch: Batch) -> str:
    """The last line that the broker has, with what became of it and those before it."""
    report = batch.report
    repeated = f", {report.repeated:,} were there already" if report.repeated else ""
    recorded = f", recorded up to line {report.recorded:,}" if batch.awaits_record else ""
    return f"{report.reached:,}: {plural(report.submitted, 'task')} submitted{repeated}{recorded}"


class _DrySender:
    """Answers like the broker and keeps nothing."""

    def post(self, wishes: Sequence[Submission], *, durability: Durability) -> Posted:
        """Say yes to every task."""
        from tqctl_runtime.broker.call import Call
        from tqctl_runtime.broker.calls import Accepted, Position, SubmitReply
        from tqctl_runtime.client.receipts import Posted
        from tqctl_runtime.core.states import State

        reply = SubmitReply(Position(0, 0), 0, False, [Accepted(wish.id, State.QUEUED) for wish in wishes])
        return Posted(wishes, Call("nothing", (), lambda _: reply), reply, 0, durability="accepted")

    def confirm(self, posted: Posted, *, is_bulk: bool, waiting: Callable[[], None] | None) -> None:
        """Nothing is recorded."""


def _waiting(session: Session, client: Client) -> Callable[[], None]:
    """Say once what a batch waits for, however often it does."""
    has_told = False

    def tell() -> None:
        nonlocal has_told
        if not has_told:
            session.note(f"waiting for the record: {obstacle(client)}")
        has_told = True

    return tell


def _refused(session: Session) -> Callable[[int, str], None]:
    """Tell of bad lines; of a whole bad file only how it begins, unless details are asked for."""
    told = 0

    def tell(number: int, why: str) -> None:
        nonlocal told
        told += 1
        if told <= _MOST_COMPLAINTS or session.flags.verbose:
            say(f"line {number}: {why}")
        elif told == _MOST_COMPLAINTS + 1:
            say(f"line {number} and more: counted, not told; all: -v, or refused in -o json")

    return tell


def _accepted(session: Session) -> Callable[[int, str], None]:
    """What happens to each accepted line: nothing unless a format asks for all of them."""
    if session.flags.output == "name":
        return lambda _, task_id: session.output.line(task_id)
    if session.flags.output == "jsonl":
        return lambda number, task_id: session.output.line(dump({"line": number, "id": task_id}))
    return lambda *_: None


def _standing(session: Session) -> Standing:
    """What stands under some ids: the broker forgets a finished task's id after an hour, the record does not."""

    def find(ids: list[str]) -> Mapping[str, tuple[str, Any]]:
        with session.inspector() as inspector:
            return inspector.standing(ids)

    return find


def _tell(session: Session, report: Report) -> None:
    row = {
        "batch": report.batch,
        "lines": report.lines,
        "submitted": report.submitted,
        "repeated": report.repeated,
        "refused": [{"line": number, "error": why} for number, why in report.refused],
    }
    if session.format == "json":
        session.output.show(VIEW, [row])
    elif session.flags.output is None:
        session.output.line(report.batch)
    elif session.format not in {"name", "jsonl"}:
        session.output.rows(VIEW, [{**row, "refused": len(report.refused)}])


def _settle(session: Session, report: Report, options: Options) -> None:
    _tell(session, report)
    repeated = f", {report.repeated:,} were there already" if report.repeated else ""
    session.note(f"{plural(report.submitted, 'task')} submitted{repeated}, {len(report.refused):,} lines refused")
    if report.submitted and not report.is_recorded and options.durability is None:
        with open_client(session.settings) as client:
            recorded = f"recorded up to line {report.recorded:,}; " if report.recorded else ""
            session.note(recorded + not_recorded(client))
    if report.pairs and not session.flags.quiet:
        with open_client(session.settings) as client:
            overview = read_overview(client)
        for handler, queue in sorted(report.pairs)[:_MOST_WARNINGS]:
            warn_without_worker(session, overview, handler, queue)
    if options.wait and report.ids:
        from tqctl.waiting import wait_for_all

        wait_for_all(session, report.ids, options.wait_timeout)


@contextmanager
def _open(session: Session, name: str) -> Iterator[tuple[BinaryIO, int]]:
    """The stream of ``--batch`` and its size in bytes, 0 where that is unknown."""
    if name == "-":
        yield session.stdin("--batch -"), 0
        return
    path = Path(name)
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UsageError(f"--batch: {name} cannot be read: {error.strerror}") from None
    with stream:
        yield stream, path.stat().st_size if path.is_file() else 0


@contextmanager
def _progress(session: Session, size: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; the yielded function takes the bytes of each line."""
    if not session.shows_progress:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.fields[lines]:,} lines"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    lines = 0
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("submit", total=size or None, lines=0)

        def moved(count: int) -> None:
            nonlocal lines
            lines += 1
            if lines % 100 == 0:
                progress.update(bar, advance=0, lines=lines)
            progress.advance(bar, count)

        yield moved
