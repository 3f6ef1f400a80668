"""What the Inspector answers with. ``to_json`` is the contract with scripts: fields are only ever added."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from tqctl_runtime.core.errors import TqctlError


@dataclass(frozen=True, slots=True)
class Pause:
    """Why a queue stands still. Instants are RFC 3339 text; *until* None: until it is resumed."""

    since: str | None
    until: str | None
    reason: str
    who: str


@dataclass(frozen=True, slots=True)
class QueueInfo:
    """A queue: *queued* tasks stand in line, *suspects* of them must run alone.

    *head* is the id of the next task. *scheduled*, *retrying* and *running* are counts of the record, None where it
    cannot be read. *workers* are names of live workers that serve it.
    """

    name: str
    queued: int
    suspects: int = 0
    head: str | None = None
    pause: Pause | None = None
    scheduled: int | None = None
    retrying: int | None = None
    running: int | None = None
    workers: list[str] = field(default_factory=list)

    @property
    def is_paused(self) -> bool:
        """Whether claims pass it by."""
        return self.pause is not None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return {**asdict(self), "is_paused": self.is_paused}


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker. *state* is what it said last, or one of seven others.

    ``late``: its lease has ended and nobody reaped it yet; ``silent``: it missed a beat; ``deaf``: it renews its lease
    and claims nothing. Of a process of this host: ``suspended`` by a signal; ``ended`` without a word. From the record:
    ``gone``, it left in order; ``lost``, its lease ended and its tasks were taken back. *ended_at* tells when.
    *seen_at* is its last heartbeat.
    """

    id: str
    name: str
    host: str
    pid: int | None
    version: str
    state: str
    started_at: str | None
    queues: list[str]
    concurrency: int
    processes: int
    handlers: list[str]
    running: int
    lease_until: str | None
    figures: dict[str, Any] = field(default_factory=dict)
    #: Handlers that it has and does not offer → the settings that they need and that are not set there.
    lacks: dict[str, list[str]] = field(default_factory=dict)
    ended_at: str | None = None
    seen_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CoordinatorInfo:
    """A coordinator. *term* is that of its leadership, 0 where another leads; *roles* name → problem or None.

    *state* is ``live``, or ``silent`` after three beats without a sign; a minute later it is forgotten. Of a process of
    this host: ``suspended`` by a signal, or ``ended`` without a word. *seen_at* is its last heartbeat.
    """

    id: str
    name: str
    host: str
    pid: int | None
    version: str
    started_at: str | None
    is_leader: bool
    term: int
    roles: dict[str, Any] = field(default_factory=dict)
    state: str = "live"
    seen_at: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RecordLag:
    """How far the record is behind the broker: journal *rows*, and the age in *ms* of the oldest that is missing.

    *is_recorder_alive* whether a recorder gave a sign in the last seconds; *entries* is the journal's length, *bytes*
    the size of the missing rows. *cause* says why nothing is recorded, *pressure* which marks are reached.
    """

    rows: int
    ms: int
    entries: int
    is_recorder_alive: bool
    bytes: int
    has_leader: bool
    cause: str | None
    pressure: list[str]

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Change:
    """What a bulk verb did to one task: *done* is a word such as ``cancelled``; *error* says why nothing was done."""

    id: str
    done: str | None = None
    error: TqctlError | None = None

    @property
    def is_done(self) -> bool:
        """Whether the verb had its effect."""
        return self.error is None

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types."""
        return {"id": self.id, "done": self.done, "error": self.error.message if self.error else None}
