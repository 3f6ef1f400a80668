"""What became of the objects that a command changed: rows where a format asks for them, one line, an exit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqctl.output import Column, View
from tqctl_runtime.core.errors import Overtaken, Partial

if TYPE_CHECKING:
    from tqctl.session import Session
    from tqctl_runtime.inspector import Change

VIEW = View(
    "task",
    "id",
    ("id", "done", "error"),
    (Column("id", "id", key=True), Column("done", "done"), Column("error", "error")),
)
#: Refusals that are told one by one.
_TOLD = 20
#: What a summary says where the word of the change alone would not be understood.
_WORDS = {"requested": "asked to stop", "queued": "queued again"}


def report(session: Session, changes: Sequence[Change], verb: str, *, overtaken: str | None = None) -> None:
    """Tell what became of each object; *verb* is a past participle such as ``cancelled``.

    *overtaken* is what is said of objects that a filter chose and whose state then changed, which is no failure of
    such a choice; None where the objects were named.

    Raises:
        TqctlError: the only object could not be changed.
        Partial: some of several could not.
    """
    failed = [change for change in changes if change.error is not None]
    late = [change for change in failed if overtaken is not None and isinstance(change.error, Overtaken)]
    refused = [change for change in failed if overtaken is None or not isinstance(change.error, Overtaken)]
    if len(changes) == 1 and refused and changes[0].error is not None:
        raise changes[0].error
    if session.flags.output is not None or session.flags.fields:
        session.output.rows(
            VIEW, [change.to_json() for change in changes if change.is_done or session.format != "name"]
        )
    for change in refused[:_TOLD]:
        if change.error is not None:
            session.note(f"{change.id}: {change.error.message}")
    if len(refused) > _TOLD:
        session.note(f"… and {len(refused) - _TOLD:,} more refusals; -o json tells all")
    words = Counter(_WORDS.get(change.done, change.done) for change in changes if change.done)
    first = verb if verb in words or not words else next(iter(words))
    said = [first, *(f"{count:,} {word}" for word, count in words.items() if word != first)]
    if late:
        said.append(f"{len(late):,} {overtaken}")
    session.summary(words[first], "task", ", ".join(said), len(refused))
    if refused:
        raise Partial(f"{len(refused):,} of {len(changes):,} could not be {verb}")
