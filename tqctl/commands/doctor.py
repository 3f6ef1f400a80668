"""``tqctl doctor``: looks at everything a context stands on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tqctl.flags import single, verb
from tqctl.output import Column, View
from tqctl.session import open_session
from tqctl.text import plural

if TYPE_CHECKING:
    from tqctl.session import Session

VIEW = View(
    "finding",
    "check",
    ("check", "level", "message", "hint"),
    (
        Column("check", "check", key=True),
        Column("level", "level", key=True),
        Column("message", "message", narrow="below"),
        Column("hint", "hint", narrow="below"),
    ),
)
doctor_app = single()


def _counts(noun: str, names: str) -> View:
    fields = tuple(names.split())
    return View(noun, fields[0], fields, tuple(Column(name.replace("_", " "), name) for name in fields))


PLAN = _counts(
    "plan",
    "situation message is_needed open_in_record open_in_redis open_only_in_record open_only_in_redis "
    "settings handlers keys windows",
)
DONE = _counts("repair", "entries quarantined copied ended keys tasks pauses handlers held windows tombs seconds")


@verb(
    doctor_app,
    "doctor",
    examples="  tqctl doctor\n  tqctl doctor --problems -o json\n  tqctl -c prod doctor\n  tqctl doctor --repair -n",
)
def doctor(
    ctx: typer.Context,
    problems: Annotated[bool, typer.Option("--problems", help="only what must be mended")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="bring Redis and the record together again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="with --repair: only show")] = False,
) -> None:
    """Check servers, record, coordinator, workers, clocks, versions; 20 where something must be mended."""
    from tqctl_runtime.core.errors import CheckFailed, UsageError
    from tqctl_runtime.doctor import run_checks

    session = open_session(ctx)
    if repair:
        _repair(session, dry_run=dry_run)
        return
    if dry_run:
        raise UsageError("-n is for a repair", hint="tqctl doctor --repair -n")
    found = run_checks(session.settings)
    bad = [finding for finding in found if finding.is_problem]
    rows = [
        {"check": item.check, "level": item.level, "message": item.message, "hint": item.hint or None}
        for item in (bad if problems else found)
    ]
    session.output.rows(VIEW, rows)
    if bad:
        hints = {finding.hint for finding in bad}
        hint = "see the hints above" if len(hints) > 1 else bad[0].hint or None
        raise CheckFailed(f"{plural(len(bad), 'problem')} found", hint=hint)
    session.note("nothing to mend")


def _repair(session: Session, *, dry_run: bool) -> None:
    from tqctl_runtime.client.sync import user_name
    from tqctl_runtime.core.errors import CheckFailed
    from tqctl_runtime.doctor.repair import Mending

    with Mending(session.settings, preview=dry_run) as mending:
        plan = mending.plan()
        if dry_run or not plan.is_needed:
            session.output.show(PLAN, [plan.to_json()])
        if not plan.is_needed:
            session.note("nothing to repair")
            return
        if dry_run:
            raise CheckFailed(f"to be repaired: {plan.message}", hint="tqctl doctor --repair")
        session.note(plan.message)
        lines = [
            f"tasks that have not ended: {plan.open_in_record:,} in the record, {plan.open_in_redis:,} in Redis",
            f"of these {plan.open_only_in_record:,} only in the record, {plan.open_only_in_redis:,} only in Redis",
            f"{plural(plan.settings, 'setting')}, {plural(plan.handlers, 'handler')}, {plural(plan.keys, 'key')}",
        ]
        for line in lines:
            session.note(f"  {line}")
        session.confirm("bring both together and build Redis anew from the record")
        done = mending.repair(f"doctor ({user_name()})")
    session.output.show(DONE, [done.to_json()])
    session.note(f"repaired: {done}")
