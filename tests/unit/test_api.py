"""Declaring handlers, calling them, and submitting them from outside and inside of a task."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tqctl_runtime.api import Handler, handler, use_client
from tqctl_runtime.client import AsyncClient, Client
from tqctl_runtime.core.current import CurrentTask, set_current_task
from tqctl_runtime.core.errors import ConfigError, NotAllowed, PayloadError, UsageError
from tqctl_runtime.core.handler import registry
from tqctl_runtime.core.needs import Needs
from tqctl_runtime.core.retry import Backoff
from tqctl_runtime.core.settings import Settings

NOWHERE = Settings(redis_url="redis://127.0.0.1:1/0", database_url="sqlite:////nowhere/record.db")


class Recorded:
    """A channel that keeps what a handler asked for."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def submit(self, call: Mapping[str, Any]) -> str:
        self.calls.append(dict(call))
        return f"tsk_child{len(self.calls)}"

    async def submit_async(self, call: Mapping[str, Any]) -> str:
        return self.submit(call)

    def progress(self, percent: float, message: str) -> None:
        raise NotImplementedError

    def is_cancelled(self) -> bool:
        return False

    def folder(self) -> Path:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def fresh_registry() -> Iterator[None]:
    specs = registry.specs()
    registry.clear()
    yield
    registry.clear()
    for spec in specs:
        registry.add(spec)


@pytest.fixture
def inside() -> Iterator[Recorded]:
    """Run the test inside of a task whose stores cannot be reached."""
    channel = Recorded()
    use_client(Client(NOWHERE))
    token = set_current_task(CurrentTask("tsk_parent", "parent", 1, "default", channel=channel))
    yield channel
    token.var.reset(token)
    use_client(None)


def test_a_bare_handler_has_the_defaults_and_the_name_of_its_function() -> None:
    @handler
    def resize(path: str, width: int = 640) -> str:
        """Resize a picture.

        More about it.
        """
        return f"{path}@{width}"

    spec = registry.get("resize")
    assert resize.spec is spec
    assert (spec.queue, spec.priority, spec.timeout, spec.max_retries) == ("default", 5, None, 5)
    assert (spec.doc, spec.is_async) == ("Resize a picture.", False)
    assert [(p.name, p.type, p.default) for p in spec.parameters] == [("path", "str", None), ("width", "int", "640")]
    assert __file__ in spec.where


def test_a_handler_is_still_the_function_when_it_is_called() -> None:
    @handler
    def add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    assert (add(1), add(1, b=5)) == (3, 6)
    assert (getattr(add, "__name__", None), add.__doc__, str(inspect.signature(add))) == (
        "add",
        "Add.",
        "(a: 'int', b: 'int' = 2) -> 'int'",
    )
    assert repr(add).startswith("<handler add at ")


def test_an_async_handler_returns_what_can_be_awaited() -> None:
    @handler(name="mail.send")
    async def send(to: str) -> str:
        return to

    assert send.spec.is_async
    assert send.name == "mail.send"
    assert asyncio.run(send("a@b")) == "a@b"


def test_durations_are_timedeltas_or_seconds() -> None:
    @handler(timeout=timedelta(minutes=2), backoff=[1, timedelta(seconds=5)])
    def one() -> None: ...

    @handler(timeout=0, backoff=3, priority="high")
    def two() -> None: ...

    assert (one.spec.timeout, one.spec.backoff) == (120.0, Backoff("list", delays=(1.0, 5.0)))
    assert (two.spec.timeout, two.spec.backoff, two.spec.priority) == (None, Backoff(base=3.0), 7)


def test_errors_to_retry_may_be_one_class_or_several() -> None:
    @handler(retry_on=OSError, never_retry_on=[FileNotFoundError, PermissionError])
    def read() -> None: ...

    assert read.spec.retry_on == (OSError,)
    assert read.spec.never_retry_on == (FileNotFoundError, PermissionError)


