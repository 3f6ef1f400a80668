"""The lane and the heartbeat of a worker against a broker that answers late: nothing real is called."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import AsyncMock, MagicMock

from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.worker_calls import Claimed, HeartbeatReply, RoundReply
from tqctl_runtime.core.retry import DEFAULT_BACKOFF
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.worker.ends import Ended
from tqctl_runtime.worker.executor_link import Held
from tqctl_runtime.worker.heartbeat import Heartbeat
from tqctl_runtime.worker.lane import Lane, LaneOwner


def claimed(task_id: str, token: str) -> Claimed:
    return Claimed(task_id, token, b"", 0, 0, 0, "default", 5, 0, is_suspect=False, is_cancel_requested=False)


async def answer(round_: asyncio.Future[RoundReply], *tasks: Claimed) -> None:
    """Answer *round_* and let the lane hand out what it claimed."""
    round_.set_result(RoundReply(1, [], list(tasks)))
    for _ in range(10):
        await asyncio.sleep(0)


class Broker:
    """Holds each round until the test answers it."""

    def __init__(self) -> None:
        self.asked: asyncio.Queue[asyncio.Future[RoundReply]] = asyncio.Queue()

    async def call(self, _: Any) -> RoundReply:
        answer: asyncio.Future[RoundReply] = asyncio.get_running_loop().create_future()
        self.asked.put_nowait(answer)
        return await answer

    async def answer(self, *tasks: Claimed) -> None:
        """Answer the round that waits, or the next one, and let the lane hand out what it tells."""
        await answer(await self.asked.get(), *tasks)


class Owner(LaneOwner):
    """A supervisor with ten places that notes what it takes."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    def wanted(self) -> int:
        return 10

    def wants_suspect(self) -> bool:
        return False

    def untold(self) -> list[Held]:
        return []

    def told(self, tasks: Sequence[Held]) -> None:
        """Nothing is told."""

    def settle(self, ended: Ended, code: int) -> None:
        """Nothing ends."""

    def on_heard(self) -> None:
        """There is no heartbeat."""

    def take(self, tasks: Sequence[Claimed]) -> None:
        self.taken += [task.token for task in tasks]


def play(story: Callable[[Lane, Broker, Owner], Any]) -> Owner:
    async def run() -> Owner:
        broker, owner = Broker(), Owner()
        lane = Lane(Keys("test"), broker, owner, lambda _: DEFAULT_BACKOFF)  # type: ignore[arg-type]
        lane.join("w1", ["default"])
        work = asyncio.create_task(lane.run())
        async with asyncio.timeout(20):
            await story(lane, broker, owner)
        work.cancel()
        return owner

    return asyncio.run(run())


def test_a_round_counts_as_answered_once_what_it_claimed_is_here() -> None:
    async def story(lane: Lane, broker: Broker, owner: Owner) -> None:
        assert lane.answered == 0
        full = [claimed(f"t{n}", f"t{n}") for n in range(10)]
        await broker.answer(*full)
        assert (len(owner.taken), lane.answered) == (10, 1)
        await broker.answer()
        assert lane.answered == 2

    play(story)


def test_what_a_round_claimed_is_dropped_when_its_answer_comes_after_the_lease_was_reaped() -> None:
    async def story(lane: Lane, broker: Broker, owner: Owner) -> None:
        first = await broker.asked.get()
        lane.disown()
        await answer(first, *[claimed(f"A{n}", "late") for n in range(10)])
        await broker.answer(claimed("B", "after"))

    assert play(story).taken == ["after"]


def test_what_a_round_claimed_is_dropped_when_its_answer_comes_under_another_name() -> None:
    async def story(lane: Lane, broker: Broker, owner: Owner) -> None:
        first = await broker.asked.get()
        lane.disown()
        lane.join("w2", ["default"])
        await answer(first, *[claimed(f"A{n}", "late") for n in range(10)])
        await broker.answer(claimed("B", "new"))
        assert lane.answered == 1

    assert play(story).taken == ["new"]


def test_a_task_that_came_back_under_a_new_token_is_not_lost_with_the_old_one() -> None:
    """A heartbeat lists it under the old token; the answer comes after the task was given back and claimed anew."""
    link, owner = MagicMock(), MagicMock()
    link.call = AsyncMock(return_value=HeartbeatReply(now=1, is_known=True, lost=["A"], cancelled={}))
    owner.worker, owner.figures.return_value = "w1", {}
    owner.holdings.return_value = ({"A": "old", "B": "other"}, 7)

    async def run() -> None:
        await Heartbeat(Keys("test"), link, Settings(lease=3_000), owner)._beat()

    asyncio.run(run())
    owner.on_lost.assert_called_once_with({"A": "old"})
    assert link.call.call_args.args[0].args[-1] == 7
