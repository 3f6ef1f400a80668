"""The blocking client. Its imports stay cheap: ``tqctl submit`` is built on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from tqctl_runtime.broker import calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.call import translate_error
from tqctl_runtime.broker.calls import Wish
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.client import receipts
from tqctl_runtime.client.lookup import Declared, Shapes
from tqctl_runtime.client.nested import find_channel, refuse_inside, submit_child, submit_child_async
from tqctl_runtime.client.options import Options
from tqctl_runtime.client.receipts import Durability, Posted, Receipt
from tqctl_runtime.client.sending import Sender
from tqctl_runtime.client.shapes import Shape

if TYPE_CHECKING:
    from tqctl_runtime.client.outcomes import Ended
    from tqctl_runtime.client.recorded import EndReader
    from tqctl_runtime.core.settings import Settings
    from tqctl_runtime.core.submission import Submission

Payload = Mapping[str, Any] | bytes
#: A task for ``submit_many``: made already, or handler and payload, or handler, payload and options of its own.
Item = Wish | tuple[str | Declared, Payload] | tuple[str | Declared, Payload, Options]
NO_PAYLOAD: Mapping[str, Any] = {}


class Client:
    """Submits tasks and waits for them. Threads may share one; it connects at the first call.

    Inside of a running handler ``submit`` and ``submit_many`` travel to the handler's supervisor and make children of
    the running task; everything else is refused there.
    """

    def __init__(self, settings: Settings | None = None, *, durability: Durability = "accepted") -> None:
        if settings is None:
            from tqctl_runtime.config import load_settings

            settings = load_settings()
        receipts.check_durability(durability)
        self.settings = settings
        self.keys = Keys(settings.namespace)
        self._durability: Durability = durability
        self._shapes = Shapes(settings.payload_limit)

    @cached_property
    def wire(self) -> Wire:
        """The connection, the same one for all threads that share the client."""
        made: Wire = self.__dict__.setdefault("wire", Wire(BrokerAddress.of(self.settings)))
        return made

    @cached_property
    def _ends(self) -> EndReader:
        from tqctl_runtime.client.recorded import EndReader

        made: EndReader = self.__dict__.setdefault("_ends", EndReader(self.settings))
        return made

    @cached_property
    def _sender(self) -> Sender:
        return Sender(self.wire, self.keys)

    def submit(
        self,
        handler: str | Declared,
        payload: Payload = NO_PAYLOAD,
        *,
        durability: Durability | None = None,
        unchecked: bool = False,
        **options: Unpack[Options],
    ) -> str:
        """Queue one task; returns its id, or the first task's where key or window made this a repetition.

        *unchecked* submits also a handler that no worker ever had. *durability* is the client's unless given.

        Raises:
            UnknownHandler: no worker ever had it; near names are in the hint.
            UsageError: an option is not valid.
            PayloadError: the payload is not a JSON object or too large.
            Conflict: the idempotency key belongs to other work.
            Busy: try later, nothing was queued.
            Unconfirmed: queued, but not recorded in time; or nobody can tell whether it is queued.
            BrokerUnavailable: the broker cannot be reached.
        """
        channel = find_channel()
        if channel is not None:
            return submit_child(channel, self._shapes.local(handler), payload, options)
        wish = self._shape(handler, unchecked).make(payload, options)
        receipt = self.send([wish], durability=durability)[0]
        if receipt.is_conflict:
            raise receipts.conflict(receipt)
        return receipt.id

    async def submit_async(
        self, handler: str | Declared, payload: Payload = NO_PAYLOAD, **options: Unpack[Options]
    ) -> str:
        """As :meth:`submit` by the client's durability, while the event loop that calls it goes on.

        An async handler submits its children so without holding up the tasks beside it. Outside of a handler a thread
        waits; who has many to submit there uses ``AsyncClient``.
        """
        channel = find_channel()
        if channel is not None:
            return await submit_child_async(channel, self._shapes.local(handler), payload, options)
        import asyncio

        return await asyncio.to_thread(self.submit, handler, payload, **options)

    def submit_many(
        self,
        items: Iterable[Item],
        *,
        durability: Durability | None = None,
        unchecked: bool = False,
        **options: Unpack[Options],
    ) -> list[str]:
        """Queue tasks in bulk, in order; returns their ids. *items* may be a generator and is read as it is sent.

        An item is (handler, payload), (handler, payload, options of its own) or a submission; *options* hold for all.

        Raises:
            PartlySubmitted: an error ended it after some tasks were queued, or a key belonged to other work.
            TqctlError: as :meth:`submit`, where nothing was queued.
        """
        channel = find_channel()
        if channel is not None:
            return [submit_child(channel, *self._shapes.child(item, options)) for item in items]
        bulk = receipts.Bulk()
        with bulk:
            for answered in self.send_many(self._wishes(items, unchecked, options), durability=durability):
                bulk.add(answered)
        return bulk.finish()

    def prepare(
        self,
        handler: str | Declared,
        payload: Payload = NO_PAYLOAD,
        *,
        unchecked: bool = False,
        **options: Unpack[Options],
    ) -> Submission:
        """The submission that :meth:`submit` would send, for a look at it or for :meth:`send`."""
        return self._shape(handler, unchecked).build(payload, options)

    def send(self, wishes: Sequence[Wish], *, durability: Durability | None = None) -> list[Receipt]:
        """Send what :meth:`prepare` made, at most ``calls.CHUNK``, in one call: all are queued or none.

        Raises:
            TqctlError: as :meth:`submit`; a conflict is told in its receipt.
        """
        refuse_inside("send submissions")
        return self._sender.send(wishes, durability or self._durability)

    def post(self, wishes: Sequence[Wish], *, durability: Durability | None = None) -> Posted:
        """The first half of :meth:`send`: the broker has the tasks, and :meth:`confirm` waits for the record.

        Raises:
            TqctlError: as :meth:`send`; a conflict is told in its receipt.
        """
        refuse_inside("send submissions")
        return self._sender.post(wishes, durability or self._durability)

    def confirm(self, posted: Posted, *, is_bulk: bool = False, waiting: Callable[[], None] | None = None) -> None:
        """The second half of :meth:`send`; *waiting* is called once where it takes more than a moment.

        With *is_bulk* the wait goes on as long as the record comes nearer.

        Raises:
            Unconfirmed: not recorded in time, or refused by the record.
        """
        self._sender.confirm(posted, is_bulk=is_bulk, waiting=waiting)

    def send_many(self, wishes: Iterable[Wish], *, durability: Durability | None = None) -> Iterator[list[Receipt]]:
        """Send any number in calls of bounded size; yields the receipts of each call, all in order.

        Raises:
            TqctlError: as :meth:`send`; what was yielded before is queued.
        """
        refuse_inside("send submissions")
        return self._sender.send_many(wishes, durability or self._durability)

    def wait(self, ids: str | Iterable[str], timeout: float | None = None) -> Any:
        """The result of one task, or the results of several in their order; *timeout* in seconds.

        Raises:
            TaskFailed: a task ended dead or expired.
            TaskTimedOut: a task's own time limit ended it.
            TaskCancelled: a task was cancelled.
            WaitTimeout: this wait ended, the work goes on.
            NotFound: there is no such task.
            RecordUnavailable: only the record could tell, and it cannot be reached.
        """
        if isinstance(ids, str):
            return next(self.wait_each([ids], timeout)).value()
        wanted = list(ids)
        results = {end.id: end.value() for end in self.wait_each(wanted, timeout)}
        return [results[task_id] for task_id in wanted]

    def wait_each(self, ids: Iterable[str], timeout: float | None = None) -> Iterator[Ended]:
        """The ends of tasks as they come; errors as :meth:`wait`, but those of the tasks are in what is yielded."""
        from tqctl_runtime.client.waiting import wait_for_ends

        refuse_inside("wait for tasks")
        return wait_for_ends(self.wire, self.keys, list(dict.fromkeys(ids)), timeout, self._ends.read)

    def result(self, task_id: str) -> Any:
        """The result of a task that has ended; errors as :meth:`wait`.

        Raises:
            Pending: it has not ended yet.
        """
        from tqctl_runtime.core.errors import Pending, WaitTimeout

        try:
            return self.wait(task_id, timeout=0)
        except WaitTimeout:
            raise Pending(f"task {task_id} has not ended yet", hint=f"tqctl task wait {task_id}") from None

    def cancel(self, ids: str | Iterable[str], *, reason: str = "cancelled by a client") -> int:
        """Cancel tasks; returns how many were ended or asked to end, the others had ended before."""
        refuse_inside("cancel tasks")
        wanted = [ids] if isinstance(ids, str) else list(ids)
        done = 0
        for start in range(0, len(wanted), calls.CHUNK):
            part = wanted[start : start + calls.CHUNK]
            reply = self.wire.call_idempotent(calls.cancel(self.keys, part, reason=reason, who=user_name()))
            done += sum(code in (calls.CANCELLED, calls.REQUESTED) for code in reply.codes)
        return done

    def close(self) -> None:
        """Close the connections; the next call makes new ones."""
        if "wire" in self.__dict__:
            self.wire.close()
        if "_ends" in self.__dict__:
            self._ends.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _shape(self, handler: str | Declared, unchecked: bool) -> Shape:
        """The shape of *handler*: its own declaration, or its row of the catalogue."""
        if not isinstance(handler, str):
            return self._shapes.of_spec(handler.spec)
        shape = self._shapes.find(handler)
        if shape is not None:
            return shape
        row = self.wire.call_idempotent(calls.catalogue_row(self.keys, handler))
        if row is not None:
            return self._shapes.remember(handler, row)
        if unchecked:
            return self._shapes.unknown(handler)
        self.require_open()
        rows = self.wire.call_idempotent(calls.catalogue(self.keys))
        from tqctl_runtime.core.handler import unknown_handler

        raise unknown_handler(handler, rows)

    def require_open(self) -> None:
        """Refuse to say what a namespace knows that is not open.

        Raises:
            NotOpen: no coordinator has opened it, or it is being repaired.
        """
        if self.wire.call_idempotent(calls.journal_position(self.keys)) is None:
            raise translate_error("NOEPOCH")

    def _wishes(self, items: Iterable[Item], unchecked: bool, options: Mapping[str, Any]) -> Iterator[Wish]:
        for item in items:
            if isinstance(item, tuple):
                yield self._shape(item[0], unchecked).make(item[1], own_options(item, options))
            else:
                yield item


def own_options(item: Item, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of *item*: its own before those that hold for all."""
    return {**options, **item[2]} if isinstance(item, tuple) and len(item) == 3 else options


def user_name() -> str:
    """Who asks, for the record."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return f"uid {os.getuid()}"
