"""Whether Redis and the record are halves of one pair, and which of them knows more: what a repair is decided by."""

from __future__ import annotations

import platform
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tqctl_runtime.broker.calls import Position
from tqctl_runtime.core.clock import format_duration

if TYPE_CHECKING:
    from tqctl_runtime.broker.repair_calls import Survey
    from tqctl_runtime.broker.wire import Wire
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.record.write import Checkpoint


_SQLITE = "sqlite:///"


class Situation(StrEnum):
    """How the two stores stand to each other."""

    #: Nothing was ever recorded, and Redis has nothing either.
    FRESH = "fresh"
    #: Both are there; the journal goes on where the record ends.
    FINE = "fine"
    #: Redis lost everything.
    EMPTY = "empty"
    #: A repair was interrupted.
    CLOSED = "closed"
    #: Redis does not have what the record has: its disk or a replica was behind.
    WENT_BACK = "went back"
    #: The record does not have what Redis has forgotten already: it is an older copy.
    RECORD_BEHIND = "record behind"
    #: Somebody repairs it now.
    UNDER_REPAIR = "under repair"
    #: Redis is empty, and it is another one than before.
    ELSEWHERE = "elsewhere"
    #: They were never halves of one pair.
    OTHER_PAIR = "other pair"


#: What a coordinator mends by itself.
BROKEN = frozenset({Situation.EMPTY, Situation.CLOSED, Situation.WENT_BACK, Situation.RECORD_BEHIND})
#: What nobody may touch without a person who says so: the data may be somebody else's, or safe in another place.
DOUBTFUL = frozenset({Situation.ELSEWHERE, Situation.OTHER_PAIR})


class Assessment(NamedTuple):
    """The situation and what it was told by, in words."""

    situation: Situation
    message: str

    @property
    def is_usable(self) -> bool:
        """Whether the namespace can be worked in as it is."""
        return self.situation in (Situation.FRESH, Situation.FINE)


def place_of(settings: Settings, wire: Wire) -> str:
    """Where the broker is, in words that stay the same: the private server's socket may move between folders."""
    if settings.redis_url is None:
        return f"the private server in {(settings.context_home / 'valkey').absolute()}"
    return wire.address.display


def record_place_of(settings: Settings) -> str:
    """Where the record is, in words that mean the same on every machine; a password is left out."""
    from urllib.parse import urlsplit

    from tqctl_runtime.config import mask_url

    url = settings.record_url
    if url.startswith(_SQLITE):
        return f"SQLite in {Path(url.removeprefix(_SQLITE)).expanduser().absolute()} on {platform.node()}"
    is_local = urlsplit(url).hostname in (None, "localhost", "127.0.0.1", "::1")
    return mask_url(url) + (f" on {platform.node()}" if is_local else "")


def differ(known: tuple[str, str], pairing: str, place: str, record: str = "") -> str:
    """That the record, at *record* and *known* by its pairing id and its Redis, is none of Redis of *pairing*."""
    at = f" ({record})" if record else ""
    return (
        f"the record{at} belongs to another Redis than {place}: pairing {known[0]} "
        f"(last at {known[1] or 'an unknown address'}), not {pairing}"
    )


def unpaired(record: str, place: str, theirs: str | None) -> str:
    """That the record, at *record*, has never recorded anything, while Redis at *place* is recorded into *theirs*."""
    return f"the record ({record}) was never paired, and Redis at {place} is recorded into another one: {theirs}"


def compare(known: Checkpoint | None, seen: Survey, place: str) -> Assessment:
    """As :func:`assess`, but a new record has no part in a Redis that somebody records now, and a Redis that lost
    something is left alone where the record knows another address.

    That may be the one that was left behind when a person moved the record: were it repaired by itself, both would
    take the record from each other and run each task twice.
    """
    if known is None and seen.is_recorded:
        message = f"the record is new, but a coordinator records Redis at {place} into another one now"
        return Assessment(Situation.OTHER_PAIR, message)
    found = assess(known, seen, place)
    moved = known is not None and known.broker not in ("", place)
    if known is None or not moved or found.situation not in (Situation.WENT_BACK, Situation.RECORD_BEHIND):
        return found
    return Assessment(
        Situation.ELSEWHERE,
        f"{found.message}; and this is Redis at {place}, while the record belongs to Redis at {known.broker}: "
        "stop every process that uses the one that is not meant",
    )


