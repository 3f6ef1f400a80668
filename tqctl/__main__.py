"""The program: runs the command line and alone turns what happened into an exit code."""

from __future__ import annotations

import os
import sys

from tqctl.guard import guard_stdout

# Not from typing: that import would be a tenth of what --version may take.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tqctl.flags import Flags

#: Stable error words (``TqctlError.code``) and their exit codes; classes that are not listed answer as their base does.
EXIT_CODES = {
    "error": 1,
    "usage": 2,
    "payload": 2,
    "unknown_handler": 2,
    "not_found": 3,
    "ambiguous": 3,
    "not_allowed": 4,
    "conflict": 5,
    "lease_lost": 5,
    "declined": 6,
    "partial": 7,
    "pending": 8,
    "task_cancelled": 11,
    "task_timed_out": 12,
    "task_dead": 13,
    "check": 20,
    "unavailable": 69,
    "broker_unavailable": 69,
    "not_open": 69,
    "under_repair": 69,
    "broker_timeout": 69,
    "record_unavailable": 69,
    "busy": 75,
    "config": 78,
    "stores_differ": 78,
    "needs_repair": 78,
    "wait_timeout": 124,
}
BUG, INTERRUPTED = 1, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line *argv* (without the program's name) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    guard_stdout()
    if words in (["--version"], ["-V"]):
        return _print_version()
    if words[:1] == ["__complete"]:
        from tqctl.complete import complete

        return complete(words[1:])
    return _run(words)


def _print_version() -> int:
    from tqctl._version import __version__

    sys.stdout.write(f"tqctl {__version__}\n")
    sys.stdout.flush()
    return 0


def _run(words: list[str]) -> int:
    import typer

    from tqctl.cli import build
    from tqctl.flags import Flags
    from tqctl.terminated import EXIT_CODE, Terminated
    from tqctl_runtime.core.errors import TqctlError

    # Typer exports BadParameter alone; everything its parser refuses is of that class's base.
    refused: type[Exception] = typer.BadParameter.__mro__[1]
    flags = Flags(words=tuple(words))
    try:
        code = build().main(words, prog_name="tqctl", standalone_mode=False, obj=flags)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except TqctlError as error:
        return _tell(error, flags, words)
    except refused as error:
        from tqctl.mistakes import usage_error

        return _tell(usage_error(error), flags, words)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Terminated:
        return EXIT_CODE
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:  # noqa: BLE001  the last line of defence: a bug becomes a file, never a traceback
        from tqctl.mistakes import write_crash_file

        return _tell(write_crash_file(error, words, flags), flags, words)


def _tell(error: Exception, flags: Flags, words: list[str]) -> int:
    from tqctl.mistakes import tell

    try:
        # What was found before the error comes before it, also where both streams are one terminal.
        sys.stdout.flush()
    except Exception as unwritable:  # noqa: BLE001  a full disk must not hide the first error
        tell(unwritable, flags, words)
    tell(error, flags, words)
    return EXIT_CODES.get(getattr(error, "code", "error"), BUG)


if __name__ == "__main__":
    exit_code = main()
    if exit_code == INTERRUPTED:
        # Under -m CPython takes an interrupt that came in an exec() of text, as dataclasses make them, for unhandled
        # also where it is handled further out, and would end by the signal in place of the code.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
