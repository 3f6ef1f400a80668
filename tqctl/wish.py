"""From options (flags of ``submit``, or the fields of a batch line) and a catalogue row to a Submission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from typing import Any

from tqctl.parameters import as_object, parse_parameters, parse_tags
from tqctl_runtime.core.clock import iso, parse_duration_ms, parse_instant
from tqctl_runtime.core.errors import PayloadError, UsageError
from tqctl_runtime.core.serializer import DEFAULT_LIMIT
from tqctl_runtime.core.submission import Submission, build_submission

Row = Mapping[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "str": (str,)}


@dataclass(slots=True)
class Wish:
    """What somebody wants of one task, as typed: durations and times are text, *payload* an object."""

    handler: str | None = None
    param: Sequence[str] = ()
    payload: Mapping[str, Any] | None = None
    queue: str | None = None
    priority: str | int | None = None
    delay: str | None = None
    at: str | None = None
    expires: str | None = None
    max_retries: int | None = None
    timeout: str | None = None
    tag: Mapping[str, str] = field(default_factory=dict)
    tenant: str | None = None
    correlation_id: str | None = None
    idempotency_key: str | None = None
    unique_for: str | None = None
    argv: Sequence[str] | None = None

    def build(
        self,
        row: Row | None,
        *,
        task_id: str | None = None,
        is_checked: bool = True,
        is_watched: bool = False,
        limit: int = DEFAULT_LIMIT,
    ) -> Submission:
        """The submission for the handler of catalogue *row*; None where it is unknown and *is_checked* was waived.

        Raises:
            UsageError: a value is not valid, or what follows ``--`` is not for this handler.
            PayloadError: parameters are missing or unknown, or the payload is too large.
        """
        if self.handler is None:
            raise UsageError("no handler is named")
        payload = self._payload(row, limit)
        if row is not None and is_checked:
            check_payload(row, payload)
        return build_submission(
            self.handler,
            payload,
            defaults=row,
            task_id=task_id,
            queue=self.queue,
            priority=self.priority,
            max_retries=self.max_retries,
            timeout_ms=_duration("timeout", self.timeout),
            delay_ms=_duration("delay", self.delay) or 0,
            due_at=self.due_at(),
            expires_ms=self._expires_ms(),
            tags=self.tag or None,
            tenant=self.tenant,
            correlation_id=self.correlation_id,
            idempotency_key=self.idempotency_key,
            unique_ms=_duration("unique-for", self.unique_for) or 0,
            watched=is_watched,
            payload_limit=limit,
        )

    def due_at(self) -> int:
        """The instant that *at* means, in ms; 0 where there is none."""
        if self.at is None:
            return 0
        return round(parse_instant(self.at, now=datetime.now().astimezone()).timestamp() * 1000)

    def _expires_ms(self) -> int:
        if self.expires is None:
            return 0
        expires = _duration("expires", self.expires)
        if not expires:
            raise UsageError("--expires: it would expire at once", hint="a time to start in, like 1h")
        return expires

    def understood(self) -> str | None:
        """How *at* was understood, in UTC."""
        return f"at {self.at} is {iso(self.due_at())}" if self.at is not None else None

    def _payload(self, row: Row | None, limit: int) -> dict[str, Any]:
        types = {name: kind for name, kind, _ in row["parameters"]} if row else {}
        payload = {**(self.payload or {}), **parse_parameters(self.param, types, limit=limit)}
        if self.argv is None:
            return payload
        if row is not None and not row.get("argv"):
            raise UsageError(f"{self.handler} runs no command: nothing may follow --", hint=_example(row))
        if "argv" in payload:
            raise UsageError("the command is given twice: as parameter argv and after --")
        if not self.argv:
            raise UsageError("no command follows --", hint=f"tqctl submit {self.handler} -- COMMAND ARG...")
        return {**payload, "argv": list(self.argv)}


def check_payload(row: Row, payload: Mapping[str, Any]) -> None:
    """Refuse what the handler of *row* cannot take, as a worker would.

    Raises:
        PayloadError: a parameter is missing, unknown or of another simple type.
    """
    names = [name for name, _, _ in row["parameters"]]
    unknown = [] if row.get("takes_any") else [key for key in payload if key not in names]
    if unknown:
        near = get_close_matches(unknown[0], names, n=2, cutoff=0.6)
        hint = f"did you mean {' or '.join(near)}?" if near else _example(row)
        raise PayloadError(f"{row['name']} has no parameter {unknown[0]!r}", hint=hint)
    missing = [name for name, _, default in row["parameters"] if default is None and name not in payload]
    if missing:
        raise PayloadError(f"{row['name']} needs {', '.join(missing)}", hint=_example(row))
    for name, kind, default in row["parameters"]:
        if name in payload and not _fits(payload[name], kind, default):
            raise PayloadError(f"parameter {name} of {row['name']} is of type {kind}", hint=_example(row))


def _fits(value: Any, kind: str, default: str | None) -> bool:
    # As HandlerSpec.bind decides; its module is too slow to import for one submit.
    wanted = _TYPES.get(kind)
    if wanted is None or (value is None and default == "null"):
        return True
    return isinstance(value, wanted) and (kind == "bool" or not isinstance(value, bool))


def _example(row: Row) -> str:
    from tqctl_runtime.core.handler import example_line

    return example_line(row)


def _duration(name: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_duration_ms(text)
    except UsageError as error:
        raise UsageError(f"--{name}: {error.message}", hint=error.hint) from None


_TEXT = ("queue", "delay", "at", "expires", "timeout", "tenant", "correlation_id", "idempotency_key", "unique_for")
#: What a batch line may say.
LINE_FIELDS = ("handler", "param", "payload", *_TEXT, "priority", "max_retries", "tag", "tags", "argv")


def wish_of_line(line: Any, defaults: Wish) -> Wish:
    """The wish of one batch line: its fields, then what *defaults* (the flags) say.

    Raises:
        UsageError: a field is unknown or has the wrong type.
        PayloadError: the line or its payload is no JSON object.
    """
    if not isinstance(line, dict):
        raise PayloadError("not a JSON object")
    for key in line:
        if key not in LINE_FIELDS:
            near = get_close_matches(key, LINE_FIELDS, n=1, cutoff=0.5)
            raise UsageError(f"unknown field {key!r}" + (f", did you mean {near[0]}?" if near else ""))
    given = {key: value for key, value in line.items() if value is not None}
    for key in ("handler", *_TEXT):
        if not isinstance(given.get(key, ""), str):
            raise UsageError(f"{key} must be text")
    _check_numbers(given)
    values = {name: given.get(name, getattr(defaults, name)) for name in ("handler", *_TEXT, "priority", "max_retries")}
    payload = as_object(given["payload"]) if "payload" in given else defaults.payload
    params, extra = _line_params(given.get("param", []))
    return Wish(
        **values,
        payload={**(payload or {}), **extra},
        param=_join_params(defaults.param, params, extra),
        tag={**defaults.tag, **_line_tags("tags", given.get("tags", {})), **_line_tags("tag", given.get("tag", {}))},
        argv=_line_argv(given["argv"]) if "argv" in given else defaults.argv,
    )


def _check_numbers(given: Mapping[str, Any]) -> None:
    retries, priority = given.get("max_retries", 0), given.get("priority", 5)
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise UsageError("max_retries must be a whole number")
    if not isinstance(priority, int | str) or isinstance(priority, bool):
        raise UsageError("priority must be 1 to 10 or a name")


def _line_params(value: Any) -> tuple[list[str], dict[str, Any]]:
    if isinstance(value, dict):
        return [], value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value, {}
    raise UsageError('param must be like {"key": "value"} or ["key=value"]')


def _join_params(flags: Sequence[str], own: Sequence[str], extra: Mapping[str, Any]) -> list[str]:
    """The line's own parameters, and those of the flags that it does not set."""
    taken = {word.partition("=")[0].rstrip(":") for word in own} | set(extra)
    return [word for word in flags if word.partition("=")[0].rstrip(":") not in taken] + list(own)


def _line_tags(name: str, value: Any) -> dict[str, str]:
    if isinstance(value, dict) and all(isinstance(text, str) for text in value.values()):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return parse_tags(value)
    raise UsageError(f'{name} must be like {{"key": "value"}} or ["key=value"]')


def _line_argv(value: Any) -> list[str]:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    raise UsageError("argv must be a list of text")
