"""Sending submissions over a blocking connection: again after a lost reply, and until the record has them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tqctl_runtime.broker import calls
from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.calls import Wish
from tqctl_runtime.client import receipts
from tqctl_runtime.client.receipts import Durability, Receipt
from tqctl_runtime.client.shapes import chunks
from tqctl_runtime.core.errors import BrokerTimeout, BrokerUnavailable, Busy, NotOpen, TqctlError

if TYPE_CHECKING:
    from tqctl_runtime.broker.keys import Keys
    from tqctl_runtime.broker.wire import Wire

#: The server's clock in milliseconds.
SERVER_TIME: Call[int] = Call("server_time", ("TIME",), lambda reply: int(reply[0]) * 1000 + int(reply[1]) // 1000)


def repair_under_way(keys: Keys) -> Call[bool]:
    """Whether the namespace is closed for a repair, rather than never opened."""
    return Call("repair_under_way", ["HEXISTS", keys.meta, "repair_term"], bool)


def is_absent(error: BrokerUnavailable, *, has_worked: bool) -> bool:
    """Whether there is no broker to wait for: it was never there, rather than lost on the way."""
    return not has_worked and not isinstance(error, BrokerTimeout)


class Delivery:
    """The rules of one submit that is repeated until it is answered."""

    def __init__(self, ids: Sequence[str], *, has_worked: bool) -> None:
        self._ids = ids
        self._has_worked = has_worked
        self._give_up = time.monotonic() + receipts.PATIENCE
        self._is_doubtful = False
        self.pause = receipts.FIRST_PAUSE

    def failed(self, error: TqctlError) -> None:
        """Return where the call is to be sent again after *pause* seconds.

        Raises:
            Busy: nothing was queued.
            Unconfirmed: an earlier sending may have been carried out.
            BrokerUnavailable: it could not be reached.
        """
        if isinstance(error, Busy) and not self._is_doubtful:
            raise error
        if isinstance(error, BrokerUnavailable):
            if is_absent(error, has_worked=self._has_worked):
                raise error
            # A closed namespace carried nothing out.
            self._is_doubtful = self._is_doubtful or not isinstance(error, NotOpen)
        if time.monotonic() + self.pause > self._give_up:
            if not self._is_doubtful:
                raise error
            # Busy says that nothing was queued, which is not known of the sending whose reply was lost.
            raise receipts.doubtful(self._ids, error) from error
        self.pause = min(self.pause * 2, 0.5)


class Sender:
    """Sends submissions; threads may share one."""

    def __init__(self, wire: Wire, keys: Keys) -> None:
        self._wire = wire
        self._keys = keys
        self._has_worked = False

    def send(self, wishes: Sequence[Wish], durability: Durability) -> list[Receipt]:
        """Submit at most ``calls.CHUNK`` tasks in one call: all are queued or none.

        Raises:
            Busy: try later, nothing was queued.
            Unconfirmed: queued but not recorded in time, or nobody can tell whether they are queued.
            BrokerUnavailable: the broker cannot be reached.
        """
        receipts.check_durability(durability)
        if durability == "recorded":
            self._require_recorder()
        call = calls.submit(self._keys, wishes)
        reply, drops = self._deliver(call, wishes)
        wants_record = durability == "recorded" or (durability == "auto" and reply.is_recorder_alive)
        if wants_record:
            self._confirm(call, wishes, reply, drops)
        return receipts.make_receipts(reply.accepted, is_alive=reply.is_recorder_alive, is_recorded=wants_record)

    def send_many(self, wishes: Iterable[Wish], durability: Durability) -> Iterator[list[Receipt]]:
        """Submit any number in calls of bounded size, in order; the next call is made while one is under way."""
        parts = chunks(wishes)
        first, second = next(parts, None), next(parts, None)
        if first is None:
            return
        if second is None:
            yield self.send(first, durability)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, "tqctl-submit") as pool:
            flying = pool.submit(self.send, first, durability)
            following: list[Wish] | None = second
            while following is not None:
                # Only after the call before has succeeded: an error must leave nothing behind it.
                answered = flying.result()
                flying = pool.submit(self.send, following, durability)
                yield answered
                try:
                    following = next(parts, None)
                except Exception:
                    yield flying.result()  # queued before the tasks ran out
                    raise
            yield flying.result()

    def _deliver(self, call: Call[calls.SubmitReply], wishes: Sequence[Wish]) -> tuple[calls.SubmitReply, int]:
        """The answer, and how many connections had been given up before it came."""
        delivery: Delivery | None = None
        while True:
            drops = self._wire.drops
            try:
                reply = self._wire.call(call)
            except (BrokerUnavailable, Busy) as error:
                if delivery is None:
                    has_worked = self._has_worked or self._is_repaired(error)
                    delivery = Delivery([wish.id for wish in wishes], has_worked=has_worked)
                delivery.failed(error)
                time.sleep(delivery.pause)
            else:
                self._has_worked = True
                return reply, drops

    def _is_repaired(self, error: TqctlError) -> bool:
        return isinstance(error, NotOpen) and self._wire.call(repair_under_way(self._keys))

    def _require_recorder(self) -> None:
        give_up = time.monotonic() + receipts.RECORDER_PATIENCE
        while True:
            mark = self._wire.call_idempotent(calls.watermark(self._keys))
            if self._wire.call_idempotent(SERVER_TIME) - mark.at < calls.RECORDER_SILENT_MS:
                return
            # No sign at all: it was built anew just now, or is being built.
            is_new = mark.at == 0 and (self._has_worked or self._wire.call(repair_under_way(self._keys)))
            if not is_new or time.monotonic() > give_up:
                raise receipts.no_recorder()
            time.sleep(receipts.LONGEST_PAUSE)

    def _confirm(
        self, call: Call[calls.SubmitReply], wishes: Sequence[Wish], reply: calls.SubmitReply, drops: int
    ) -> None:
        """Wait until the record has what *reply* tells; what a broker that came back may have lost is sent again."""
        give_up = time.monotonic() + receipts.CONFIRM_TIMEOUT
        pause = receipts.FIRST_PAUSE
        while True:
            try:
                mark = self._wire.call(calls.watermark(self._keys))
            except BrokerUnavailable:
                mark = None
            # A connection that another thread gave up tells the same: the server may have come back without the task.
            if mark is None or self._wire.drops != drops:
                reply, drops = self._again(call, wishes)
                continue
            if mark.covers(reply.position):
                if mark.has_refused(reply):
                    raise receipts.quarantined([wish.id for wish in wishes])
                return
            if receipts.is_outdated(mark, reply):
                reply, drops = self._again(call, wishes)
            elif time.monotonic() > give_up:
                raise receipts.unconfirmed([wish.id for wish in wishes])
            time.sleep(pause)
            pause = min(pause * 1.5, receipts.LONGEST_PAUSE)

    def _again(self, call: Call[calls.SubmitReply], wishes: Sequence[Wish]) -> tuple[calls.SubmitReply, int]:
        try:
            return self._deliver(call, wishes)
        except TqctlError as error:
            raise receipts.doubtful([wish.id for wish in wishes], error) from error
