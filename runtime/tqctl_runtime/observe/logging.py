"""Log lines of the processes that stay: text for people or JSON lines, without secrets.

``get_logger`` is cheap; structlog is loaded by :func:`configure`, which a process calls once, before its first line.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqctl_runtime.observe.files import ROTATE_BYTES, ROTATE_KEEP

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

_STARS = "***"
_SECRET_KEY = re.compile(r"passw|secret|token|authorization|cookie|api_?key|credential", re.IGNORECASE)
_SECRET_TEXT = (
    # Up to the last @ of the word: a password may hold an @ or a / that somebody forgot to encode.
    (re.compile(r"(\w+://[^\s:]*:)\S+(?=@)"), rf"\1{_STARS}"),
    (re.compile(r"((?:password|passwd|secret|token|api_?key)\s*[=:]\s*)[^\s,;&'\"]+", re.IGNORECASE), rf"\1{_STARS}"),
    (re.compile(r"((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE), rf"\1{_STARS}"),
    (re.compile(r"whsec_[A-Za-z0-9+/=]+"), f"whsec_{_STARS}"),
)
#: Libraries whose informational lines say nothing to an operator.
_QUIET = ("asyncio", "alembic", "redis", "sqlalchemy", "psycopg")


class Logger:
    """Log lines with named values; before :func:`configure` they go nowhere below warning."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"tqctl.{name}")

    def debug(self, event: str, **values: object) -> None:
        """What only a developer wants to see."""
        self._logger.debug(event, extra={"values": values})

    def info(self, event: str, **values: object) -> None:
        """What an operator may want to see."""
        self._logger.info(event, extra={"values": values})

    def warning(self, event: str, **values: object) -> None:
        """What an operator should see; the process goes on by itself."""
        self._logger.warning(event, extra={"values": values})

    def error(self, event: str, **values: object) -> None:
        """What an operator must mend."""
        self._logger.error(event, extra={"values": values})

    def exception(self, event: str, **values: object) -> None:
        """A bug: the current exception with its traceback."""
        self._logger.exception(event, extra={"values": values})  # noqa: LOG004  called inside a handler


def get_logger(name: str) -> Logger:
    """The logger called *name*."""
    return Logger(name)


def configure(settings: Settings, *, role: str, file: Path | None = None) -> None:
    """Set up this process's log: to *file*, which is rotated, or to standard error.

    With a file, standard output and error of the process go there too, so that nothing a library prints is lost.
    """
    import structlog

    handler: logging.Handler = logging.StreamHandler(sys.stderr) if file is None else _LogFile(file)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_take_values, structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name],
            processors=_processors(structlog, settings.log_format, role, is_terminal=file is None and _is_terminal()),
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(settings.log_level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    logging.captureWarnings(True)


def redact(text: str) -> str:
    """*text* with what looks like a password, token or key replaced by stars."""
    for pattern, replacement in _SECRET_TEXT:
        text = pattern.sub(replacement, text)
    return text


def _processors(structlog: Any, style: str, role: str, *, is_terminal: bool) -> list[Any]:
    def name_role(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["role"] = role
        event["pid"] = os.getpid()
        return event

    chain: list[Any] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        name_role,
    ]
    if style == "json":
        chain += [structlog.processors.format_exc_info, _redact_event, structlog.processors.JSONRenderer()]
    else:
        # The renderer formats an exception itself unless it is text already, where it could not be redacted.
        chain += [structlog.processors.format_exc_info, _redact_event]
        chain += [structlog.dev.ConsoleRenderer(colors=is_terminal, timestamp_key="at", pad_event_to=0)]
    return chain


def _is_terminal() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")


def _take_values(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = event.get("_record")
    event.update(getattr(record, "values", {}))
    return event


def _redact_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: _redacted(key, value) for key, value in event.items()}


def _redacted(key: str, value: object) -> object:
    if _SECRET_KEY.search(key):
        return _STARS
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: _redacted(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", item) for item in value]
    return value


class _LogFile(logging.handlers.RotatingFileHandler):
    """A rotated file that standard output and error follow."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=ROTATE_BYTES, backupCount=ROTATE_KEEP, encoding="utf-8")
        self._follow()

    def doRollover(self) -> None:  # noqa: N802  the name that logging calls
        """Begin a new file and lead standard output and error to it."""
        super().doRollover()
        self._follow()

    def _open(self) -> Any:
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return open(descriptor, "a", encoding="utf-8")

    def _follow(self) -> None:
        if self.stream is not None:
            for standard in (1, 2):
                os.dup2(self.stream.fileno(), standard)
