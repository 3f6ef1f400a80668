"""Declaring handlers, describing their parameters, fitting payloads to them, and the running task."""

from __future__ import annotations

import contextvars
import datetime as dt
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tqctl_runtime.core.current import CurrentTask, current_task, find_current_task, set_current_task
from tqctl_runtime.core.errors import ConfigError, PayloadError, UnknownHandler
from tqctl_runtime.core.handler import HandlerSpec, Registry, describe, example_line, source_place, unknown_handler


def spec_of(function: Callable[..., Any], **options: Any) -> HandlerSpec:
    parameters, takes_any = describe(function)
    return HandlerSpec(
        function.__name__, function, parameters=parameters, takes_any=takes_any, where=source_place(function), **options
    )


def resize(path: str, width: int, scale: float = 1.0, sharpen: bool = False, note: str | None = None) -> None: ...


def free(first: Any, **rest: Any) -> None: ...


def test_parameters_are_described_by_the_signature() -> None:
    parameters, takes_any = describe(resize)
    assert [(p.name, p.type, p.default) for p in parameters] == [
        ("path", "str", None),
        ("width", "int", None),
        ("scale", "float", "1.0"),
        ("sharpen", "bool", "false"),
        ("note", "str", "null"),
    ]
    assert not takes_any
    assert [p.is_required for p in parameters] == [True, True, False, False, False]


def test_what_has_no_simple_type_is_json() -> None:
    def handle(a: list[int], b: int | str, c: dt.date, d, e: dict[str, Any] | None = None) -> None: ...  # type: ignore[no-untyped-def]

    parameters, _ = describe(handle)
    assert {p.type for p in parameters} == {"json"}


def test_annotations_that_cannot_be_resolved_do_not_stop_a_worker() -> None:
    def handle(a: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    parameters, _ = describe(handle)
    assert parameters[0].type == "json"


def test_a_default_that_is_not_json_is_shown_by_its_repr() -> None:
    def handle(when: Any = dt.date(2026, 1, 1)) -> None: ...

    parameters, _ = describe(handle)
    assert parameters[0].default == '"datetime.date(2026, 1, 1)"'


@pytest.mark.parametrize("function", [eval("lambda *args: None"), eval("lambda a, /: None")])
def test_parameters_that_cannot_be_filled_by_name_are_refused(function: Callable[..., Any]) -> None:
    with pytest.raises(ConfigError, match="cannot be filled by name"):
        describe(function)


@pytest.mark.parametrize(
    "payload",
    [
        {"path": "a", "width": 3},
        {"path": "a", "width": 3, "scale": 2, "sharpen": True, "note": None},
        {"path": "", "width": -1, "scale": 0.5, "note": "x"},
    ],
)
def test_a_fitting_payload_becomes_the_keyword_arguments(payload: dict[str, Any]) -> None:
    assert spec_of(resize).bind(payload) == payload


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        ({"path": "a"}, "needs width"),
        ({}, "needs path, width"),
        ({"path": "a", "width": 3, "colour": 1}, "no parameter colour"),
        ({"path": 1, "width": 3}, "path must be str, not int"),
        ({"path": "a", "width": "3"}, "width must be int, not str"),
        ({"path": "a", "width": True}, "width must be int, not bool"),
        ({"path": "a", "width": 3.0}, "width must be int, not float"),
        ({"path": "a", "width": 3, "scale": "1"}, "scale must be float"),
        ({"path": "a", "width": 3, "sharpen": 1}, "sharpen must be bool"),
        ({"path": None, "width": 3}, "path must be str, not NoneType"),
    ],
)
def test_a_payload_that_does_not_fit_is_refused_by_name(payload: dict[str, Any], told: str) -> None:
    with pytest.raises(PayloadError, match=told):
        spec_of(resize).bind(payload)


def test_a_handler_that_takes_any_keyword_gets_them_all() -> None:
    payload = {"first": [1], "colour": {"r": 1}}
    assert spec_of(free).bind(payload) == payload
    with pytest.raises(PayloadError, match="needs first"):
        spec_of(free).bind({"colour": 1})


