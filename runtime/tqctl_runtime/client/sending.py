"""Sending submissions over a blocking connection: again after a lost reply, and until the record has them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tqctl_runtime.broker import calls
from tqctl_runtime.broker.call import Call
from tqctl_runtime.broker.calls import Watermark, Wish
from tqctl_runtime.client import receipts
from tqctl_runtime.client.receipts import Durability, Posted, Receipt, Unconfirmed
from tqctl_runtime.client.shapes import chunks
from tqctl_runtime.core.errors import (
    BrokerCannotWrite,
    BrokerTimeout,
    BrokerUnavailable,
    Busy,
    NotOpen,
    TqctlError,
)

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
        if isinstance(error, BrokerCannotWrite) and not self._is_doubtful:
            raise receipts.unwritable(error) from None
        if isinstance(error, BrokerUnavailable):
            if is_absent(error, has_worked=self._has_worked):
                raise error
            # A closed namespace and a disk that takes nothing carried nothing out.
            self._is_doubtful = self._is_doubtful or not isinstance(error, NotOpen | BrokerCannotWrite)
        if time.monotonic() + self.pause > self._give_up:
            if not self._is_doubtful:
                raise error
            # Busy says that nothing was queued, which is not known of the sending whose reply was lost.
            raise receipts.doubtful(self._ids, error) from error
        self.pause = min(self.pause * 2, 0.5)


class Confirmation:
    """The rules of one wait for the record; *is_bulk* waits on as long as the record comes nearer."""

    def __init__(self, posted: Posted, *, is_bulk: bool = False, waiting: Callable[[], None] | None = None) -> None:
        now = time.monotonic()
        self._posted = posted
        self._is_bulk = is_bulk
        self._waiting = waiting
        self._remark_at = now + receipts.REMARK_AFTER
        self._give_up = now + receipts.CONFIRM_TIMEOUT
        self._silent_at = now + receipts.SILENCE
        self._mark: Watermark | None = None
        self.pause = receipts.FIRST_PAUSE

    def is_over(self, mark: Watermark) -> bool:
        """Whether nothing is left to wait for; else *mark* is to be read again after *pause* seconds.

        Raises:
            Unconfirmed: it was not recorded in time, or the record could not take it.
        """
        posted, now = self._posted, time.monotonic()
        if mark.covers(posted.reply.position):
            if mark.has_refused(posted.reply):
                raise receipts.quarantined(posted.ids())
            posted.is_recorded = True
            return True
        self._listen(mark, now)
        if posted.durability == "auto" and self._has_ended(mark, now):
            posted.is_recorder_alive = False
            return True
        if self._waiting is not None and now > self._remark_at:
            self._waiting()
            self._waiting = None
        if now > self._give_up:
            raise receipts.unconfirmed(posted.ids())
        self.pause = min(self.pause * 1.5, receipts.LONGEST_PAUSE)
        return False

    def _listen(self, mark: Watermark, now: float) -> None:
        before, self._mark = self._mark, mark
        if before is None:
            return
        if mark.at != before.at:
            self._silent_at = now + receipts.SILENCE
        if self._is_bulk and mark.position != before.position:
            self._give_up = now + receipts.CONFIRM_TIMEOUT

    def _has_ended(self, mark: Watermark, now: float) -> bool:
        """Whether nobody records any more. A mark of another epoch tells of a repair: what it lost is sent again."""
        is_same = mark.position.epoch == self._posted.reply.position.epoch
        return is_same and (mark.at == 0 or now > self._silent_at)


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
        posted = self.post(wishes, durability)
        self.confirm(posted)
        return posted.receipts()

    def post(self, wishes: Sequence[Wish], durability: Durability) -> Posted:
        """The first half of :meth:`send`: the broker has the tasks. Errors are those of :meth:`send`."""
        receipts.check_durability(durability)
        if durability == "recorded":
            self._require_recorder()
        call = calls.submit(self._keys, wishes)
        reply, drops = self._deliver(call, wishes)
        return Posted(wishes, call, reply, drops, durability=durability)

    def confirm(self, posted: Posted, *, is_bulk: bool = False, waiting: Callable[[], None] | None = None) -> None:
        """The second half of :meth:`send`: until the record has what was *posted*, or nobody records any more.

        What a broker that came back may have lost is sent again. *waiting* is called once where it takes long.

        Raises:
            Unconfirmed: it was not recorded in time (*is_bulk*: without any progress of the record), or is refused.
        """
        rules = Confirmation(posted, is_bulk=is_bulk, waiting=waiting)
        while posted.awaits_record:
            try:
                mark = self._wire.call(calls.watermark(self._keys))
            except BrokerUnavailable:
                mark = None
            # A connection that another thread gave up tells the same: the server may have come back without the task.
            if mark is None or self._wire.drops != posted.drops:
                self._again(posted)
                continue
            if receipts.is_outdated(mark, posted.reply):
                self._again(posted)
            elif rules.is_over(mark):
                return
            time.sleep(rules.pause)

    def send_many(self, wishes: Iterable[Wish], durability: Durability) -> Iterator[list[Receipt]]:
        """Submit any number in calls of bounded size, in order; the next is made while earlier ones are under way.

        At most ``receipts.IN_FLIGHT`` calls wait for the record; each is yielded once it waits no more.
        """
        window: deque[Posted] = deque()
        posts = self._post_many(wishes, durability)
        while True:
            try:
                posted = next(posts, None)
            except Exception:
                yield from self._settle(window, 0)  # queued before the tasks, or the broker, gave out
                raise
            if posted is None:
                break
            window.append(posted)
            yield from self._settle(window, receipts.IN_FLIGHT)
        yield from self._settle(window, 0)

    def _post_many(self, wishes: Iterable[Wish], durability: Durability) -> Iterator[Posted]:
        """Post *wishes* a chunk at a time, the next one made meanwhile; nothing is under way when one is yielded."""
        parts = chunks(wishes)
        first, second = next(parts, None), next(parts, None)
        if first is None:
            return
        if second is None:
            yield self.post(first, durability)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, "tqctl-submit") as pool:
            flying = pool.submit(self.post, first, durability)
            following: list[Wish] | None = second
            while following is not None:
                # Only after the call before has succeeded: an error must leave nothing behind it.
                yield flying.result()
                flying = pool.submit(self.post, following, durability)
                try:
                    following = next(parts, None)
                except Exception:
                    yield flying.result()
                    raise
            yield flying.result()

    def _settle(self, window: deque[Posted], most: int) -> Iterator[list[Receipt]]:
        """Take calls off the front of *window*: those that await nothing, and more until *most* are left."""
        while window and (len(window) > most or not window[0].awaits_record):
            posted = window.popleft()
            try:
                self.confirm(posted, is_bulk=True)
            except Unconfirmed as error:
                raise receipts.with_others(error, window) from None
            yield posted.receipts()

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

    def _again(self, posted: Posted) -> None:
        try:
            posted.sent_again(*self._deliver(posted.call, posted.wishes))
        except Unconfirmed:
            raise
        except TqctlError as error:
            raise receipts.doubtful(posted.ids(), error) from error
