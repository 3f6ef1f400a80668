"""``tqctl doctor``: looks at everything a context stands on."""

from __future__ import annotations

from typing import Annotated

import typer

from tqctl.flags import single, verb
from tqctl.output import Column, View
from tqctl.session import open_session
from tqctl.text import plural

VIEW = View(
    "finding",
    "check",
    ("check", "level", "message", "hint"),
    (
        Column("check", "check", key=True),
        Column("level", "level", key=True),
        Column("message", "message"),
        Column("hint", "hint"),
    ),
)
doctor_app = single()


@verb(doctor_app, "doctor", examples="  tqctl doctor\n  tqctl doctor --problems -o json\n  tqctl -c prod doctor")
def doctor(
    ctx: typer.Context,
    problems: Annotated[bool, typer.Option("--problems", help="only what must be mended")] = False,
) -> None:
    """Check servers, record, coordinator, workers, clocks, versions; 20 where something must be mended."""
    from tqctl_runtime.core.errors import CheckFailed
    from tqctl_runtime.doctor import run_checks

    session = open_session(ctx)
    found = run_checks(session.settings)
    bad = [finding for finding in found if finding.is_problem]
    rows = [
        {"check": item.check, "level": item.level, "message": item.message, "hint": item.hint or None}
        for item in (bad if problems else found)
    ]
    session.output.rows(VIEW, rows)
    if bad:
        raise CheckFailed(f"{plural(len(bad), 'problem')} found", hint=bad[0].hint or None)
    session.note("nothing to mend")
