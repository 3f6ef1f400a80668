"""The asyncio client on redis-py, for every process that stays.

redis-py repeats commands by default, ten times; here it never does. A connection that did not end its request with
the whole reply (error, time-out, cancellation) is dropped, never reused.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from tenacity import AsyncRetrying, retry_if_exception, stop_after_delay, stop_never, wait_random_exponential

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.call import Call, translate_error
from tqctl_runtime.broker.wire import CONNECT_TIMEOUT, lost, refused, too_late
from tqctl_runtime.core.errors import BrokerUnavailable

R = TypeVar("R")

#: Connections at once; further calls wait their turn.
MAX_CONNECTIONS = 8
#: Added to the time the server blocks before the client gives up, in seconds.
BLOCK_MARGIN = 5.0
#: A listener that heard nothing for this long asks the server for a sign of life, in seconds.
LISTEN_PING = 10.0
_PATIENCE = 30.0


class Link:
    """Connections to one broker, made when needed. One event loop owns a link."""

    def __init__(self, address: BrokerAddress, *, connect_timeout: float = CONNECT_TIMEOUT) -> None:
        self.address = address
        #: How often a connection was given up: while it stays, the server is the one that it was.
        self.drops = 0
        #: Whether a connection was ever made: from then on a server that is not there is one that went away.
        self.was_connected = False
        self._connect_timeout = connect_timeout
        self._idle: list[AbstractConnection] = []
        self._places = asyncio.Semaphore(MAX_CONNECTIONS)
        self._blocking: AbstractConnection | None = None
        self._blocking_turn = asyncio.Lock()
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def call(self, call: Call[R]) -> R:
        """The decoded reply of *call*, sent once.

        Raises:
            BrokerTimeout: no reply within ``call.timeout``; the call may have been carried out.
            BrokerUnavailable: no connection, or it broke; the call may have been carried out.
            TqctlError: what the error reply means.
        """
        return call.decode(await self._pooled(call, call.timeout))

    async def call_idempotent(self, call: Call[R], *, patience: float = _PATIENCE) -> R:
        """Like :meth:`call`, sent again for *patience* seconds (``math.inf``: for ever) while the broker is away.

        Only for calls that the broker recognises when they come twice.
        """
        async for attempt in AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, BrokerUnavailable) and not self._closed),
            stop=stop_after_delay(patience) if patience != float("inf") else stop_never,
            wait=wait_random_exponential(multiplier=0.05, max=1.0),
            reraise=True,
        ):
            with attempt:
                return await self.call(call)
        raise AssertionError("unreachable: the loop returns or raises")

    async def blocking(self, call: Call[R], block: float) -> R:
        """The reply of a *call* that waits up to *block* seconds on the server, on a connection kept for such calls.

        Raises:
            BrokerUnavailable: as :meth:`call`; a reply that was on its way is lost with the connection.
        """
        async with self._blocking_turn:
            connection = self._blocking or self._new_connection()
            self._blocking = None
            try:
                reply = await self._exchange(connection, call, block + BLOCK_MARGIN)
            except BrokerUnavailable:
                await self._drop_idle()
                raise
            self._blocking = connection
        return call.decode(reply)

    async def command(self, *words: str | bytes | int, within: float = CONNECT_TIMEOUT) -> Any:
        """The raw reply of a plain command such as ``PING`` or ``INFO``; errors as :meth:`call` raises them."""
        return await self._pooled(_Plain(words), within)

    async def listen(self, *channels: str, ready: asyncio.Event | None = None) -> AsyncIterator[tuple[str, bytes]]:
        """Messages as (channel, message), for ever: a lost connection is made again, what was said meanwhile is missed.

        *ready* is set while the subscription stands. Close the iterator (or cancel its task) to stop.
        """
        pause = 0.05
        while not self._closed:
            connection = self._new_connection()
            try:
                await self._subscribe(connection, channels)
                pause = 0.05
                if ready is not None:
                    ready.set()
                while True:
                    frame = await self._heard(connection)
                    if frame[0] == b"message":
                        yield frame[1].decode(), frame[2]
            except BrokerUnavailable:
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
            finally:
                if ready is not None:
                    ready.clear()
                await connection.disconnect(nowait=True)

    async def aclose(self) -> None:
        """Close every connection; calls after it fail."""
        self._closed = True
        idle, self._idle = self._idle, []
        if self._blocking is not None:
            idle.append(self._blocking)
            self._blocking = None
        for connection in idle:
            with suppress(RedisError):  # a peer that does not answer the goodbye
                await connection.disconnect()

    async def _pooled(self, call: Call[Any] | _Plain, seconds: float) -> Any:
        async with self._places:
            connection = self._idle.pop() if self._idle else self._new_connection()
            try:
                reply = await self._exchange(connection, call, seconds)
            except BrokerUnavailable:
                await self._drop_idle()
                raise
            if self._closed:
                await connection.disconnect()
            else:
                self._idle.append(connection)
            return reply

    async def _drop_idle(self) -> None:
        """Let the other connections go after one broke: they most likely lead to the same dead server."""
        stale, self._idle = self._idle, []
        for other in stale:
            await other.disconnect(nowait=True)

    async def _exchange(self, connection: AbstractConnection, call: Call[Any] | _Plain, seconds: float) -> Any:
        if self._closed:
            raise lost(self.address, "this client was closed")
        whole = False
        try:
            await self._connect(connection)
            async with asyncio.timeout(seconds):
                reply = await _ask(connection, call.words())
                if isinstance(reply, str) and reply.startswith("NOSCRIPT"):
                    reply = await _ask(connection, call.eval_words())
            whole = True
        except TimeoutError:
            raise too_late(self.address, seconds) from None
        except (RedisError, OSError) as error:
            raise lost(self.address, error) from None
        finally:
            if not whole:
                self.drops += 1
                await connection.disconnect(nowait=True)
        if isinstance(reply, str):
            await connection.disconnect(nowait=True)
            raise translate_error(reply, self.address.folder)
        return reply

    async def _connect(self, connection: AbstractConnection) -> None:
        if connection.is_connected:
            return
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]  # has no types
        except TimeoutError:
            raise lost(self.address, f"no connection within {self._connect_timeout:g} s") from None
        except RedisTimeoutError as error:
            raise lost(self.address, error) from None
        except RedisError as error:
            text = _error_text(error)
            raise refused(self.address, text) if text else lost(self.address, error) from None
        self.was_connected = True

    async def _subscribe(self, connection: AbstractConnection, channels: Sequence[str]) -> None:
        whole = False
        try:
            await self._connect(connection)
            async with asyncio.timeout(self._connect_timeout):
                await connection.send_command("SUBSCRIBE", *channels)
                for _ in channels:
                    await connection.read_response(disable_decoding=True)
            whole = True
        except (TimeoutError, RedisError, OSError) as error:
            raise lost(self.address, error) from None
        finally:
            if not whole:
                await connection.disconnect(nowait=True)

    async def _heard(self, connection: AbstractConnection) -> list[Any]:
        """The next frame of a subscription; a silent connection is pinged, so a half-open one is noticed."""
        for answered in (False, True):
            try:
                async with asyncio.timeout(LISTEN_PING):
                    frame: list[Any] = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
                    return frame
            except TimeoutError:
                if not answered:
                    await _guarded(connection.send_command("PING"), self.address)
            except (RedisError, OSError) as error:
                raise lost(self.address, error) from None
        raise too_late(self.address, LISTEN_PING)

    def _new_connection(self) -> AbstractConnection:
        address = self.address
        common: dict[str, Any] = {
            "db": address.db,
            "username": address.username or None,
            "password": address.password or None,
            "protocol": 2,
            # Time is bounded around the whole exchange: redis-py's own time-out would cut blocking calls, and its
            # wait_for costs a task for each command.
            "socket_timeout": None,
            "socket_connect_timeout": self._connect_timeout,
            "retry": Retry(NoBackoff(), 0),
            "driver_info": None,
        }
        if address.path:
            return UnixDomainSocketConnection(path=address.path, **common)
        common |= {"host": address.host, "port": address.port, "socket_keepalive": True}
        if not address.tls:
            return Connection(**common)
        return SSLConnection(
            ssl_ca_certs=address.ca_file or None,
            ssl_certfile=address.cert_file or None,
            ssl_keyfile=address.key_file or None,
            **common,
        )


class _Plain:
    """A plain command in the shape of a Call."""

    def __init__(self, command: Sequence[str | bytes | int]) -> None:
        self._command = command

    def words(self) -> Sequence[str | bytes | int]:
        return self._command

    eval_words = words


async def _ask(connection: AbstractConnection, words: Sequence[Any]) -> Any:
    """The reply; an error reply as its text (no other reply is ``str``, since nothing is decoded)."""
    await connection.send_command(*words)
    try:
        return await connection.read_response(disable_decoding=True)
    except (ResponseError, RedisConnectionError) as error:
        text = _error_text(error)
        if text is None:
            raise
        return text


def _error_text(error: RedisError) -> str | None:
    """The error reply as the server wrote it; None when *error* is no reply. redis-py takes known codes off."""
    code = getattr(error, "status_code", None)
    if code:
        return f"{code} {error}"
    return str(error) if isinstance(error, ResponseError) else None


async def _guarded(sending: Any, address: BrokerAddress) -> None:
    try:
        await sending
    except (RedisError, OSError) as error:
        raise lost(address, error) from None