def test_the_example_line_names_every_required_parameter() -> None:
    assert spec_of(resize).example() == "tqctl submit resize -p path=text -p width=1"
    assert spec_of(free).example() == "tqctl submit free -p 'first:=[]'"
    assert example_line({"name": "shell", "argv": True}) == "tqctl submit shell -- COMMAND ARG..."


def test_a_catalogue_row_is_made_of_json_types_only() -> None:
    import json

    row = spec_of(resize, queue="images", priority=7, timeout=2.5).to_row()
    assert json.loads(json.dumps(row)) == row
    assert (row["queue"], row["priority"], row["timeout_s"]) == ("images", 7, 2.5)


def test_two_handlers_of_one_name_are_refused_with_both_places() -> None:
    registry = Registry()
    first, second = spec_of(resize), HandlerSpec("resize", free, where=source_place(free))
    registry.add(first)
    with pytest.raises(ConfigError) as caught:
        registry.add(second)
    assert first.where in caught.value.message
    assert second.where in caught.value.message


def test_the_same_function_may_be_registered_again() -> None:
    registry = Registry()
    registry.add(spec_of(resize))
    registry.add(spec_of(resize))
    assert [spec.name for spec in registry.specs()] == ["resize"]


def test_a_handler_with_an_impossible_name_is_refused() -> None:
    with pytest.raises(ConfigError):
        Registry().add(HandlerSpec("no spaces", free))


def test_an_unknown_handler_is_answered_with_near_matches() -> None:
    registry = Registry()
    for name in ("resize", "send_mail", "echo"):
        registry.add(HandlerSpec(name, free))
    with pytest.raises(UnknownHandler) as caught:
        registry.get("resiz")
    assert caught.value.hint == "did you mean resize?"
    assert registry.find("resiz") is None
    assert registry.get("echo").name == "echo"


def test_without_near_matches_the_known_names_are_told_and_without_any_how_to_start() -> None:
    assert "known: a, b" in str(unknown_handler("zzzzzz", ["b", "a"]).hint)
    assert "tqctl handler list" in str(unknown_handler("zzzzzz", [f"h{n:02}" for n in range(20)]).hint)
    assert "tqctl up" in str(unknown_handler("zzzzzz", []).hint)


class RecordingChannel:
    """A worker's side that notes what it is told."""

    def __init__(self, folder: Path) -> None:
        self.told: list[tuple[float, str]] = []
        self._folder = folder

    def submit(self, call: Any) -> str:
        return str(call["id"])

    async def submit_async(self, call: Any) -> str:
        return str(call["id"])

    def progress(self, percent: float, message: str) -> None:
        self.told.append((percent, message))

    def is_cancelled(self) -> bool:
        return True

    def folder(self) -> Path:
        return self._folder


def test_progress_is_held_between_0_and_100(tmp_path: Path) -> None:
    channel = RecordingChannel(tmp_path)
    task = CurrentTask("tsk", "echo", 1, "default", channel=channel)
    for percent in (-5, 40, 140):
        task.progress(percent, "on the way")
    assert channel.told == [(0.0, "on the way"), (40.0, "on the way"), (100.0, "on the way")]
    assert task.is_cancelled
    assert task.folder == tmp_path


def test_a_handler_called_as_a_plain_function_may_tell_its_progress_to_nobody() -> None:
    task = CurrentTask("tsk", "echo", 1, "default")
    task.progress(50)
    assert not task.is_cancelled
    with pytest.raises(RuntimeError, match="only while a worker runs"):
        _ = task.folder


def test_the_current_task_is_known_only_in_its_own_context() -> None:
    with pytest.raises(RuntimeError, match="inside a running task"):
        current_task()
    task = CurrentTask("tsk", "echo", 1, "default")

    def inside() -> None:
        set_current_task(task)
        assert current_task() is task

    contextvars.copy_context().run(inside)
    assert find_current_task() is None


def test_lines_of_the_task_logger_carry_its_id(caplog: pytest.LogCaptureFixture) -> None:
    task = CurrentTask("tsk_1", "echo", 3, "default", correlation_id="c-1")
    with caplog.at_level(logging.INFO):
        task.logger.info("hello")
    record = caplog.records[0]
    assert record.name == "tqctl.task.echo"
    assert (record.__dict__["task_id"], record.__dict__["attempt"], record.__dict__["correlation_id"]) == (
        "tsk_1",
        3,
        "c-1",
    )
