"""The asyncio client: the same calls over the same rules as :mod:`sync`."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from tqctl_runtime.broker import calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.call import Call, translate_error
from tqctl_runtime.broker.calls import Wish
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.link import Link
from tqctl_runtime.client import receipts
from tqctl_runtime.client.lookup import Declared, Shapes
from tqctl_runtime.client.nested import find_channel, refuse_inside, submit_child_async
from tqctl_runtime.client.options import Options
from tqctl_runtime.client.outcomes import Ended
from tqctl_runtime.client.receipts import Durability, Posted, Receipt
from tqctl_runtime.client.recorded import EndReader
from tqctl_runtime.client.sending import SERVER_TIME, Confirmation, Delivery, repair_under_way
from tqctl_runtime.client.shapes import Shape, chunks
from tqctl_runtime.client.sync import NO_PAYLOAD, Item, Payload, own_options, user_name
from tqctl_runtime.client.waiting import Pending, task_of
from tqctl_runtime.core.errors import BrokerUnavailable, Busy, NotOpen, TqctlError, WaitTimeout
from tqctl_runtime.core.errors import Pending as NotEnded
from tqctl_runtime.core.handler import unknown_handler

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

#: How long the first subscription of a wait may take, in seconds; the poll stands in for it afterwards.
_SUBSCRIBE_TIMEOUT = 5.0


class AsyncClient:
    """Submits tasks and waits for them in an event loop; see :class:`~tqctl_runtime.client.sync.Client`."""

    def __init__(self, settings: Settings | None = None, *, durability: Durability = "accepted") -> None:
        if settings is None:
            from tqctl_runtime.config import load_settings

            settings = load_settings()
        receipts.check_durability(durability)
        self.settings = settings
        self.keys = Keys(settings.namespace)
        self._durability: Durability = durability
        self._shapes = Shapes(settings.payload_limit)
        self._ends = EndReader(settings)
        self._has_worked = False

    @cached_property
    def link(self) -> Link:
        """The connections."""
        return Link(BrokerAddress.of(self.settings))

    async def submit(
        self,
        handler: str | Declared,
        payload: Payload = NO_PAYLOAD,
        *,
        durability: Durability | None = None,
        unchecked: bool = False,
        **options: Unpack[Options],
    ) -> str:
        """Queue one task; returns its id. Errors as ``Client.submit``."""
        channel = find_channel()
        if channel is not None:
            return await submit_child_async(channel, self._shapes.local(handler), payload, options)
        wish = (await self._shape(handler, unchecked)).make(payload, options)
        receipt = (await self.send([wish], durability=durability))[0]
        if receipt.is_conflict:
            raise receipts.conflict(receipt)
        return receipt.id

    async def submit_many(
        self,
        items: Iterable[Item],
        *,
        durability: Durability | None = None,
        unchecked: bool = False,
        **options: Unpack[Options],
    ) -> list[str]:
        """Queue tasks in bulk, in order; returns their ids. Items and errors as ``Client.submit_many``."""
        channel = find_channel()
        if channel is not None:
            return [await submit_child_async(channel, *self._shapes.child(item, options)) for item in items]
        await self._prefetch(items := list(items), unchecked)
        refuse_inside("send submissions")
        parts = chunks(self._wish(item, unchecked, options) for item in items)
        bulk, window = receipts.Bulk(), deque[Posted]()
        with bulk:
            while True:
                try:
                    part = next(parts, None)
                    if part is None:
                        break
                    window.append(await self._post(part, durability or self._durability))
                except Exception:
                    await self._settle_posted(window, 0, bulk)
                    raise
                await self._settle_posted(window, receipts.IN_FLIGHT, bulk)
            await self._settle_posted(window, 0, bulk)
        return bulk.finish()

    async def send(self, wishes: Sequence[Wish], *, durability: Durability | None = None) -> list[Receipt]:
        """Send submissions in one call, at most ``calls.CHUNK``; errors as ``Client.send``."""
        refuse_inside("send submissions")
        posted = await self._post(wishes, durability or self._durability)
        await self._confirm(posted)
        return posted.receipts()

    async def _post(self, wishes: Sequence[Wish], durability: Durability) -> Posted:
        receipts.check_durability(durability)
        if durability == "recorded":
            await self._require_recorder()
        call = calls.submit(self.keys, wishes)
        reply, drops = await self._deliver(call, wishes)
        return Posted(wishes, call, reply, drops, durability=durability)

    async def _settle_posted(self, window: deque[Posted], most: int, bulk: receipts.Bulk) -> None:
        while window and (len(window) > most or not window[0].awaits_record):
            posted = window.popleft()
            try:
                await self._confirm(posted, is_bulk=True)
            except receipts.Unconfirmed as error:
                raise receipts.with_others(error, window) from None
            bulk.add(posted.receipts())

    async def wait(self, ids: str | Iterable[str], timeout: float | None = None) -> Any:  # noqa: ASYNC109  the word of Client.wait
        """The result of one task, or the results of several in their order. Errors as ``Client.wait``."""
        wanted = [ids] if isinstance(ids, str) else list(ids)
        results: dict[str, Any] = {}
        async with aclosing(self.wait_each(wanted, timeout)) as ends:
            async for end in ends:
                results[end.id] = end.value()
        return results[ids] if isinstance(ids, str) else [results[task_id] for task_id in wanted]

    async def wait_each(
        self,
        ids: Iterable[str],
        timeout: float | None = None,  # noqa: ASYNC109  the word of Client.wait
    ) -> AsyncGenerator[Ended, None]:
        """The ends of tasks as they come; errors as :meth:`wait`, but those of the tasks are in what is yielded."""
        refuse_inside("wait for tasks")
        pending = Pending(ids, timeout)
        news: asyncio.Queue[str] = asyncio.Queue()
        ready = asyncio.Event()
        hearing = asyncio.create_task(self._hear(list(pending.ids), news, ready))
        try:
            await self._ask(SERVER_TIME)  # a subscription would wait for a broker that was never there
            await _first_of(ready, _SUBSCRIBE_TIMEOUT)
            asked = pending.due()
            while pending.ids:
                for start in range(0, len(asked), calls.CHUNK):
                    for end in await self._ends_of(pending, asked[start : start + calls.CHUNK]):
                        yield end
                if pending.ids:
                    asked = await _next_news(news, pending)
        except BrokerUnavailable:
            for end in await asyncio.to_thread(list, pending.recorded_ends(self._ends.read)):
                yield end
            if pending.ids:
                raise
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)

    async def result(self, task_id: str) -> Any:
        """The result of a task that has ended; errors as :meth:`wait`.

        Raises:
            Pending: it has not ended yet.
        """
        try:
            return await self.wait(task_id, timeout=0)
        except WaitTimeout:
            raise NotEnded(f"task {task_id} has not ended yet", hint=f"tqctl task wait {task_id}") from None

    async def cancel(self, ids: str | Iterable[str], *, reason: str = "cancelled by a client") -> int:
        """Cancel tasks; returns how many were ended or asked to end, the others had ended before."""
        refuse_inside("cancel tasks")
        wanted = [ids] if isinstance(ids, str) else list(ids)
        done = 0
        for start in range(0, len(wanted), calls.CHUNK):
            part = wanted[start : start + calls.CHUNK]
            call = calls.cancel(self.keys, part, reason=reason, who=user_name())
            reply = await self.link.call_idempotent(call)
            done += sum(code in (calls.CANCELLED, calls.REQUESTED) for code in reply.codes)
        return done

    async def aclose(self) -> None:
        """Close the connections; a closed client is not used again."""
        if "link" in self.__dict__:
            await self.link.aclose()
        await asyncio.to_thread(self._ends.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _shape(self, handler: str | Declared, unchecked: bool) -> Shape:
        if not isinstance(handler, str):
            return self._shapes.of_spec(handler.spec)
        shape = self._shapes.find(handler)
        if shape is not None:
            return shape
        row = await self._ask(calls.catalogue_row(self.keys, handler))
        if row is not None:
            return self._shapes.remember(handler, row)
        if unchecked:
            return self._shapes.unknown(handler)
        if await self._ask(calls.journal_position(self.keys)) is None:
            raise translate_error("NOEPOCH")
        raise unknown_handler(handler, await self._ask(calls.catalogue(self.keys)))

    async def _prefetch(self, items: Sequence[Item], unchecked: bool) -> None:
        """Learn the rows of every handler that *items* name."""
        for name in {item[0] for item in items if isinstance(item, tuple) and isinstance(item[0], str)}:
            await self._shape(name, unchecked)

    def _wish(self, item: Item, unchecked: bool, options: Mapping[str, Any]) -> Wish:
        if not isinstance(item, tuple):
            return item
        shape = self._shapes.known(item[0])
        return shape.make(item[1], own_options(item, options))

    async def _ask(self, call: Call[Any]) -> Any:
        """The reply of a call that may be sent twice; an absent broker is told at once, a lost one is waited for."""
        try:
            reply = await self.link.call(call)
        except BrokerUnavailable as error:
            if not (self._has_worked or (self.link.was_connected and not isinstance(error, NotOpen))):
                raise
            reply = await self.link.call_idempotent(call, patience=receipts.PATIENCE)
        self._has_worked = True
        return reply

    async def _deliver(self, call: Call[calls.SubmitReply], wishes: Sequence[Wish]) -> tuple[calls.SubmitReply, int]:
        delivery: Delivery | None = None
        while True:
            drops = self.link.drops
            try:
                reply = await self.link.call(call)
            except (BrokerUnavailable, Busy) as error:
                if delivery is None:
                    has_worked = self._has_worked or await self._is_repaired(error)
                    delivery = Delivery([wish.id for wish in wishes], has_worked=has_worked)
                delivery.failed(error)
                await asyncio.sleep(delivery.pause)
            else:
                self._has_worked = True
                return reply, drops

    async def _require_recorder(self) -> None:
        give_up = time.monotonic() + receipts.RECORDER_PATIENCE
        while True:
            mark = await self.link.call_idempotent(calls.watermark(self.keys))
            if await self.link.call_idempotent(SERVER_TIME) - mark.at < calls.RECORDER_SILENT_MS:
                return
            is_new = mark.at == 0 and (self._has_worked or await self.link.call(repair_under_way(self.keys)))
            if not is_new or time.monotonic() > give_up:
                raise receipts.no_recorder()
            await asyncio.sleep(receipts.LONGEST_PAUSE)

    async def _is_repaired(self, error: TqctlError) -> bool:
        return isinstance(error, NotOpen) and await self.link.call(repair_under_way(self.keys))

    async def _confirm(self, posted: Posted, *, is_bulk: bool = False) -> None:
        """Wait until the record has what was *posted*; what a broker that came back may have lost is sent again."""
        rules = Confirmation(posted, is_bulk=is_bulk)
        while posted.awaits_record:
            try:
                mark = await self.link.call(calls.watermark(self.keys))
            except BrokerUnavailable:
                mark = None
            if mark is None or self.link.drops != posted.drops:
                await self._again(posted)
                continue
            if receipts.is_outdated(mark, posted.reply):
                await self._again(posted)
            elif rules.is_over(mark):
                return
            await asyncio.sleep(rules.pause)

    async def _again(self, posted: Posted) -> None:
        try:
            posted.sent_again(*await self._deliver(posted.call, posted.wishes))
        except receipts.Unconfirmed:
            raise
        except TqctlError as error:
            raise receipts.doubtful(posted.ids(), error) from error

    async def _hear(self, ids: list[str], news: asyncio.Queue[str], ready: asyncio.Event) -> None:
        channels = [self.keys.done_channel(task_id) for task_id in ids]
        heard = cast("AsyncGenerator[tuple[str, bytes], None]", self.link.listen(*channels, ready=ready))
        async with aclosing(heard):
            async for channel, _ in heard:
                news.put_nowait(task_of(channel))

    async def _ends_of(self, pending: Pending, ids: Sequence[str]) -> list[Ended]:
        seen = await self._ask(calls.watch(self.keys, ids))
        return [end for item in seen if (end := await self._settle(pending, item)) is not None]

    async def _settle(self, pending: Pending, seen: calls.Watched) -> Ended | None:
        if pending.asks_record(seen):
            return await asyncio.to_thread(pending.settle, seen, self._ends.read)
        return pending.settle(seen, self._ends.read)


async def _first_of(ready: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await ready.wait()
    except TimeoutError:
        return  # the first question says what is wrong with the broker


async def _next_news(news: asyncio.Queue[str], pending: Pending) -> list[str]:
    try:
        async with asyncio.timeout(pending.pause()):
            told = [await news.get()]
    except TimeoutError:
        return pending.due()
    while not news.empty():
        told.append(news.get_nowait())
    return [task_id for task_id in told if task_id in pending.ids]
