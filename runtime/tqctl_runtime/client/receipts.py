"""What a submit is answered with, and the errors of submits that went half-way."""

from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Literal, NamedTuple, Self

from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.calls import RECORDER_SILENT_MS, Accepted, SubmitReply, Watermark, Wish
from tqctl_runtime.core.errors import BrokerCannotWrite, Busy, Conflict, Partial, Pending, UsageError
from tqctl_runtime.core.states import State

#: ``accepted``: Redis has it. ``recorded``: SQL has it too, or it is refused. ``auto``: recorded while a recorder runs.
Durability = Literal["accepted", "recorded", "auto"]
#: How long a submit waits for the record, in seconds; a bulk submit waits as long without any progress of it.
CONFIRM_TIMEOUT = 10.0
#: Without a sign of the recorder for this long, in seconds, nobody records.
SILENCE = RECORDER_SILENT_MS / 1000
#: How long a wait for the record goes on before its caller is told, in seconds.
REMARK_AFTER = 1.0
#: Calls of a bulk submit that may wait for the record at the same time.
IN_FLIGHT = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.001, 0.02
#: How long a submit waits for the recorder of a namespace that was built anew, in seconds.
RECORDER_PATIENCE = 5.0
#: How long a submit is repeated after its connection was lost, in seconds.
PATIENCE = 10.0


class Receipt(NamedTuple):
    """What became of one submission.

    *state* is None where the task was there before: the same id (*is_known*), or the same idempotency key or unique
    window (*is_duplicate*, *id* is then the first task's). *is_conflict*: the key belongs to other work, *id* names
    it and nothing was queued. *is_recorded*: the record was seen to have it.
    """

    id: str
    state: State | None
    is_known: bool = False
    is_duplicate: bool = False
    is_conflict: bool = False
    is_recorded: bool = False
    is_recorder_alive: bool = False


class Unconfirmed(Pending):
    """Tasks that may be queued, but neither broker nor record confirmed it in time; *ids* may be submitted again."""

    def __init__(self, message: str, ids: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.ids = list(ids)


class PartlySubmitted(Partial):
    """A bulk submit that ended early: *ids* were queued, in order; ``__cause__`` is the error that ended it."""

    def __init__(self, message: str, ids: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.ids = list(ids)


class Posted:
    """One call of tasks that the broker has; *is_recorded* once the record was seen to have them.

    *drops* is how many connections had been given up before the answer came.
    """

    __slots__ = ("accepted", "call", "drops", "durability", "is_recorded", "is_recorder_alive", "reply", "wishes")

    def __init__(
        self,
        wishes: Sequence[Wish],
        call: Call[SubmitReply],
        reply: SubmitReply,
        drops: int,
        *,
        durability: Durability,
    ) -> None:
        self.wishes = wishes
        self.call = call
        self.reply = reply
        self.drops = drops
        self.accepted: list[Accepted] = reply.accepted
        self.durability = durability
        self.is_recorder_alive = reply.is_recorder_alive
        self.is_recorded = False

    @property
    def awaits_record(self) -> bool:
        """Whether the record was asked for, may come to have it, and was not seen to."""
        is_wanted = self.durability == "recorded" or (self.durability == "auto" and self.is_recorder_alive)
        return is_wanted and not self.is_recorded

    def sent_again(self, reply: SubmitReply, drops: int) -> None:
        """Take over the answer to the same call, sent once more."""
        self.reply, self.drops = reply, drops

    def ids(self) -> list[str]:
        """The ids that were asked for."""
        return [wish.id for wish in self.wishes]

    def receipts(self) -> list[Receipt]:
        """One receipt for each task, as it is known now."""
        told = self.is_recorded, self.is_recorder_alive
        return [Receipt(a.id, a.state, a.is_known, a.is_duplicate, a.is_conflict, *told) for a in self.accepted]


def check_durability(word: str) -> None:
    """Refuse an unknown *word*.

    Raises:
        UsageError: it is none of the three.
    """
    if word not in ("accepted", "recorded", "auto"):
        raise UsageError(f"durability {word!r} is none of accepted, recorded, auto")


class NoRecorder(Busy):
    """``recorded`` was asked for and nobody records; nothing was queued."""


def unwritable(error: BrokerCannotWrite) -> Busy:
    """The error for a broker whose disk took nothing."""
    return Busy(f"nothing of this call was queued: {error.message}", retry_after=5.0, hint=error.hint)


def no_recorder() -> NoRecorder:
    """The error for an explicit ``recorded`` that nobody could keep."""
    return NoRecorder(
        "nothing was queued: nobody writes the record at the moment, so the task could not be recorded",
        retry_after=5.0,
        hint="tqctl status says why; or submit with --durability accepted",
    )


def conflict(receipt: Receipt) -> Conflict:
    """The error for an idempotency key that belongs to other work."""
    return Conflict(
        f"this idempotency key belongs to task {receipt.id}, which has another handler or payload",
        hint=f"tqctl task show {receipt.id}",
    )


def unconfirmed(ids: Sequence[str]) -> Unconfirmed:
    """The error for tasks that are queued but not seen in the record in time."""
    return Unconfirmed(f"{_name(ids)} queued, but not recorded within {CONFIRM_TIMEOUT:g} s", ids, hint=_hint(ids))


def quarantined(ids: Sequence[str]) -> Unconfirmed:
    """The error for tasks that are queued but that the record could not take, all or some of them."""
    return Unconfirmed(
        f"{_name(ids)} queued, but the record could not take it: its journal entry is in quarantine",
        ids,
        hint="tqctl status --logs coordinator",
    )


def with_others(error: Unconfirmed, others: Iterable[Posted]) -> Unconfirmed:
    """*error* with the ids of *others* too: calls that were queued behind the one it speaks of."""
    error.ids += [task_id for posted in others for task_id in posted.ids()]
    return error


def doubtful(ids: Sequence[str], why: object) -> Unconfirmed:
    """The error for tasks of which nobody can tell now whether they are queued."""
    return Unconfirmed(f"{_name(ids)} may be queued or not: {why}", ids, hint=_hint(ids))


def _name(ids: Sequence[str]) -> str:
    return f"task {ids[0]}" if len(ids) == 1 else f"{len(ids):,} tasks from {ids[0]}"


def _hint(ids: Sequence[str]) -> str:
    return f"tqctl task show {ids[0]}"


def is_outdated(mark: Watermark, reply: SubmitReply) -> bool:
    """Whether the namespace was rebuilt since *reply*: what stood there may be lost with the old epoch."""
    return mark.position.epoch > reply.position.epoch


def partly(ids: Sequence[str], error: Exception) -> PartlySubmitted:
    """The error for a bulk submit that *error* ended after *ids* were queued."""
    return PartlySubmitted(f"{len(ids):,} tasks were queued, then: {error}", ids, hint=getattr(error, "hint", None))


class Bulk:
    """What a bulk submit has queued so far. As a context manager it turns an error on the way into PartlySubmitted."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._refused: Receipt | None = None

    def add(self, answered: Sequence[Receipt]) -> None:
        """Count the receipts of one call."""
        for receipt in answered:
            if receipt.is_conflict:
                self._refused = self._refused or receipt
            else:
                self._ids.append(receipt.id)

    def finish(self) -> list[str]:
        """The ids of all tasks.

        Raises:
            PartlySubmitted: an idempotency key belonged to other work.
        """
        if self._refused is not None:
            error = conflict(self._refused)
            raise partly(self._ids, error) from error
        return self._ids

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._ids and isinstance(error, Exception):
            raise partly(self._ids, error) from error
