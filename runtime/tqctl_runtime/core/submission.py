"""A submission: a validated wish for one task, and the two byte strings it travels as.

*head* is what the broker decides with (read by Lua), *envelope* what the worker runs (opaque to the broker). Client,
roles and running handlers all build submissions here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tqctl_runtime.core.errors import PayloadError, UsageError
from tqctl_runtime.core.ids import is_name, is_task_id, new_id
from tqctl_runtime.core.serializer import DEFAULT_LIMIT, canonical_json, dump_json, pack, pack_for_lua, unpack

ENVELOPE_LAYOUT = 1
DEFAULT_QUEUE = "default"
DEFAULT_PRIORITY = 5
PRIORITY_NAMES = {"low": 3, "normal": 5, "high": 7, "critical": 10}
_TAGS_MAXIMUM = 32
_TEXT_MAXIMUM = 256
_RETRIES_MAXIMUM = 1000
_NAME_HINT = "1 to 100 of A-Z a-z 0-9 . _ -"


def parse_priority(value: int | str) -> int:
    """1 to 10 (10 is most urgent) of a number or of low, normal, high, critical.

    Raises:
        UsageError: neither.
    """
    if type(value) is int and 1 <= value <= 10:
        return value
    if isinstance(value, str):
        value = PRIORITY_NAMES.get(value.lower(), value)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    # What comes out of a batch line may be of any type: True and 5.5 would pass as numbers.
    if not 1 <= number <= 10 or isinstance(value, bool | float):
        raise UsageError(f"priority {value!r} is not 1 to 10", hint="or low (3), normal (5), high (7), critical (10)")
    return number


@dataclass(slots=True)
class Submission:
    """Everything about one task before it exists. Durations and instants are milliseconds; 0 means none.

    *due_at* and *expires_at* are instants, *delay_ms* and *expires_ms* count from the broker's clock at the submit.
    *idempotency_key* holds until the task is final plus a day; *unique_ms* makes handler and payload unique that long.
    Not frozen: that triples the cost of making one.
    """

    id: str
    handler: str
    payload: bytes
    queue: str = DEFAULT_QUEUE
    priority: int = DEFAULT_PRIORITY
    max_retries: int = 5
    timeout_ms: int = 0
    delay_ms: int = 0
    due_at: int = 0
    expires_ms: int = 0
    expires_at: int = 0
    backoff: list[Any] | None = None
    tags: dict[str, str] = field(default_factory=dict)
    tenant: str | None = None
    correlation_id: str | None = None
    parent: str | None = None
    idempotency_key: str | None = None
    unique_ms: int = 0
    watched: bool = False

    def head(self) -> bytes:
        """The msgpack array that ``submit.lua`` reads; its order is the order there."""
        idempotency: str | bool = False
        unique: str | bool = False
        fingerprint = ""
        if self.idempotency_key is not None or self.unique_ms:
            fingerprint = self.fingerprint()
        if self.idempotency_key is not None:
            idempotency = self.idempotency_key
        if self.unique_ms:
            unique = fingerprint
        return pack_for_lua(
            [
                self.id,
                self.queue,
                self.priority,
                self.max_retries,
                self.delay_ms,
                self.due_at,
                self.expires_ms,
                self.expires_at,
                self.watched,
                idempotency,
                fingerprint,
                unique,
                self.unique_ms,
            ]
        )

    def envelope(self) -> bytes:
        """The msgpack array that :class:`Envelope` reads back; most have no window, and none of their bytes for one."""
        row = [
            ENVELOPE_LAYOUT,
            self.handler,
            self.payload,
            self.timeout_ms,
            self.backoff,
            self.tags or None,
            self.tenant,
            self.correlation_id,
            self.parent,
            self.idempotency_key,
        ]
        if self.unique_ms:
            row.append(self.unique_ms)
        return pack(row)

    def fingerprint(self) -> str:
        """What makes two submissions the same; see :func:`fingerprint`."""
        return fingerprint(self.handler, self.payload)


def fingerprint(handler: str, payload: bytes) -> str:
    """A short hash of *handler* and *payload*, whatever the order of its keys."""
    import hashlib

    return hashlib.blake2b(handler.encode() + b"\x00" + canonical_json(payload), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the worker and the recorder read of a submission."""

    handler: str
    payload: bytes
    timeout_ms: int
    backoff: list[Any] | None
    tags: dict[str, str]
    tenant: str | None
    correlation_id: str | None
    parent: str | None
    idempotency_key: str | None
    unique_ms: int = 0

    @classmethod
    def from_bytes(cls, data: bytes) -> Envelope:
        """The reverse of :meth:`Submission.envelope`.

        Raises:
            PayloadError: another layout, written by another version.
        """
        row = unpack(data)
        if row[0] != ENVELOPE_LAYOUT:
            raise PayloadError(f"envelope layout {row[0]} is not {ENVELOPE_LAYOUT}: another version wrote it")
        return cls(row[1], row[2], row[3], row[4], row[5] or {}, *row[6:11])


