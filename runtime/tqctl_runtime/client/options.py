"""The options of a submit as Python spells them, and their form in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from tqctl_runtime.core.errors import UsageError

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from tqctl_runtime.core.retry import Backoff


class Options(TypedDict, total=False):
    """Options of one task. Durations are ``timedelta`` or seconds, instants aware ``datetime``.

    *delay* and *at* exclude each other; *expires* is a duration after the task is due, or an instant; *timeout* None
    means no limit; *id* makes a repeated submit the same task; *unique_for* does so for equal handler and payload.
    *watched* keeps the result in Redis for a minute, for somebody who will wait.
    """

    id: str
    queue: str
    priority: int | str
    max_retries: int
    timeout: timedelta | float | None
    delay: timedelta | float
    at: datetime
    expires: timedelta | float | datetime
    backoff: Backoff
    tags: Mapping[str, str]
    tenant: str
    correlation_id: str
    parent: str
    idempotency_key: str
    unique_for: timedelta | float
    watched: bool


_SAME = (
    "queue",
    "priority",
    "max_retries",
    "tags",
    "tenant",
    "correlation_id",
    "parent",
    "idempotency_key",
    "watched",
)
_DURATIONS = {"delay": "delay_ms", "unique_for": "unique_ms"}
_KNOWN = frozenset(Options.__annotations__)


def to_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments of ``build_submission`` that *options* mean; what is None is left out.

    Raises:
        UsageError: an option is unknown, or is no duration or instant.
    """
    unknown = [name for name in options if name not in _KNOWN]
    if unknown:
        raise UsageError(f"submit has no option {', '.join(unknown)}", hint="options: " + ", ".join(sorted(_KNOWN)))
    fields = {name: options[name] for name in _SAME if options.get(name) is not None}
    if options.get("id") is not None:
        fields["task_id"] = options["id"]
    for name, field in _DURATIONS.items():
        if options.get(name) is not None:
            fields[field] = milliseconds(name, options[name])
    if options.get("at") is not None:
        fields["due_at"] = _instant("at", options["at"])
    if "timeout" in options:
        fields["timeout_ms"] = milliseconds("timeout", options["timeout"] or 0)
    expires = options.get("expires")
    if expires is not None and hasattr(expires, "timestamp"):
        fields["expires_at"] = _instant("expires", expires)
    elif expires is not None:
        fields["expires_ms"] = milliseconds("expires", expires)
    if options.get("backoff") is not None:
        fields["backoff"] = options["backoff"].to_wire()
    return fields


def milliseconds(name: str, value: Any) -> int:
    """Whole milliseconds of a ``timedelta`` or a number of seconds.

    Raises:
        UsageError: *value* is neither.
    """
    try:
        seconds = value.total_seconds() if hasattr(value, "total_seconds") else float(value)
        return round(seconds * 1000)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} must be a timedelta or seconds, not {value!r}") from None


def _instant(name: str, value: Any) -> int:
    if getattr(value, "tzinfo", None) is None or not hasattr(value, "timestamp"):
        raise UsageError(f"{name} must be an aware datetime", hint="datetime.now(UTC) + timedelta(minutes=5)")
    moment: float = value.timestamp()
    return round(moment * 1000)
