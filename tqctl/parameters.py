"""The values of a task as people type them: ``-p`` parameters, ``--payload``, tags, and batch lines' fields."""

from __future__ import annotations

import json
import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqctl_runtime.core.errors import PayloadError, UsageError
from tqctl_runtime.core.serializer import DEFAULT_LIMIT, load_json

_WHOLE = re.compile(r"[+-]?\d+\Z")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})
_JSON_START = ("{", "[", '"')


def parse_parameters(words: Iterable[str], types: Mapping[str, str], *, limit: int = DEFAULT_LIMIT) -> dict[str, Any]:
    """The payload of ``KEY=VALUE``, ``KEY:=JSON`` and ``KEY=@FILE`` *words*; *types* are the catalogue's by name.

    Raises:
        UsageError: a word has none of the forms, a key comes twice, a value does not fit its type.
    """
    payload: dict[str, Any] = {}
    for word in words:
        key, value = _parameter(word, types, limit)
        if key in payload:
            raise UsageError(f"-p {key} is given twice")
        payload[key] = value
    return payload


def _parameter(word: str, types: Mapping[str, str], limit: int) -> tuple[str, Any]:
    key, sign, text = word.partition("=")
    if not sign or not key.rstrip(":"):
        raise UsageError(f"-p {word}: not KEY=VALUE", hint="-p KEY=VALUE, -p KEY:=JSON or -p KEY=@FILE")
    if key.endswith(":"):
        key = key[:-1]
        return key, _json(key, text, limit)
    if text.startswith("@"):
        return key, convert(key, _read_text(key, text[1:], limit), types.get(key), limit=limit)
    return key, convert(key, text, types.get(key), limit=limit)


def convert(key: str, text: str, kind: str | None, *, limit: int = DEFAULT_LIMIT) -> Any:
    """The value that *text* means for a parameter of catalogue type *kind*; text where that is unknown.

    Raises:
        UsageError: it does not fit.
    """
    match kind:
        case "int":
            if not _WHOLE.match(text):
                raise UsageError(f"-p {key}: {text!r} is not a whole number")
            return int(text)
        case "float":
            return _float(key, text)
        case "bool":
            if text.lower() not in _TRUE | _FALSE:
                raise UsageError(f"-p {key}: {text!r} is neither true nor false")
            return text.lower() in _TRUE
        case "json":
            return _json_or_text(key, text, limit)
    return text


def _float(key: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise UsageError(f"-p {key}: {text!r} is not a number") from None
    if not math.isfinite(number):
        raise UsageError(f"-p {key}: {text!r} has no form in JSON")
    return number


def _json_or_text(key: str, text: str, limit: int) -> Any:
    # A parameter without an annotation has this type too, and then a word is meant as a word.
    try:
        return load_json(text, limit=limit)
    except PayloadError:
        if text.lstrip().startswith(_JSON_START):
            return _json(key, text, limit)
        return text


def _json(key: str, text: str, limit: int) -> Any:
    try:
        return load_json(text, what=f"value of {key}", limit=limit)
    except PayloadError as error:
        hint = shlex.join(["-p", f"{key}={text}"]) + " passes it as text"
        raise UsageError(f"-p {key}:= {error.message}", hint=hint) from None


def _read_text(key: str, name: str, limit: int) -> str:
    if name == "-":
        raise UsageError(
            f"-p {key}=@- names no file", hint=f"-p {key}=@/dev/stdin reads stdin, -p {key}=@./- a file called -"
        )
    literal = shlex.join(["-p", f"{key}:={json.dumps('@' + name)}"])
    try:
        with Path(name).open("rb") as stream:
            data = stream.read(limit + 1)
    except OSError as error:
        raise UsageError(
            f"-p {key}: {name} cannot be read: {error.strerror}", hint=f"{literal} passes it as text"
        ) from None
    if len(data) > limit:
        raise PayloadError(f"-p {key}: {name} has more than {limit:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise PayloadError(f"-p {key}: {name} is not UTF-8 text") from None


def parse_payload(text: str, read_stdin: Callable[[], bytes], *, limit: int = DEFAULT_LIMIT) -> dict[str, Any]:
    """The object of ``--payload JSON``, ``--payload @FILE`` or ``--payload -``.

    *read_stdin* returns one byte more than *limit* where there are more.

    Raises:
        UsageError: the file cannot be read.
        PayloadError: it is not a JSON object or too large.
    """
    if text == "-":
        return as_object(load_json(_whole("stdin", read_stdin(), limit), limit=limit))
    if text == "@-":
        raise UsageError("--payload @- names no file", hint="--payload - reads stdin, --payload @./- a file called -")
    if text.startswith("@"):
        try:
            with Path(text[1:]).open("rb") as stream:
                return as_object(load_json(_whole(text[1:], stream.read(limit + 1), limit), limit=limit))
        except OSError as error:
            raise UsageError(f"--payload: {text[1:]} cannot be read: {error.strerror}") from None
    return as_object(load_json(text, limit=limit))


def _whole(name: str, data: bytes, limit: int) -> bytes:
    if len(data) > limit:
        raise PayloadError(f"--payload: {name} has more than {limit:,} bytes")
    return data


def as_object(value: Any) -> dict[str, Any]:
    """*value*, which must be a JSON object.

    Raises:
        PayloadError: it is something else.
    """
    if not isinstance(value, dict):
        raise PayloadError(f"the payload is {_json_kind(value)}, not an object", hint='like {"key": "value"}')
    return value


def _json_kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return kinds.get(type(value), "null")


def parse_tags(words: Sequence[str]) -> dict[str, str]:
    """The tags of ``KEY=VALUE`` *words*.

    Raises:
        UsageError: a word is not that, or a key comes twice.
    """
    tags: dict[str, str] = {}
    for word in words:
        key, sign, value = word.partition("=")
        if not sign or not key or not value:
            raise UsageError(f"--tag {word}: not KEY=VALUE")
        if key in tags:
            raise UsageError(f"--tag {key} is given twice")
        tags[key] = value
    return tags
