"""How the stay of a task at this worker ends, and what the death of an executor means for the tasks in it."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from tqctl_runtime.core.attempt import Detail, clean_text
from tqctl_runtime.core.states import Outcome
from tqctl_runtime.core.task import ErrorInfo
from tqctl_runtime.worker import frames
from tqctl_runtime.worker.executor_link import ExecutorLink, Held
from tqctl_runtime.worker.streams import cut_line

#: ``doom`` of a task whose lease was lost: it is stopped, and nothing is said of it.
LOST = 3
#: ``doom`` of a task that is handed back: by a drain that ran out, or because the lease cannot be renewed.
HANDED_BACK = 4


@dataclass(slots=True)
class Ended:
    """The end of a held task, for the broker. *retry* is milliseconds or one of ``BY_BACKOFF NEVER``."""

    held: Held
    outcome: Outcome
    retry: int = frames.BY_BACKOFF
    detail: bytes = b""
    reason: str = ""
    is_suspect: bool = False


def merge_log(executor: ExecutorLink, detail: bytes) -> tuple[bytes, bytes]:
    """(*detail* with what was read of the log while the task ran before what its executor found at the end, that)."""
    known = Detail.from_bytes(detail)
    rest = known.log.replace(cut_line(known.log_dropped), b"", 1) if known.log_dropped else known.log
    executor.kept.feed(rest)
    executor.kept.total += known.log_dropped
    log, dropped = executor.kept.take()
    return Detail(known.result, known.error, log, dropped, known.progress).to_bytes(), known.log


def judge_death(executor: ExecutorLink, held: Held, code: int, together: int) -> Ended:
    """What the death of *executor* means for *held*, one of *together* tasks that had started in it."""
    log, dropped = executor.kept.take() if executor.kept.total else (b"", 0)
    is_guilty = together == 1 or (executor.guilty is not None and held.seq in executor.guilty)
    if is_guilty and held.doom == frames.TIME_LIMIT:
        info = ErrorInfo("TimeLimitReached", "the attempt ran longer than its time limit and had to be killed")
        detail = Detail(None, info, log, dropped).to_bytes()
        return Ended(held, Outcome.TIMED_OUT, detail=detail, reason="time limit")
    if is_guilty and held.doom == frames.CANCELLED:
        info = ErrorInfo("CancelRequested", "the attempt was asked to stop, did not, and was killed after the grace")
        detail = Detail(None, info, log, dropped).to_bytes()
        return Ended(held, Outcome.CANCELLED, frames.NEVER, detail, "killed after the grace")
    if executor.guilty is not None:
        detail = Detail(None, None, log, dropped).to_bytes()
        if held.doom == HANDED_BACK:
            return Ended(held, Outcome.RELEASED, detail=detail, reason="handed back")
        return Ended(held, Outcome.INTERRUPTED, detail=detail, reason="its executor was stopped for another task")
    how = describe_exit(code)
    detail = Detail(None, ErrorInfo("ExecutorDied", f"the executor process {how}"), log, dropped).to_bytes()
    if together == 1:
        return Ended(held, Outcome.DIED, detail=detail, reason=how)
    return Ended(held, Outcome.INTERRUPTED, detail=detail, reason=how, is_suspect=True)


def refuse(held: Held, why: str) -> Ended:
    """The end of a task that cannot be run by anybody: dead at once, whatever its budget."""
    detail = Detail(None, ErrorInfo("PayloadError", clean_text(why)))
    return Ended(held, Outcome.REJECTED, frames.NEVER, detail.to_bytes(), "rejected")


def hand_back(executor: ExecutorLink) -> None:
    """Kill *executor*; what runs in it comes back uncounted, unless it was to be stopped for a reason of its own."""
    for held in executor.running.values():
        held.doom = held.doom or HANDED_BACK
    executor.kill(set())


def describe_exit(code: int) -> str:
    """How a process ended: ``exited with code 3``, ``was killed by signal 11 (SIGSEGV)``."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"was killed by signal {-code}"
