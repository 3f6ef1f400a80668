"""What one attempt left behind: the blob that travels from the executor's supervisor to the record, opaque to Lua."""

from __future__ import annotations

from dataclasses import dataclass

from tqctl_runtime.core.serializer import pack, unpack
from tqctl_runtime.core.task import ErrorInfo

#: What remains of a character that no store can hold in text: NUL and lone surrogates.
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True, slots=True)
class Detail:
    """Result, error, log and last progress of one attempt.

    *result* is JSON bytes; *log* is what was kept of stdout, stderr and logging, *log_dropped* the bytes cut out of
    its middle; *progress* is (percent, message). Text is already cleaned.
    """

    result: bytes | None = None
    error: ErrorInfo | None = None
    log: bytes = b""
    log_dropped: int = 0
    progress: tuple[float, str] | None = None

    def to_bytes(self) -> bytes:
        """The wire form; empty where there is nothing to tell."""
        if self.result is None and self.error is None and not self.log and self.progress is None:
            return b""
        error = [self.error.type, self.error.message, self.error.traceback] if self.error else None
        progress = list(self.progress) if self.progress else None
        return pack([self.result, error, self.log, self.log_dropped, progress])

    @classmethod
    def from_bytes(cls, data: bytes) -> Detail:
        """The reverse of :meth:`to_bytes`."""
        if not data:
            return cls()
        result, error, log, dropped, progress = unpack(data)
        return cls(
            result,
            ErrorInfo(*error) if error else None,
            log,
            dropped,
            (progress[0], progress[1]) if progress else None,
        )


def clean_text(text: str, limit: int | None = None) -> str:
    """*text* without NUL and lone surrogates, cut in the middle to *limit* characters."""
    cleaned = text.replace("\x00", _REPLACEMENT).encode("utf-8", "replace").decode("utf-8")
    if limit is not None and len(cleaned) > limit:
        half = (limit - 5) // 2
        cleaned = f"{cleaned[:half]} ... {cleaned[-half:]}"
    return cleaned
