"""Identifiers: a three-letter kind, an underscore and a ULID (48 bits of milliseconds, 80 random bits).

A derived id keeps its parent's time and takes the rest from a hash, so the same parts always give the same id.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from functools import lru_cache

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
ULID_LENGTH = 26
TAIL_MINIMUM = 4
#: Characters of an id's end that SQL keeps in an indexed column; longer tails are compared with the whole id.
TAIL_LENGTH = 8

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
_TASK_ID = re.compile(r"tsk_[0-9A-HJKMNP-TV-Z]{26}\Z")


#: Two characters for each value of ten bits: an id is then a few look-ups.
_PAIRS = [high + low for high in _ALPHABET for low in _ALPHABET]


def _base32(number: int, length: int) -> str:
    """*number* in *length* characters; *length* is even."""
    return "".join([_PAIRS[number >> shift & 1023] for shift in range(5 * length - 10, -1, -10)])


#: Bits of an id that count up within a millisecond; they start in their lower half.
_COUNT_BITS = 20
#: Milliseconds of the last id, the text that all ids of that millisecond share, and what counts up from a random start.
#: Replaced as a whole, so that threads need no lock: two that see a new millisecond at once both start at random.
_last: tuple[int, str, itertools.count[int]] = (0, "", itertools.count(1 << _COUNT_BITS))


def new_id(kind: str) -> str:
    """A fresh id of *kind* (``tsk``, ``wrk``, ``bat`` …), sortable by the time it was made.

    Ids of one process in one millisecond count up from a random start, so that equals in rank keep their order.
    """
    global _last  # noqa: PLW0603  the state of this process
    milliseconds = time.time_ns() // 1_000_000
    last = _last
    if milliseconds > last[0]:
        _last = last = _begin(milliseconds)
    number = next(last[2])
    if number >> _COUNT_BITS:
        # The clock was set back and the last millisecond went on for very long.
        _last = last = _begin(last[0])
        number = next(last[2])
    return f"{kind}_{last[1]}{_PAIRS[number >> 10]}{_PAIRS[number & 1023]}"


def _begin(milliseconds: int) -> tuple[int, str, itertools.count[int]]:
    random = int.from_bytes(os.urandom(10), "big") >> 1
    stem, start = divmod(random, 1 << _COUNT_BITS - 1)
    return milliseconds, _base32(milliseconds, 10) + _base32(stem, 12), itertools.count(start)


def _forget_last() -> None:
    """Start anew: a forked child must not count on from where its parent does."""
    global _last  # noqa: PLW0603  the state of this process
    _last = (0, "", itertools.count(1 << _COUNT_BITS))


os.register_at_fork(after_in_child=_forget_last)


def derived_id(kind: str, parent: str, ordinal: int | str) -> str:
    """The id that (*parent*, *ordinal*) always gives: a repeated submit of it is the same task.

    *parent* is an id of any kind; its time stays in front so that derived ids sort beside it.
    """
    import hashlib

    digest = hashlib.blake2b(f"{parent}\x00{ordinal}".encode(), digest_size=10).digest()
    stamp = parent.partition("_")[2][:10]
    return f"{kind}_{stamp}{_base32(int.from_bytes(digest, 'big'), 16)}"


def is_task_id(text: str) -> bool:
    """Whether *text* is a whole task id."""
    return _TASK_ID.match(text) is not None


@lru_cache(maxsize=1024)
def is_name(text: str) -> bool:
    """Whether *text* may name a queue, handler, namespace, context, worker or tenant: 1 to 100 of ``A-Za-z0-9._-``."""
    return _NAME.match(text) is not None