@pytest.mark.parametrize(
    "options",
    [{"timeout": -1}, {"priority": 11}, {"backoff": -1}, {"retry_on": [int]}, {"backoff": []}],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        handler(**options)(lambda: None)


def test_two_functions_of_one_name_and_what_is_no_function_are_refused() -> None:
    @handler(name="twice")
    def first() -> None: ...

    with pytest.raises(ConfigError, match="two handlers are called 'twice'"):

        @handler(name="twice")
        def second() -> None: ...

    with pytest.raises(ConfigError, match="needs a function"):
        handler()(int)


def test_what_a_handler_needs_is_told_in_its_row_and_must_be_known() -> None:
    @handler(needs=("smtp", "db", "db"), overlap_ok=True)
    def both() -> None: ...

    @handler(needs="db")
    def one() -> None: ...

    assert (both.spec.needs, one.spec.needs) == (("db", "smtp"), ("db",))
    assert {name: both.spec.to_row()[name] for name in ("needs", "overlap_ok")} == {
        "needs": ["db", "smtp"],
        "overlap_ok": True,
    }
    with pytest.raises(ConfigError, match=rf"handler 'third' at {__file__}:\d+ needs 'disk', 'dp'") as caught:

        @handler(needs=("dp", "disk", "db"))
        def third() -> None: ...

    assert caught.value.hint == "known: db, smtp"
    assert registry.find("third") is None


def test_secrets_of_a_task_are_not_shown_by_accident() -> None:
    task = CurrentTask("tsk", "f", 1, "default", needs=Needs({"db": "postgresql://me:hunter2@h/db"}))
    assert task.needs["db"] == "postgresql://me:hunter2@h/db"
    assert "hunter2" not in f"{task!r} {task.needs}"


def test_arguments_become_a_payload_by_name() -> None:
    @handler
    def move(source: str, target: str = "there", **options: int) -> None: ...

    assert move.payload("a") == {"source": "a"}
    assert move.payload("a", "b", speed=3) == {"source": "a", "target": "b", "speed": 3}
    assert move.payload(source="a", speed=3) == {"source": "a", "speed": 3}


def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent() -> None:
    @handler
    def move(source: str) -> None: ...

    use_client(Client(NOWHERE))
    for words, named in [((), {}), (("a", "b"), {}), ((1,), {}), ((), {"sauce": "a"})]:
        with pytest.raises(PayloadError):
            move.submit(*words, **named)  # type: ignore[arg-type]
    use_client(None)


def test_inside_of_a_task_a_submit_goes_through_its_channel(inside: Recorded) -> None:
    @handler(queue="mail", priority=8, max_retries=1, timeout=3)
    def child(n: int) -> None: ...

    bound = child.options(queue="other", delay=timedelta(seconds=2), tags={"a": "b"})
    assert child.submit(1) == "tsk_child1"
    assert bound.submit(2) == "tsk_child2"
    assert asyncio.run(child.submit_async(1)) == "tsk_child3"
    assert asyncio.run(bound.submit_async(2)) == "tsk_child4"
    assert inside.calls[2:] == inside.calls[:2]
    assert inside.calls[:2] == [
        {
            "handler": "child",
            "payload": b'{"n":1}',
            "queue": "mail",
            "priority": 8,
            "max_retries": 1,
            "timeout_ms": 3000,
        },
        {
            "handler": "child",
            "payload": b'{"n":2}',
            "queue": "other",
            "priority": 8,
            "max_retries": 1,
            "timeout_ms": 3000,
            "delay_ms": 2000,
            "tags": {"a": "b"},
        },
    ]


def test_inside_of_a_task_an_unknown_handler_is_left_to_the_supervisor(inside: Recorded) -> None:
    with Client(NOWHERE) as client:
        assert client.submit("elsewhere", {"n": 1}, idempotency_key="k") == "tsk_child1"
        assert client.submit_many([("elsewhere", {}), ("elsewhere", {}, {"priority": 2})], tenant="t") == [
            "tsk_child2",
            "tsk_child3",
        ]
    assert inside.calls == [
        {"handler": "elsewhere", "payload": b'{"n":1}', "idempotency_key": "k"},
        {"handler": "elsewhere", "payload": b"{}", "tenant": "t"},
        {"handler": "elsewhere", "payload": b"{}", "tenant": "t", "priority": 2},
    ]


def test_inside_of_a_task_the_asyncio_client_uses_the_channel_too(inside: Recorded) -> None:
    async def run() -> list[str]:
        async with AsyncClient(NOWHERE) as client:
            return [await client.submit("elsewhere", {}), *await client.submit_many([("elsewhere", {})])]

    assert asyncio.run(run()) == ["tsk_child1", "tsk_child2"]


def test_inside_of_a_task_bad_input_fails_before_it_travels(inside: Recorded) -> None:
    with Client(NOWHERE) as client, pytest.raises(PayloadError):
        client.submit("elsewhere", {"n": float("inf")})
    assert inside.calls == []


def test_inside_of_a_task_nobody_waits_for_another(inside: Recorded) -> None:
    with Client(NOWHERE) as client:
        for ask in (client.wait, client.cancel, client.result):
            with pytest.raises(NotAllowed, match="a running handler cannot"):
                ask("tsk_other")


def test_a_handler_object_is_generic_over_its_function() -> None:
    assert Handler[[int], str].__origin__ is Handler  # type: ignore[attr-defined]
