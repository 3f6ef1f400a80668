"""The guard that owns stdout. Every start of the program loads this: nothing is imported that it can do without."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO


class StdoutGuard:
    """A text stream whose reader may leave at any time: the program then ends quietly with exit code 0."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write *text*; ends the process when nobody reads."""
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            os._exit(0)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except OSError as error:
            raise _unwritable(error, self._stream) from None

    def flush(self) -> None:
        """Flush; ends the process when nobody reads."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            os._exit(0)
        except OSError as error:
            raise _unwritable(error, self._stream) from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_stdout() -> None:
    """Put the guard around ``sys.stdout``; a closed stdout becomes the null device."""
    if sys.stdout is None:  # closed by the caller, for example by >&-
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  lives as long as the process
    if not isinstance(sys.stdout, StdoutGuard):
        guarded: Any = StdoutGuard(sys.stdout)
        sys.stdout = guarded


def end_with_reader() -> None:
    """From now on end the process with exit code 0 as soon as nobody reads stdout any more.

    For what writes seldom and goes on until it is stopped: a write is else the first to learn of a broken pipe.
    """
    import select
    import threading

    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)  # only for what is always told: the reader left
    except (OSError, ValueError):
        return  # stdout is no file of the system

    def leave() -> None:
        if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll()):
            os._exit(0)

    threading.Thread(target=leave, name="reader", daemon=True).start()


def _unwritable(error: OSError, stream: TextIO) -> Exception:
    from tqctl_runtime.core.errors import TqctlError

    # What is left in the buffer would fail once more when the interpreter ends, which then says 120 for our exit code.
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
    except (OSError, ValueError):
        pass  # a stream without a file of the system has no such end
    return TqctlError(f"stdout cannot be written: {error.strerror}")
