"""How errors look: text or JSON on stderr, usage mistakes with what to type instead, crash files for bugs."""

from __future__ import annotations

import json
import sys
import tempfile
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqctl.session import say
from tqctl_runtime.core.errors import TqctlError, UsageError

if TYPE_CHECKING:
    from tqctl.flags import Flags


_OF_SEVERAL_LINES = frozenset({"config", "unavailable"})


def tell(error: Exception, flags: Flags, words: list[str]) -> None:
    """Write *error* to stderr: ``error:`` and ``hint:`` lines, or one JSON object where JSON was asked for."""
    message = getattr(error, "message", None) or str(error)
    hint = getattr(error, "hint", None)
    if (flags.output or format_word(words)) in {"json", "jsonl", "ndjson"}:
        body: dict[str, Any] = {
            "code": getattr(error, "code", "error"),
            "message": message,
            "hint": hint,
            "retryable": bool(getattr(error, "retryable", False)),
        }
        for extra in ("retry_after", "candidates"):
            if hasattr(error, extra):
                body[extra] = getattr(error, extra)
        say(json.dumps({"error": body}))
        return
    # Tracebacks of an app and ends of a log keep their lines; what may be data of a task stays one line.
    lines = message.split("\n") if getattr(error, "code", "") in _OF_SEVERAL_LINES else [message]
    say(f"error: {lines[0]}")
    for line in lines[1:]:
        say(line)
    for candidate in getattr(error, "candidates", ()):
        say(f"  {candidate}")
    if hint:
        say(f"hint: {hint}")


def format_word(words: list[str]) -> str | None:
    """The format that *words* ask for, found without parsing: parsing may be what failed."""
    end = words.index("--") if "--" in words else len(words)
    for place, word in enumerate(words[:end]):
        if word in {"-o", "--output"}:
            return words[place + 1] if place + 1 < end else None
        if word.startswith("--output="):
            return word.partition("=")[2]
        if word.startswith("-o") and len(word) > 2:
            return word[2:].lstrip("=")
    return None


def usage_error(error: Any) -> UsageError:
    """What Typer refused, in our words, with the command or the help page to try."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "tqctl"
    message = error.format_message().rstrip(".")
    hint = f"{path} --help"
    suggestion = getattr(error, "suggestion", None)
    option = getattr(error, "option_name", None)
    if suggestion:
        hint = f"did you mean {suggestion}?"
    elif option is not None and context is not None:
        known = [name for param in context.command.get_params(context) for name in param.opts]
        near = get_close_matches(option, known, n=2, cutoff=0.6)
        message = f"{path} has no option {option}" if "No such option" in message else message
        hint = f"did you mean {' or '.join(near)}?" if near else hint
    elif message.startswith("Missing"):
        hint = _usage(context) if context is not None else hint
        message = f"{path}: {message[0].lower()}{message[1:]}"
    elif message.startswith(("Got unexpected", "Invalid value")):
        message = f"{path}: {message[0].lower()}{message[1:]}"
    return UsageError(message, hint=hint)


def _usage(context: Any) -> str:
    """The line to type, without the braces and the OPTIONS of a help page."""
    line = " ".join(str(context.get_usage()).partition(":")[2].split())
    return line.replace("[OPTIONS] ", "").replace("{", "").replace("}", "")


def write_crash_file(error: Exception, words: list[str], flags: Flags) -> TqctlError:
    """Keep the traceback of a bug in a file only its owner can read; the returned error names it."""
    import traceback

    from tqctl._version import __version__
    from tqctl_runtime.config import mask_url
    from tqctl_runtime.core.clock import iso, now_ms

    trace = "".join(traceback.format_exception(error))
    line = " ".join(mask_url(word) for word in words)
    text = f"tqctl {__version__}\npython {sys.version}\nat {iso(now_ms())}\ncommand tqctl {line}\n\n{mask_url(trace)}"
    place = _keep(text, flags)
    summary = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return TqctlError(f"this is a bug: {mask_url(summary)}", hint=f"the details are in {place}")


def _keep(text: str, flags: Flags) -> str:
    for folder in (_context_folder(flags), None):
        try:
            if folder is not None:
                # The mode holds for the last folder alone, and the context's own must be closed to others too.
                folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                folder.mkdir(exist_ok=True, mode=0o700)
            with tempfile.NamedTemporaryFile(
                "w", prefix="crash-", suffix=".txt", dir=folder, delete=False, encoding="utf-8", errors="replace"
            ) as stream:
                stream.write(text)
            return stream.name
        except OSError:
            continue
    return "no file: none could be written"


def _context_folder(flags: Flags) -> Path | None:
    from tqctl_runtime.config import load_settings

    try:
        return load_settings(flags.settings).context_home / "crashes"
    except TqctlError:
        return None
