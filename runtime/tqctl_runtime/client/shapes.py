"""How submissions are made quickly: what tasks of one handler and equal options share is checked and packed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tqctl_runtime.broker.calls import CHUNK, Wish
from tqctl_runtime.client.options import to_fields
from tqctl_runtime.core.errors import PayloadError
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.core.serializer import dump_json, pack
from tqctl_runtime.core.submission import Submission, build_submission

#: Bytes of one submit call: Redis runs it whole, and others wait meanwhile.
CHUNK_BYTES = 1_048_576
#: Options of equal value in many submits; the others name one task and make no template.
_SHARED = frozenset({"queue", "priority", "max_retries", "timeout", "delay", "tenant", "watched", "backoff"})
_TEMPLATES_MAXIMUM = 64
#: Stands where the payload goes while a template is cut; nothing else in an envelope equals it.
_MARK = b"\x00payload goes here\x00"


class Packed:
    """A submission that is bytes already."""

    __slots__ = ("_envelope", "_head", "id")

    def __init__(self, task_id: str, head: bytes, envelope: bytes) -> None:
        self.id = task_id
        self._head = head
        self._envelope = envelope

    def head(self) -> bytes:
        """What the broker decides with."""
        return self._head

    def envelope(self) -> bytes:
        """What the worker runs."""
        return self._envelope


class _Template:
    """A validated submission with holes for id and payload, which are the only parts that differ."""

    def __init__(self, example: Submission) -> None:
        self._before_id, self._after_id = example.head().split(example.id.encode())
        self._before, self._after = example.envelope().split(pack(_MARK))

    def fill(self, payload: bytes) -> Packed:
        task_id = new_id("tsk")
        length = len(payload)
        # As pack() begins a blob; a packer of its own for each payload would cost as much as all the rest here.
        start = b"\xc4%c" % length if length < 256 else pack(payload)[:-length]
        head = b"%b%b%b" % (self._before_id, task_id.encode(), self._after_id)
        return Packed(task_id, head, b"%b%b%b%b" % (self._before, start, payload, self._after))


class Shape:
    """Makes the submissions of one handler from its defaults: a catalogue row, or None where nothing is known."""

    def __init__(self, handler: str, row: Mapping[str, Any] | None, limit: int) -> None:
        self.handler = handler
        self.row = row
        self._limit = limit
        self._templates: dict[tuple[Any, ...], _Template] = {}

    def make(self, payload: Mapping[str, Any] | bytes, options: Mapping[str, Any]) -> Wish:
        """A submission of *payload*, an object or its JSON bytes.

        Raises:
            UsageError: an option is not valid.
            PayloadError: the payload is not a JSON object or too large.
        """
        if not options.keys() <= _SHARED:
            return self.build(payload, options)
        template = self._template(options)
        if not isinstance(payload, bytes):
            payload = dump_json(as_object(payload), limit=self._limit)
        elif len(payload) > self._limit:
            raise PayloadError(f"the payload has {len(payload):,} bytes, the limit is {self._limit:,}")
        return template.fill(payload)

    def build(self, payload: Mapping[str, Any] | bytes, options: Mapping[str, Any]) -> Submission:
        """The same as an open :class:`Submission`."""
        if not isinstance(payload, bytes):
            payload = dump_json(as_object(payload), limit=self._limit)
        fields = to_fields(options)
        return build_submission(self.handler, payload, defaults=self.row, payload_limit=self._limit, **fields)

    def _template(self, options: Mapping[str, Any]) -> _Template:
        key = tuple(options.items())
        template = self._templates.get(key)
        if template is None:
            example = build_submission(self.handler, _MARK, defaults=self.row, **to_fields(options))
            if len(self._templates) >= _TEMPLATES_MAXIMUM:
                self._templates.clear()
            template = self._templates[key] = _Template(example)
        return template


def as_object(payload: Any) -> dict[str, Any]:
    """*payload* as a dictionary.

    Raises:
        PayloadError: it is no mapping, so it could not become a handler's keyword arguments.
    """
    if isinstance(payload, dict):
        return payload
    if not isinstance(payload, Mapping):
        raise PayloadError(f"a payload is a mapping of parameters, not {type(payload).__name__}")
    return dict(payload)


def chunks(wishes: Iterable[Wish]) -> Iterator[list[Wish]]:
    """*wishes* in order, in lists for one call each: at most ``CHUNK`` tasks and about ``CHUNK_BYTES``."""
    chunk: list[Wish] = []
    size = 0
    for wish in wishes:
        weight = len(wish.envelope())
        if chunk and (len(chunk) == CHUNK or size + weight > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(wish)
        size += weight
    if chunk:
        yield chunk