def build_submission(
    handler: str,
    payload: Mapping[str, Any] | bytes,
    *,
    defaults: Mapping[str, Any] | None = None,
    task_id: str | None = None,
    queue: str | None = None,
    priority: int | str | None = None,
    max_retries: int | None = None,
    timeout_ms: int | None = None,
    delay_ms: int = 0,
    due_at: int = 0,
    expires_ms: int = 0,
    expires_at: int = 0,
    backoff: list[Any] | None = None,
    tags: Mapping[str, str] | None = None,
    tenant: str | None = None,
    correlation_id: str | None = None,
    parent: str | None = None,
    idempotency_key: str | None = None,
    unique_ms: int = 0,
    watched: bool = False,
    payload_limit: int = DEFAULT_LIMIT,
) -> Submission:
    """Validate the wish for one task and fill what it leaves open from *defaults*, a catalogue row.

    *payload* is an object, or its JSON bytes where they were validated already. *backoff* is the wire form of
    :class:`~tqctl_runtime.core.retry.Backoff`; None leaves it to the handler.

    Raises:
        UsageError: a name, number, duration or combination is not valid.
        PayloadError: the payload is not a JSON object or too large.
    """
    row = defaults or {}
    queue = queue if queue is not None else row.get("queue") or DEFAULT_QUEUE
    _check_names(handler, queue, task_id)
    if delay_ms and due_at:
        raise UsageError("a task has a delay or a time, not both")
    if delay_ms < 0 or due_at < 0 or expires_ms < 0 or expires_at < 0 or unique_ms < 0 or (timeout_ms or 0) < 0:
        raise UsageError("durations and times cannot be negative")
    retries = max_retries if max_retries is not None else row.get("max_retries", 5)
    if not 0 <= retries <= _RETRIES_MAXIMUM:
        raise UsageError(f"max retries must be 0 to {_RETRIES_MAXIMUM:,}, not {retries}")
    if timeout_ms is None:
        timeout_ms = round((row.get("timeout_s") or 0) * 1000)
    _check_text("tenant", tenant)
    _check_text("correlation id", correlation_id)
    _check_text("idempotency key", idempotency_key)
    return Submission(
        id=task_id or new_id("tsk"),
        handler=handler,
        payload=_payload_bytes(payload, payload_limit),
        queue=queue,
        priority=parse_priority(priority if priority is not None else row.get("priority", DEFAULT_PRIORITY)),
        max_retries=retries,
        timeout_ms=timeout_ms,
        delay_ms=delay_ms,
        due_at=due_at,
        expires_ms=expires_ms,
        expires_at=expires_at,
        backoff=backoff,
        tags=_check_tags(tags) if tags else {},
        tenant=tenant,
        correlation_id=correlation_id,
        parent=parent,
        idempotency_key=idempotency_key,
        unique_ms=unique_ms,
        watched=watched,
    )


def _check_names(handler: str, queue: str, task_id: str | None) -> None:
    if not is_name(handler):
        raise UsageError(f"{handler!r} is not a handler name", hint=_NAME_HINT)
    if not is_name(queue):
        raise UsageError(f"{queue!r} is not a queue name", hint=_NAME_HINT)
    if task_id is not None and not is_task_id(task_id):
        raise UsageError(f"{task_id!r} is not a task id")


def _payload_bytes(payload: Mapping[str, Any] | bytes, limit: int) -> bytes:
    if not isinstance(payload, bytes):
        if not isinstance(payload, dict):
            raise PayloadError(f"a payload is an object with named parameters, not {type(payload).__name__}")
        return dump_json(payload, limit=limit)
    if len(payload) > limit:
        raise PayloadError(f"the payload has {len(payload):,} bytes, the limit is {limit:,}")
    return payload


def _check_text(what: str, text: str | None) -> None:
    if text is None:
        return
    if not text or len(text) > _TEXT_MAXIMUM or not text.isprintable():
        raise UsageError(f"{what}: not 1 to {_TEXT_MAXIMUM} printable characters")


def _check_tags(tags: Mapping[str, str] | None) -> dict[str, str]:
    if not tags:
        return {}
    if len(tags) > _TAGS_MAXIMUM:
        raise UsageError(f"a task has at most {_TAGS_MAXIMUM} tags")
    for key, value in tags.items():
        if not is_name(key):
            raise UsageError(f"{key!r} is not a tag name", hint=_NAME_HINT)
        _check_text(f"value of tag {key}", value)
    return dict(tags)
