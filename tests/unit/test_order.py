"""What travels between a parent and its child process comes out as it went in."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from tqctl_runtime.client.receipts import NoRecorder
from tqctl_runtime.core.errors import (
    BrokerCannotWrite,
    BrokerUnavailable,
    Busy,
    ConfigError,
    Conflict,
    StoresDiffer,
    TqctlError,
    Unavailable,
)
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.stack.order import Answer, Order, exit_code, read_answer


def test_an_order_comes_out_as_it_went_in() -> None:
    settings = Settings(
        home=Path("/srv/tq"),
        redis_url="redis://user:p${HOME}w@host/0",
        app=("tasks", "more/tasks.py"),
        queues=("a", "b"),
        lease=3000,
        allow_shell=True,
    )
    order = Order("worker", "worker-1", settings, Path("/srv/log"), 77, 9)

    back = Order.from_bytes(order.to_bytes())

    assert back == order
    assert [type(getattr(back.settings, f.name)) for f in fields(Settings)] == [
        type(getattr(settings, f.name)) for f in fields(Settings)
    ]
    assert Order.from_bytes(Order("up", "up", settings, None, 0, 3).to_bytes()).log is None


def answered(error: BaseException | None) -> TqctlError | None:
    reader, writer = os.pipe()
    answer = Answer(writer)
    if error is None:
        answer.ready()
    else:
        answer.failed(error)
    answer.failed(ValueError("only the first answer counts"))
    with open(reader, "rb") as file:
        return read_answer(file.read())


def test_a_ready_child_answers_without_an_error() -> None:
    assert answered(None) is None


@pytest.mark.parametrize("kind", [ConfigError, Conflict, StoresDiffer, Unavailable, Busy, TqctlError])
def test_an_error_keeps_its_kind_text_and_hint(kind: type[TqctlError]) -> None:
    found = answered(kind("what happened\nline two", hint="do this"))

    assert type(found) is kind
    assert (found.message, found.hint) == ("what happened\nline two", "do this")


def test_an_error_without_a_code_of_its_own_is_told_as_its_base() -> None:
    assert type(answered(NoRecorder("nobody records"))) is Busy
    assert type(answered(BrokerCannotWrite("its disk is full"))) is BrokerUnavailable


def test_a_bug_becomes_an_error_with_its_name() -> None:
    found = answered(KeyError("x"))

    assert type(found) is TqctlError
    assert found.message == "KeyError: 'x'"


def test_an_answer_to_a_parent_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)

    Answer(writer).ready()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 78),
        (StoresDiffer("x"), 78),
        (Unavailable("x"), 69),
        (TqctlError("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_a_childs_exit_code_tells_the_kind_of_its_error(error: Exception, code: int) -> None:
    assert exit_code(error) == code
