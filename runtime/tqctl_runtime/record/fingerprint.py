"""What makes two errors the same error: their type and the first line of their message without its particulars."""

from __future__ import annotations

import hashlib
import re

_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"|`[^`]*`")
_NUMBER = re.compile(r"\b0x[0-9a-fA-F]+|\b[0-9a-fA-F]{8,}\b|\d+")
_LONGEST = 300


def error_fingerprint(error_type: str, message: str) -> str:
    """Sixteen hex digits that errors share which differ only in numbers, addresses and quoted text."""
    line = message.partition("\n")[0][:_LONGEST]
    shape = _NUMBER.sub("#", _QUOTED.sub("'?'", line))
    return hashlib.blake2b(f"{error_type}\x00{shape}".encode("utf-8", "replace"), digest_size=8).hexdigest()
