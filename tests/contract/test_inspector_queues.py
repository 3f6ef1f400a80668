"""Queues as the Inspector shows them, on both pairs: what keeps one in the list, and what operators do to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.client_side import QUEUES, Side
from tqctl_runtime.client import Client
from tqctl_runtime.core.errors import NotFound
from tqctl_runtime.core.states import State
from tqctl_runtime.inspector import Inspector


@pytest.fixture
def client(side: Side) -> Iterator[Client]:
    with Client(side.settings) as ready:
        yield ready


@pytest.fixture
def inspector(side: Side) -> Iterator[Inspector]:
    with Inspector.open(side.settings) as ready:
        yield ready


def test_queues_show_what_stands_in_line_and_who_serves_it(side: Side, client: Client, inspector: Inspector) -> None:
    first = client.submit("echo", {"message": "a"})
    client.submit("echo", {"message": "b"})
    client.submit("echo", {"message": "c"}, delay=60)
    side.record()
    queue = inspector.queue("mail")
    assert (queue.queued, queue.head, queue.scheduled, queue.workers) == (2, first, 1, ["hand"])
    assert not queue.is_paused
    with pytest.raises(NotFound):
        inspector.queue("nosuch")


def test_a_queue_is_listed_while_it_has_unfinished_tasks_a_pause_or_a_live_worker(
    side: Side, client: Client, inspector: Inspector
) -> None:
    def names() -> list[str]:
        return [queue.name for queue in inspector.queues()]

    assert names() == sorted(QUEUES), "a worker serves these"
    typo = client.submit("echo", {"message": "a"}, queue="mial")
    later = client.submit("echo", {"message": "b"}, queue="later", delay=60)
    inspector.pause("held", who="me")
    side.record()
    assert names() == sorted([*QUEUES, "mial", "later", "held"])
    inspector.cancel([typo, later])
    inspector.resume("held", who="me")
    side.record()
    assert names() == sorted(QUEUES)
    empty = inspector.queue("mial")
    assert (empty.queued, empty.scheduled, empty.running, empty.workers) == (0, 0, 0, [])
    with pytest.raises(NotFound, match="held") as caught:
        inspector.queue("held")
    assert caught.value.hint == "tqctl queue list"


def test_a_queue_is_paused_resumed_and_purged(side: Side, client: Client, inspector: Inspector) -> None:
    client.submit_many([("echo", {"message": "a"})] * 3)
    assert inspector.pause("mail", for_ms=60_000, reason="broken printer", who="me") > 0
    pause = inspector.queue("mail").pause
    assert pause is not None
    assert (pause.reason, pause.who) == ("broken printer", "me")
    assert side.round(places=5).claimed == []
    inspector.resume("mail", who="me")
    assert not inspector.queue("mail").is_paused
    held = side.claim()
    assert inspector.purge("mail", who="me") == 2
    assert inspector.queue("mail").queued == 0
    assert inspector.task(held[0].id).state == State.RUNNING
