"""What the model keeps: plain records without behaviour."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tqctl_runtime.core.states import FINAL, Outcome, State

#: A journal row with words for state and outcome.
Row = tuple[Any, ...]


class BusyError(Exception):
    """Back-pressure: nothing was queued."""


class NotLeaderError(Exception):
    """The term is over."""


@dataclass
class ModelTask:
    """One task; *place* parts tasks of one submit that are equal otherwise."""

    id: str
    queue: str
    priority: int
    max: int
    envelope: bytes
    created: int
    base: int
    state: State = State.QUEUED
    epoch: int = 1
    v: int = 1
    failures: int = 0
    deaths: int = 0
    attempts: int = 0
    expires: int = 0
    due: int = 0
    started: int = 0
    token: str = ""
    held: bool = False
    suspect: bool = False
    cancel: bool = False
    cancel_reason: str = ""
    watched: int = 0
    idem: str = ""
    fingerprint: str = ""
    place: float = 0
    detail: bytes | None = None

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def is_standing(self) -> bool:
        """Whether it stands in line."""
        return self.state is State.QUEUED and not self.held

    @property
    def may_expire(self) -> bool:
        """Whether its expiry still means something: it was never started."""
        return self.expires > 0 and self.attempts == 0

    @property
    def rank(self) -> tuple[int, float, str]:
        """Its order in line: more urgent first, then earlier, then by place, then by id."""
        return (-self.priority, self.base + self.place, self.id)

    def line(self) -> dict[str, Any]:
        """The line that the broker keeps of it."""
        return {
            "layout": 1,
            "state": str(self.state),
            "v": self.v,
            "priority": self.priority,
            "max": self.max,
            "failures": self.failures,
            "deaths": self.deaths,
            "attempts": self.attempts,
            "created": self.created,
            "base": self.base,
            "expires": self.expires,
            "due": self.due,
            "started": self.started,
            "held": int(self.held),
            "suspect": int(self.suspect),
            "cancel": int(self.cancel),
            "watched": self.watched,
            "queue": self.queue,
            "token": self.token,
            "idem": self.idem,
        }


@dataclass
class ModelWorker:
    """A registered worker: its lease's end, and what it owns: by which round, handed out when."""

    until: int
    own: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Slot:
    """The answer to a worker's last round."""

    request: int
    token: str
    codes: list[int]
    ids: list[str]


@dataclass(frozen=True)
class End:
    """A reported end of an attempt; *since* is -1 where it never started."""

    id: str
    token: str
    outcome: Outcome
    since: int = 10
    delay: int = 0
    is_last: bool = False
    is_suspect: bool = False
    reason: str = ""
    detail: bytes = b""


@dataclass(frozen=True)
class RoundCall:
    """What a worker says in one round."""

    worker: str
    request: int
    places: int
    takes_suspect: bool
    queues: tuple[str, ...]
    started: tuple[tuple[str, str, int], ...] = ()
    ended: tuple[End, ...] = ()
