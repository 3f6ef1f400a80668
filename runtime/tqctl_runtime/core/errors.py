"""Every error that tqctl raises on purpose.

*code* is the stable word scripts see in JSON errors; ``tqctl.__main__`` alone turns it into an exit code.
The message says what happened, *hint* is a command or a step that mends it.
"""

from __future__ import annotations

from collections.abc import Sequence


class TqctlError(Exception):
    """Base of all errors raised on purpose."""

    code = "error"
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TqctlError):
    """The call does not make sense as it was written."""

    code = "usage"


class PayloadError(UsageError):
    """A payload, result or option is not of the shape or size it must have."""

    code = "payload"


class UnknownHandler(UsageError):
    """No worker ever said it can run this handler."""

    code = "unknown_handler"


class ConfigError(TqctlError):
    """A setting, a configuration file, a context or the schema is not usable."""

    code = "config"


class NotFound(TqctlError):
    """The named object does not exist."""

    code = "not_found"


class AmbiguousId(NotFound):
    """A tail of an id fits several tasks; *candidates* are whole ids."""

    code = "ambiguous"

    def __init__(self, tail: str, candidates: Sequence[str]) -> None:
        super().__init__(
            f"{tail!r} fits {len(candidates)} tasks: {', '.join(candidates[:5])}",
            hint="give more of the id",
        )
        self.candidates = list(candidates)


class NotAllowed(TqctlError):
    """The caller may not do this."""

    code = "not_allowed"


class Conflict(TqctlError):
    """The object is not in a state that permits this."""

    code = "conflict"


class Overtaken(Conflict):
    """Its state does not permit this any more: it ended, or somebody else changed it."""


class Declined(TqctlError):
    """A confirmation was refused, or was needed and nobody could be asked."""

    code = "declined"


class Partial(TqctlError):
    """Some items of a bulk operation failed; each was already told."""

    code = "partial"


class Pending(TqctlError):
    """The work was accepted but is not finished or not confirmed yet."""

    code = "pending"


class CheckFailed(TqctlError):
    """A check found something."""

    code = "check"


class Unavailable(TqctlError):
    """A server or process that is needed cannot be reached."""

    code = "unavailable"
    retryable = True


class BrokerUnavailable(Unavailable):
    """Redis or Valkey cannot be reached, or its namespace is not open."""

    code = "broker_unavailable"


class BrokerTimeout(BrokerUnavailable):
    """The broker did not answer in time; the call may or may not have been carried out."""

    code = "broker_timeout"


class BrokerCannotWrite(BrokerUnavailable):
    """The broker answers, but its disk does not take what it writes, so that it refuses every change."""


class NotOpen(BrokerUnavailable):
    """The broker answers, but the namespace is not open: never opened, or under repair. Nothing was carried out."""

    code = "not_open"


class UnderRepair(Unavailable):
    """Somebody repairs the namespace now; it opens when that is done."""

    code = "under_repair"


class RecordUnavailable(Unavailable):
    """The SQL database cannot be reached."""

    code = "record_unavailable"


class Busy(TqctlError):
    """Back-pressure: nothing was queued. Try again after *retry_after* seconds."""

    code = "busy"
    retryable = True

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class WaitTimeout(TqctlError):
    """The client's own wait ended; the task goes on."""

    code = "wait_timeout"


class TaskFailed(TqctlError):
    """A waited task ended dead or expired."""

    code = "task_dead"


class TaskTimedOut(TaskFailed):
    """A waited task ended dead by its own time limit."""

    code = "task_timed_out"


class TaskCancelled(TqctlError):
    """A waited task was cancelled."""

    code = "task_cancelled"


class LeaseLost(TqctlError):
    """A write was refused because another holder owns the task, or the leader's term is over."""

    code = "lease_lost"


class StoresDiffer(TqctlError):
    """Redis and SQL do not belong together, or one of them is behind; nothing was written."""

    code = "stores_differ"


class NeedsRepair(StoresDiffer):
    """Redis and SQL do not fit together any more; nothing was written, and nobody works on before they do."""

    code = "needs_repair"


class Retry(Exception):  # a signal a handler raises, not an error
    """Raised by a handler to be run again, after *after* seconds if given; counts as a failure."""

    def __init__(self, reason: str = "asked to be retried", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Cancel(Exception):  # a signal a handler raises, not an error
    """Raised by a handler to end its own task as cancelled."""


class Interrupted(BaseException):
    """Raised inside a handler that must stop now; clean-up code runs, ``except Exception`` does not see it."""


class TimeLimitReached(Interrupted):
    """The attempt ran longer than its time limit."""


class CancelRequested(Interrupted):
    """Somebody asked for the running task to be cancelled."""
