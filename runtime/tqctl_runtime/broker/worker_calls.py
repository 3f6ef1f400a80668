"""Calls of workers: register, one round of the lane, heartbeat, notes, leave, wake-up."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tqctl_runtime.broker.call import Call, Word, script_call, text
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.core.serializer import pack_for_lua
from tqctl_runtime.core.states import OUTCOME_CODES, Outcome

#: What a finish was answered with.
FINISHED, REPEATED, STALE = 1, 2, 0
_CLAIM_WIDTH = 10


@dataclass(frozen=True, slots=True)
class Claimed:
    """A task that this worker now holds. *failures*, *deaths* and *attempts* are counts before this attempt."""

    id: str
    token: str
    envelope: bytes
    failures: int
    deaths: int
    attempts: int
    queue: str
    priority: int
    created_at: int
    is_suspect: bool
    is_cancel_requested: bool


@dataclass(frozen=True, slots=True)
class RoundReply:
    """The answer to a round: a code for each reported end, and the claimed tasks."""

    now: int
    codes: list[int]
    claimed: list[Claimed]


def started(task_id: str, token: str, ago_ms: int) -> list[Any]:
    """An attempt that has started *ago_ms* before the call, as an element of ``round_(started=…)``."""
    return [task_id, token, ago_ms]


def finished(
    task_id: str,
    token: str,
    outcome: Outcome,
    *,
    since_start_ms: int,
    delay_ms: int = 0,
    is_last: bool = False,
    is_suspect: bool = False,
    reason: str = "",
    detail: bytes = b"",
) -> list[Any]:
    """An attempt that has ended, as an element of ``round_(finished=…)``.

    *since_start_ms* is -1 where it never started. *delay_ms* is the retry's delay, or for RELEASED the time before it
    may be claimed again. *is_last* forbids a retry. *is_suspect* with INTERRUPTED makes it run alone next time.
    """
    return [task_id, token, OUTCOME_CODES[outcome], since_start_ms, delay_ms, is_last, is_suspect, reason, detail]


def round_(
    keys: Keys,
    worker: str,
    request: int,
    *,
    places: int,
    queues: Sequence[str],
    takes_suspect: bool = False,
    started: Sequence[list[Any]] = (),
    finished: Sequence[list[Any]] = (),
    now: int = 0,
) -> Call[RoundReply]:
    """One round: report *started* and *finished*, claim up to *places* tasks of *queues*.

    *request* grows by one with each new round; the same number again is answered as the first time.
    """
    return script_call(
        keys,
        "round",
        _read_round,
        worker,
        request,
        places,
        int(takes_suspect),
        pack_for_lua(list(started)),
        pack_for_lua(list(finished)),
        *queues,
        now=now,
    )


def _read_round(reply: list[Any]) -> RoundReply:
    token, flat = reply[2].decode(), reply[4]
    claimed = []
    for at in range(0, len(flat), _CLAIM_WIDTH):
        task_id, envelope, failures, deaths, attempts, queue, priority, created, suspect, cancel = flat[
            at : at + _CLAIM_WIDTH
        ]
        claimed.append(
            Claimed(
                task_id.decode(),
                token,
                envelope,
                failures,
                deaths,
                attempts,
                queue.decode(),
                priority,
                created,
                suspect == 1,
                cancel == 1,
            )
        )
    return RoundReply(reply[0], reply[3], claimed)


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """The answer to a heartbeat. Not *is_known*: the lease was reaped, all is lost, register under a new id."""

    now: int
    is_known: bool
    lost: list[str]
    cancelled: dict[str, str]


def heartbeat(
    keys: Keys,
    worker: str,
    *,
    lease_ms: int,
    held: Sequence[tuple[str, str]],
    answered: int,
    figures: Mapping[str, Any],
    now: int = 0,
) -> Call[HeartbeatReply]:
    """Renew the lease of *worker* and of all it holds: (id, token) pairs. *figures* is shown by ``worker list``.

    *answered* is the number of the last round whose claims are in *held* where they have not ended: what was claimed
    up to there and is not in *held* is taken away.
    """
    blob = pack_for_lua([list(pair) for pair in held])
    args = (worker, lease_ms, json.dumps(figures), blob, answered)
    return script_call(keys, "heartbeat", _read_heartbeat, *args, now=now)


def _read_heartbeat(reply: list[Any]) -> HeartbeatReply:
    flat = reply[3]
    cancelled = {text(flat[at]): text(flat[at + 1]) for at in range(0, len(flat), 2)}
    return HeartbeatReply(reply[0], reply[1] == 1, [text(item) for item in reply[2]], cancelled)


def register(
    keys: Keys,
    worker: str,
    *,
    lease_ms: int,
    info: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    is_first: bool = True,
    now: int = 0,
) -> Call[bool]:
    """Join under a fresh id with the catalogue *rows* of its handlers.

    Returns whether the worker is a member. False only where the call is not the first one with this id: its lease was
    over meanwhile, and it must join under a new one.
    """
    words: list[Word] = [worker, lease_ms, int(is_first), json.dumps(info)]
    for row in rows:
        words += [row["name"], json.dumps(row, sort_keys=True)]
    return script_call(keys, "register", lambda r: r[1] == 1, *words, now=now)


def deregister(keys: Keys, worker: str, *, now: int = 0) -> Call[int]:
    """Leave; returns how many tasks were given back."""
    return script_call(keys, "deregister", lambda r: int(r[1]), worker, now=now)


def note(keys: Keys, notes: Sequence[tuple[str, str, str, bytes]], *, now: int = 0) -> Call[None]:
    """Tell progress and live log of running attempts: (id, token, progress JSON or '', log bytes or b'')."""
    return script_call(keys, "note", lambda _: None, pack_for_lua([list(item) for item in notes]), now=now)


def wait_for_bell(keys: Keys, queues: Sequence[str], *, seconds: float) -> Call[bool]:
    """Block until a queue rings, *seconds* at most; True where one rang. For a connection of its own."""
    bells = [keys.build("bell", queue) for queue in queues]
    return Call("wait_for_bell", ["BLPOP", *bells, str(seconds)], lambda r: r is not None, timeout=seconds + 5.0)
