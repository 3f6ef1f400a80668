"""A Call: one question to the broker as pure data, which the blocking and the asyncio client carry alike."""

import errno
import os
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.scripts import Script, load
from tqctl_runtime.core.errors import (
    BrokerCannotWrite,
    BrokerUnavailable,
    Busy,
    LeaseLost,
    NotOpen,
    StoresDiffer,
    TqctlError,
)

R = TypeVar("R")
Word = bytes | str | int
#: Seconds a call may take before the link counts as broken.
CALL_TIMEOUT = 5.0


class Call(NamedTuple, Generic[R]):
    """A command or a script with its arguments, and the function that reads its reply."""

    name: str
    args: Sequence[Word]
    decode: Callable[[Any], R]
    script: Script | None = None
    meta: str = ""
    timeout: float = CALL_TIMEOUT

    def words(self) -> list[Word]:
        """The command to send; a script goes by its hash."""
        if self.script is None:
            return list(self.args)
        return ["EVALSHA", self.script.sha, 1, self.meta, *self.args]

    def eval_words(self) -> list[Word]:
        """The command to send after ``NOSCRIPT``: the script whole."""
        if self.script is None:
            raise ValueError(f"{self.name} is not a script")
        return ["EVAL", self.script.source, 1, self.meta, *self.args]


def script_call(
    keys: Keys, name: str, decode: Callable[[Any], R], *args: Word, now: int = 0, timeout: float = CALL_TIMEOUT
) -> Call[R]:
    """A call of operation *name*. *now* (ms) stands in for the server's clock in tests."""
    return Call(name, (now, *args), decode, load(name), keys.meta, timeout)


def text(value: bytes | str | None) -> str:
    """A reply string as text; None is empty."""
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def pairs(flat: Sequence[Any]) -> dict[str, bytes]:
    """A flat field-value reply as a dictionary."""
    return {text(flat[index]): flat[index + 1] for index in range(0, len(flat), 2)}


def translate_error(message: str, folder: str = "") -> TqctlError:
    """The error that an error reply means; *folder* is where the private server writes."""
    word, _, rest = message.partition(" ")
    if word == "ERR" and rest.partition(" ")[0].isupper() and rest.partition(" ")[0] in _CODES:
        word, _, rest = rest.partition(" ")
    if word == "BUSY":
        delay, _, why = rest.partition(" ")
        if delay.isdigit():
            return Busy(f"{_BUSY}: {why}", retry_after=int(delay) / 1000, hint="tqctl status; tqctl doctor")
    if word == "OOM":
        return Busy(f"{_BUSY}: the broker's memory is full", retry_after=5.0, hint="tqctl doctor")
    if word == "NOEPOCH":
        return NotOpen(
            "the namespace is not open: no coordinator has started on it yet, or it is being repaired",
            hint="tqctl status says why and what helps",
        )
    if word == "WENTBACK":
        return StoresDiffer(rest, hint="tqctl doctor --repair -n")
    if word == "LAYOUT":
        return StoresDiffer(f"another version works here: {rest}", hint="tqctl doctor")
    if word in ("NOTLEADER", "OLDREQUEST"):
        return LeaseLost(rest)
    if word in ("LOADING", "MASTERDOWN", "READONLY", "TRYAGAIN", "CLUSTERDOWN"):
        return BrokerUnavailable(f"the broker is not ready: {message}")
    if word in ("NOAUTH", "WRONGPASS", "NOPERM"):
        return BrokerUnavailable(f"the broker refused us: {message}", hint="check user and password in TQCTL_REDIS_URL")
    if word == "MISCONF":
        return _cannot_write(rest, folder)
    return TqctlError(f"the broker answered: {message}")


def _cannot_write(why: str, folder: str) -> BrokerCannotWrite:
    reason = why.rpartition(": ")[2] if why.startswith("Errors writing") else ""
    if not folder:
        said = f"Redis cannot write its disk{reason and ': '}{reason}"
        return BrokerCannotWrite(said, hint="make room where it writes; tqctl doctor")
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return BrokerCannotWrite(f"the private server cannot write its disk: {folder}: {error.strerror}")
    free = f"{disk.f_bavail * disk.f_frsize // 2**20} MB free"
    at = f"{folder} is full ({free})" if reason in ("", os.strerror(errno.ENOSPC)) else f"{reason} ({free} at {folder})"
    return BrokerCannotWrite(f"the private server cannot write its disk: {at}", hint=f"df -h {folder}")


#: A bulk submit may have queued earlier calls.
_BUSY = "busy, nothing of this call was queued"
_CODES = frozenset({"BUSY", "OOM", "NOEPOCH", "LAYOUT", "NOTLEADER", "OLDREQUEST", "WENTBACK"})
