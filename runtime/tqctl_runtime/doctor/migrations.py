"""The record can be reached and has this version's schema."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.core.errors import TqctlError
from tqctl_runtime.doctor.finding import Finding, ok, problem
from tqctl_runtime.doctor.scene import Scene


def check(scene: Scene) -> Iterator[Finding]:
    """Pending migrations."""
    if scene.store is None:
        error = scene.record_error
        assert error is not None
        yield problem(error.message, error.hint or "check TQCTL_DATABASE_URL")
        return
    if scene.is_record_empty:
        yield problem("the record does not exist yet", "tqctl up --detach, or: tqctl coordinator start")
        return
    try:
        pending = scene.pending
    except TqctlError as error:
        yield problem(error.message, error.hint or "check TQCTL_DATABASE_URL")
        return
    if pending:
        yield problem(f"{len(pending)} pending: {', '.join(pending)}", "tqctl db upgrade")
    else:
        yield ok(f"none pending ({scene.store.kind})")
