"""What became of the objects that a command changed: rows where a format asks for them, one line, an exit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqctl.output import Column, View
from tqctl_runtime.core.errors import Partial

if TYPE_CHECKING:
    from tqctl.session import Session
    from tqctl_runtime.inspector import Change

VIEW = View(
    "task",
    "id",
    ("id", "done", "error"),
    (Column("id", "id", key=True), Column("done", "done"), Column("error", "error")),
)
#: What a summary says where the word of the change alone would not be understood.
_WORDS = {"requested": "asked to stop", "queued": "queued again"}


def report(session: Session, changes: Sequence[Change], verb: str) -> None:
    """Tell what became of each object; *verb* is a past participle such as ``cancelled``.

    Raises:
        TqctlError: the only object could not be changed.
        Partial: some of several could not.
    """
    refused = [change for change in changes if change.error is not None]
    if len(changes) == 1 and changes[0].error is not None:
        raise changes[0].error
    if session.flags.output is not None or session.flags.fields:
        session.output.rows(
            VIEW, [change.to_json() for change in changes if change.is_done or session.format != "name"]
        )
    for change in refused:
        if change.error is not None:
            session.note(f"{change.id}: {change.error.message}")
    words = {_WORDS.get(change.done, change.done) for change in changes if change.done}
    session.summary(len(changes) - len(refused), "task", words.pop() if len(words) == 1 else verb, len(refused))
    if refused:
        raise Partial(f"{len(refused):,} of {len(changes):,} could not be {verb}")
