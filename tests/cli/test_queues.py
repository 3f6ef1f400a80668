"""Queues on the real embedded stack that nothing has used."""

from __future__ import annotations

from tests.cli.conftest import Program


def test_a_queue_may_be_paused_before_its_first_task_and_is_gone_when_resumed(stack: Program) -> None:
    said = stack.done("queue", "pause", "nosuch-queue")
    assert said.err.splitlines() == [
        "queue nosuch-queue is paused until it is resumed",
        "nothing has used queue nosuch-queue yet; to take it back: tqctl queue resume nosuch-queue",
    ]
    assert "nosuch-queue" in stack.done("queue", "list", "-o", "name").lines
    assert "queue nosuch-queue goes on" in stack.done("queue", "resume", "nosuch-queue").err
    assert "nosuch-queue" not in stack.done("queue", "list", "-o", "name").lines
    assert "was not paused" in stack.done("queue", "resume", "nosuch-queue").err
    assert "did you mean default? nothing has used queue defualt yet" in stack.done("queue", "pause", "defualt").err
    stack.done("queue", "resume", "defualt")
    assert "nothing has used" not in stack.done("queue", "pause", "default", "--for", "1ms").err