def assess(known: Checkpoint | None, seen: Survey, place: str) -> Assessment:
    """How the record, as of *known*, and Redis at *place*, as *seen*, stand to each other.

    A record that was never paired (None) is taken for the other half of whatever Redis is.
    """
    if known is not None and seen.pairing and seen.pairing != known.pairing:
        return Assessment(Situation.OTHER_PAIR, differ((known.pairing, known.broker), seen.pairing, place))
    if seen.is_under_repair:
        return under_repair(seen)
    if seen.epoch is None:
        return _closed(known, seen, place)
    if known is None:
        return Assessment(Situation.FINE, "the record is new")
    if seen.epoch < known.epoch:
        return Assessment(
            Situation.WENT_BACK, f"Redis went back: it is in epoch {seen.epoch}, the record in epoch {known.epoch}"
        )
    if seen.epoch > known.epoch:
        return Assessment(
            Situation.RECORD_BEHIND, f"the record is in epoch {known.epoch}, Redis in epoch {seen.epoch} already"
        )
    return _same_epoch(known, seen)


def under_repair(seen: Survey) -> Assessment:
    """That somebody repairs Redis as *seen*: since when and who, as far as Redis knows it."""
    who = seen.repair_by.partition(" ")[2]
    age = f" for {format_duration(max(seen.now - seen.repair_since, 0))}" if seen.repair_since else ""
    by = f", by {who}" if who else ""
    return Assessment(Situation.UNDER_REPAIR, f"a repair is at work{age}{by} (term {seen.repair_term})")


def _closed(known: Checkpoint | None, seen: Survey, place: str) -> Assessment:
    if seen.repair_term:
        return Assessment(Situation.CLOSED, "a repair was interrupted")
    if (known is None or known.is_fresh) and not seen.tasks:
        return Assessment(Situation.FRESH, "nothing was recorded yet")
    about = f"the record knows it up to entry {known.sequence} of epoch {known.epoch}" if known else "it was open once"
    if known is not None and known.broker not in ("", place) and not seen.tasks:
        return Assessment(
            Situation.ELSEWHERE,
            f"Redis at {place} is empty, but {about}, when Redis was at {known.broker}; "
            "stop every process that still uses that one before a repair",
        )
    return Assessment(Situation.EMPTY, f"Redis at {place} lost its data: {about}")


def _same_epoch(known: Checkpoint, seen: Survey) -> Assessment:
    is_trimmed = seen.mark.epoch == known.epoch and seen.mark.seq > known.sequence
    lost = Situation.RECORD_BEHIND if is_trimmed else Situation.WENT_BACK
    if seen.seq < known.sequence:
        return Assessment(
            Situation.WENT_BACK,
            f"Redis went back by {known.sequence - seen.seq:,} entries: its journal ends at {seen.seq}, "
            f"{known.sequence} is recorded",
        )
    ends = (
        f"the record went back by {seen.mark.seq - known.sequence:,} entries: it ends at {known.sequence}, "
        f"{seen.mark.seq} was recorded once"
    )
    here = Position(known.epoch, known.sequence)
    if known.stream_id != "0-0" and not is_trimmed and not _is_place(seen.anchor, here):
        return Assessment(
            Situation.WENT_BACK,
            f"Redis went back: the journal has lost entry {known.stream_id}, the last one recorded",
        )
    following = seen.following
    if following is None:
        if seen.seq == known.sequence:
            return Assessment(Situation.FINE, "nothing is left to record")
        gone = f"the journal has lost its entries from {known.sequence + 1} to {seen.seq}"
        return Assessment(lost, f"{ends}, and {gone}" if is_trimmed else gone)
    if following == Position(known.epoch, known.sequence + 1):
        return Assessment(Situation.FINE, "the journal goes on where the record ends")
    if following.seq <= known.sequence:
        lost = Situation.WENT_BACK
    goes_on = (
        f"the journal goes on with entry {following.seq} of epoch {following.epoch}, "
        f"not with {known.sequence + 1} of epoch {known.epoch}"
    )
    return Assessment(lost, f"{ends}, and {goes_on}" if lost is Situation.RECORD_BEHIND else goes_on)


def _is_place(anchor: Position | None, here: Position) -> bool:
    # An entry that is none of ours has no number; it is the anchor where it was the last of its batch.
    return anchor is not None and (anchor.seq == 0 or anchor == here)
