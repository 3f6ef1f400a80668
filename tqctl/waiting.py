"""Waiting for tasks, and the exit their end stands for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tqctl_runtime.core.errors import Partial, TqctlError

if TYPE_CHECKING:
    from tqctl.session import Session
    from tqctl_runtime.client.sync import Client


def together(failures: list[TqctlError], waited: int) -> TqctlError | None:
    """The error for several waited tasks: none, the one all failures agree on, else a partial one."""
    if not failures:
        return None
    if waited == 1:
        return failures[0]
    kinds = {type(item) for item in failures}
    message = f"{len(failures):,} of {waited:,} tasks did not succeed"
    return (kinds.pop() if len(kinds) == 1 else Partial)(message, hint="tqctl task list --state dead")


def parse_wait(text: str | None) -> float | None:
    """Seconds of ``--wait-timeout``; None waits without end."""
    if text is None:
        return None
    from tqctl_runtime.core.clock import parse_duration_ms

    return parse_duration_ms(text) / 1000


def wait_here(session: Session, client: Client, task_id: str, timeout: str | None) -> None:
    """Wait for one task on the light road, print its result, and raise what its end stands for.

    Raises:
        TqctlError: it did not succeed, or the wait ended first.
    """
    try:
        ended = next(client.wait_each([task_id], parse_wait(timeout)))
    except KeyboardInterrupt:
        session.note(f"{task_id} goes on. Wait again: tqctl task wait {task_id}; stop it: tqctl task cancel {task_id}")
        raise
    session.output.value(ended.value())


def wait_for_all(session: Session, ids: list[str], timeout: str | None) -> None:
    """Wait for many tasks with a bar on a terminal; failures are told one a line.

    Raises:
        TqctlError: a task did not succeed, or the wait ended first.
    """
    from tqctl.sending import open_client

    failures: list[TqctlError] = []
    with open_client(session.settings) as client, count_up(session, "ended", len(ids)) as step:
        try:
            for ended in client.wait_each(ids, parse_wait(timeout)):
                step()
                failure = ended.failure()
                if failure is not None:
                    failures.append(failure)
                    if session.flags.verbose:
                        session.note(failure.message)
        except KeyboardInterrupt:
            session.note("the tasks go on")
            raise
    session.note(f"{len(ids) - len(failures):,} succeeded, {len(failures):,} did not")
    error = together(failures, len(ids))
    if error is not None:
        raise error


@contextmanager
def count_up(session: Session, word: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on a terminal that moves by one at each call of the yielded function."""
    if not session.shows_progress:
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(word), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(word, total=total)
        yield lambda: progress.advance(bar)
