"""Journal entries as the broker's scripts write them, for tests that need no broker."""

from __future__ import annotations

from typing import Any, NamedTuple

from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.serializer import pack
from tqctl_runtime.core.states import OUTCOME_CODES, STATE_CODES, Outcome, State
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.core.task import ErrorInfo

START = 1_800_000_000_000
WORKER = "wrk_01ARZ3NDEKTSV4RRFFQ69G5FAV"


class Entry(NamedTuple):
    """One entry of a journal."""

    stream_id: str
    epoch: int
    seq: int
    rows: bytes


class Journal:
    """Makes entries with contiguous numbers; time passes by a second with each."""

    def __init__(self, *, epoch: int = 1) -> None:
        self.epoch = epoch
        self.seq = 0
        self.now = START

    def entry(self, *rows: list[Any]) -> Entry:
        """One entry of *rows*."""
        return self.raw(b"".join(map(pack, rows)))

    def raw(self, data: bytes) -> Entry:
        """One entry of any bytes."""
        self.seq += 1
        self.now += 1_000
        return Entry(f"{self.now}-0", self.epoch, self.seq, data)

    def submit(
        self, task_id: str, *, v: int = 1, handler: str = "echo", queue: str = "default", due: int = 0, **options: Any
    ) -> list[Any]:
        """A submit row; *options* are those of a submission."""
        made = build_submission(handler, options.pop("payload", {"n": 1}), task_id=task_id, **options)
        state = STATE_CODES[State.SCHEDULED if due else State.QUEUED]
        key, expires = (made.idempotency_key or "").encode(), made.expires_at
        fingerprint = made.fingerprint().encode() if key or made.unique_ms else b""
        head = [b"S", self.now, task_id, v, state, queue, made.priority, made.max_retries]
        return [*head, due, expires, key, fingerprint, made.envelope()]

    def start(self, task_id: str, v: int, *, attempt: int = 1) -> list[Any]:
        """A row that tells of a started attempt."""
        return [b"R", self.now, task_id, v, attempt, WORKER, self.now]

    def finish(
        self,
        task_id: str,
        v: int = 2,
        *,
        state: State = State.SUCCEEDED,
        outcome: Outcome = Outcome.SUCCEEDED,
        attempt: int = 1,
        failures: int = 0,
        deaths: int = 0,
        due: int = 0,
        reason: str = "",
        result: bytes | None = None,
        error: ErrorInfo | None = None,
        log: bytes = b"",
        progress: tuple[float, str] | None = None,
    ) -> list[Any]:
        """A row that tells of an ended attempt, begun half a second ago."""
        detail = Detail(result, error, log, 0, progress).to_bytes()
        codes = [OUTCOME_CODES[outcome], STATE_CODES[state]]
        counts = [failures, deaths, due, reason]
        return [b"F", self.now, task_id, v, *codes, attempt, WORKER, self.now - 500, *counts, detail]

    def die(self, task_id: str, v: int = 2, *, error: ErrorInfo | None = None, attempt: int = 1) -> list[Any]:
        """A row that tells of an attempt after which the task is dead."""
        told = error or ErrorInfo("ValueError", "bad input 17", "Traceback ...")
        return self.finish(
            task_id,
            v,
            state=State.DEAD,
            outcome=Outcome.FAILED,
            failures=1,
            attempt=attempt,
            reason="retries used up",
            error=told,
        )

    def move(self, task_id: str, v: int, state: State, *, reason: str = "", who: str = "") -> list[Any]:
        """A row of a transition without an attempt."""
        return [b"T", self.now, task_id, v, STATE_CODES[state], 0, reason, who]

    def retry(self, task_id: str, v: int, *, who: str = "ann") -> list[Any]:
        """A row of an operator's retry."""
        return [b"O", self.now, task_id, v, STATE_CODES[State.QUEUED], 0, "try again", who]
