"""JSON at the edges, msgpack inside; nothing that could run code is ever read.

Payloads and results are JSON bytes (ASCII, no spaces) so that any Python string survives, NUL and lone surrogates
included, on every store. Envelopes, frames and journal rows are msgpack arrays around them.
"""

from __future__ import annotations

import json
from typing import Any

import msgpack

from tqctl_runtime.core.errors import PayloadError

#: Largest payload, result or batch line unless a setting says otherwise, in bytes.
DEFAULT_LIMIT = 1_048_576


# json.dumps builds an encoder a call where any option is not the default, and its encoders build another one in C.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_make_encoder = getattr(json.encoder, "c_make_encoder", None)
if _make_encoder is None:
    _encode = _ENCODER.encode
else:
    # Without the table of open containers: endless nesting ends as a RecursionError.
    _pieces = _make_encoder(
        None, _ENCODER.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
    )

    def _encode(o: Any) -> str:
        return "".join(_pieces(o, 0))


def dump_json(value: object, *, what: str = "payload", limit: int = DEFAULT_LIMIT) -> bytes:
    """*value* as compact ASCII JSON.

    Raises:
        PayloadError: it is not made of JSON types, holds NaN or Infinity, is nested too deep or larger than *limit*
            bytes.
    """
    try:
        data = _encode(value).encode()
    except (TypeError, ValueError) as error:
        raise PayloadError(f"the {what} cannot be written as JSON: {error}") from None
    except RecursionError:
        raise PayloadError(f"the {what} is nested too deep") from None
    if len(data) > limit:
        raise PayloadError(
            f"the {what} has {len(data):,} bytes, the limit is {limit:,}",
            hint="store large data elsewhere and pass its address, or raise the setting",
        )
    return data


def load_json(data: bytes | str, *, what: str = "payload", limit: int = DEFAULT_LIMIT) -> Any:
    """The value of strict JSON text: one document, no NaN or Infinity, no repeated keys.

    Raises:
        PayloadError: it is not that, or larger than *limit* bytes.
    """
    size = len(data)
    if size > limit:
        raise PayloadError(f"the {what} has {size:,} bytes, the limit is {limit:,}")
    try:
        return json.loads(data, parse_constant=_no_constants, object_pairs_hook=_no_repeats)
    except RecursionError:
        raise PayloadError(f"the {what} is nested too deep") from None
    except ValueError as error:
        raise PayloadError(f"the {what} is not JSON: {error}") from None


def canonical_json(data: bytes) -> bytes:
    """JSON *data* with sorted keys, to be compared; what is no JSON stays as it is."""
    try:
        return json.dumps(json.loads(data), sort_keys=True).encode()
    except ValueError:
        return data


def _no_constants(name: str) -> Any:
    raise ValueError(f"{name} is not allowed")


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("an object has the same key twice")
    return result


def pack(value: object) -> bytes:
    """*value* as msgpack."""
    packed: bytes = msgpack.packb(value)
    return packed


def unpack(data: bytes) -> Any:
    """The value of msgpack *data* that Python wrote: text is ``str``, blobs are ``bytes``."""
    return msgpack.unpackb(data, strict_map_key=False)


def unpack_raw(data: bytes) -> Any:
    """The value of msgpack *data* that Lua wrote: every string is ``bytes``; Lua does not tell text from blobs."""
    return msgpack.unpackb(data, raw=True, strict_map_key=False)


def pack_for_lua(value: object) -> bytes:
    """*value* as the msgpack dialect that Lua reads: text and blobs are both raw strings."""
    data: bytes = msgpack.packb(value, use_bin_type=False)
    return data


def unpack_stream(data: bytes) -> list[Any]:
    """All values that stand one behind the other in *data*, as Lua wrote them (every string is ``bytes``).

    Raises:
        ValueError: the data is not msgpack, or ends inside a value.
    """
    unpacker = msgpack.Unpacker(raw=True, strict_map_key=False, max_buffer_size=len(data) or 1)
    unpacker.feed(data)
    values, end = [], 0
    for value in unpacker:
        values.append(value)
        end = unpacker.tell()
    # Only here: where the data ends behind the head of a list, the reader has come to its end too.
    if end != len(data):
        raise ValueError("the data ends inside a value")
    return values
