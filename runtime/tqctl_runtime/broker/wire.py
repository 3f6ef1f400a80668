"""The blocking client: a socket and a reply parser, nothing that costs a shell command its start.

Imports stay cheap: no ``ssl``, no ``asyncio``, no redis-py. One request is in flight at a time; a request that did not
end with its whole reply closes the connection, so no later caller can read what is left of it.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import hiredis

from tqctl_runtime.broker.call import translate_error
from tqctl_runtime.core.errors import BrokerTimeout, BrokerUnavailable, ConfigError, NotOpen, TqctlError

if TYPE_CHECKING:
    from tqctl_runtime.broker.address import BrokerAddress
    from tqctl_runtime.broker.call import Call

R = TypeVar("R")

CONNECT_TIMEOUT = 5.0
#: How long :meth:`Wire.call_idempotent` goes on after a connection that worked was lost, in seconds.
PATIENCE = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5
_READ_SIZE = 65_536
_NOTHING = object()
_START_HINT = "is it running? for the private server: tqctl up --detach"


def lost(address: BrokerAddress, what: object) -> BrokerUnavailable:
    """The error for a connection that could not be made or broke."""
    return BrokerUnavailable(f"Redis at {address.display}: {what}", hint=_START_HINT)


def too_late(address: BrokerAddress, seconds: float) -> BrokerTimeout:
    """The error for a reply that did not come within *seconds*; what was asked may still happen."""
    return BrokerTimeout(
        f"Redis at {address.display} did not answer within {seconds:g} s",
        hint="it may be overloaded or unreachable: tqctl doctor",
    )


def refused(address: BrokerAddress, text: str) -> TqctlError:
    """The error for an error reply to the handshake."""
    if text.startswith(("WRONGPASS", "NOAUTH", "NOPERM", "ERR AUTH", "ERR Client sent AUTH", "ERR DB index")):
        return ConfigError(
            f"Redis at {address.display} refused us: {text}",
            hint="check user, password and database in TQCTL_REDIS_URL",
        )
    return translate_error(text, address.folder)


class _Connection:
    """A connected socket with its parser."""

    def __init__(self, address: BrokerAddress, seconds: float) -> None:
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._socket = _open(address, seconds)
        self._is_plain = not address.tls
        self._limit = 0.0
        try:
            if self._is_plain:
                self._socket.settimeout(None)
            self._greet(address, seconds)
        except BaseException:
            self._socket.close()
            raise

    def _greet(self, address: BrokerAddress, seconds: float) -> None:
        commands: list[tuple[Any, ...]] = []
        if address.password:
            user = (address.username,) if address.username else ()
            commands.append(("AUTH", *user, address.password))
        if address.db:
            commands.append(("SELECT", address.db))
        for command in commands:
            reply = self.exchange(_pack(command), 1, seconds)[0]
            if isinstance(reply, hiredis.ReplyError):
                raise refused(address, str(reply))

    def exchange(self, data: bytes, count: int, seconds: float) -> list[Any]:
        """Send *data* and read *count* replies."""
        self._set_limit(seconds)
        try:
            self._socket.sendall(data)
        except BlockingIOError:
            raise TimeoutError from None
        give_up = time.monotonic() + seconds
        return [self.read(give_up) for _ in range(count)]

    def read(self, give_up: float) -> Any:
        """The next reply; *give_up* is an instant of ``time.monotonic``, looked at between two pieces of it."""
        reply = self._reader.gets()
        while reply is _NOTHING:
            try:
                data = self._socket.recv(_READ_SIZE)
            except BlockingIOError:
                raise TimeoutError from None
            if not data:
                raise ConnectionError("it closed the connection")
            self._reader.feed(data)
            reply = self._reader.gets()
            if reply is _NOTHING and time.monotonic() > give_up:
                raise TimeoutError
        return reply

    def wait(self, seconds: float) -> Any:
        """The next reply that comes unasked within *seconds*."""
        self._set_limit(seconds)
        return self.read(time.monotonic() + seconds)

    def close(self) -> None:
        self._socket.close()

    def _set_limit(self, seconds: float) -> None:
        if seconds == self._limit:
            return
        self._limit = seconds
        if not self._is_plain:
            self._socket.settimeout(seconds)
            return
        # The kernel's own limits: Python's cost two more system calls for each request. A limit of 0 would be none.
        microseconds = max(1, round(seconds * 1e6))
        limit = struct.pack("ll", microseconds // 1_000_000, microseconds % 1_000_000)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


def _open(address: BrokerAddress, seconds: float) -> socket.socket:
    if address.path:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(seconds)
            sock.connect(address.path)
        except BaseException:
            sock.close()
            raise
        return sock
    sock = socket.create_connection((address.host, address.port), timeout=seconds)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return _encrypt(sock, address) if address.tls else sock
    except BaseException:
        sock.close()
        raise


def _encrypt(sock: socket.socket, address: BrokerAddress) -> socket.socket:
    import ssl  # only here: it costs a start 15 ms

    try:
        context = ssl.create_default_context(cafile=address.ca_file or None)
        if address.cert_file:
            context.load_cert_chain(address.cert_file, address.key_file or None)
    except OSError as error:
        raise ConfigError(f"the TLS files of the Redis URL cannot be used: {error}") from None
    return context.wrap_socket(sock, server_hostname=address.host)


def _pack(*commands: Sequence[Any]) -> bytes:
    return b"".join([hiredis.pack_command(tuple(command)) for command in commands])


class Wire:
    """A blocking connection to one broker, made at the first call. Threads may share it; they take turns.

    *waits_for_opening*: :meth:`call_idempotent` waits also for a namespace that is being repaired.
    """

    def __init__(
        self, address: BrokerAddress, *, connect_timeout: float = CONNECT_TIMEOUT, waits_for_opening: bool = True
    ) -> None:
        self.address = address
        #: How often a connection was given up: while it stays, the server is the one that it was.
        self.drops = 0
        #: Whether a connection was ever made: from then on a server that is not there is one that went away.
        self.was_connected = False
        self._waits_for_opening = waits_for_opening
        self._connect_timeout = connect_timeout
        self._connection: _Connection | None = None
        self._lock = threading.RLock()
        self._pid = os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, call: Call[R]) -> R:
        """The decoded reply of *call*, sent once.

        Raises:
            BrokerTimeout: no reply within ``call.timeout``; the call may have been carried out.
            BrokerUnavailable: no connection, or it broke; the call may have been carried out.
            TqctlError: what the error reply means.
        """
        self._after_fork()
        with self._lock:
            reply = self._round(_pack(call.words()), 1, call.timeout)[0]
            if _is_unknown_script(reply):
                reply = self._round(_pack(call.eval_words()), 1, call.timeout)[0]
        if isinstance(reply, hiredis.ReplyError):
            raise translate_error(str(reply), self.address.folder)
        return call.decode(reply)

    def call_idempotent(self, call: Call[R], *, patience: float = PATIENCE) -> R:
        """Like :meth:`call`, sent again on a new connection when it was lost, for *patience* seconds.

        Only for calls that the broker recognises when they come twice. A server that was not there at the first
        connect is told at once.
        """
        give_up = time.monotonic() + patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return self.call(call)
            except BrokerUnavailable as error:
                # A loop of its own: tenacity costs a shell command's start more than the call itself.
                absent = not self.was_connected and not isinstance(error, BrokerTimeout)
                absent = absent or (isinstance(error, NotOpen) and not self._waits_for_opening)
                if absent or time.monotonic() + pause > give_up:
                    raise
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def command(self, *words: str | bytes | int, within: float = CONNECT_TIMEOUT) -> Any:
        """The raw reply of a plain command such as ``PING`` or ``INFO``; errors as :meth:`call` raises them."""
        self._after_fork()
        with self._lock:
            reply = self._round(_pack(words), 1, within)[0]
        if isinstance(reply, hiredis.ReplyError):
            raise translate_error(str(reply), self.address.folder)
        return reply

    def subscribe(self, *channels: str) -> Subscription:
        """Listen to *channels* on a connection of its own; it returns once the server confirmed.

        Raises:
            BrokerUnavailable: no connection.
        """
        try:
            connection = _Connection(self.address, self._connect_timeout)
        except OSError as error:
            raise lost(self.address, getattr(error, "strerror", None) or error) from None
        self.was_connected = True
        return Subscription(connection, self.address, channels, self._connect_timeout)

    def close(self) -> None:
        """Close the connection; the next call makes a new one."""
        connection, self._connection = self._connection, None
        self.drops += 1
        if connection is not None:
            connection.close()

    def _round(self, data: bytes, count: int, timeout: float) -> list[Any]:
        try:
            return (self._connection or self._connect()).exchange(data, count, timeout)
        except TimeoutError:
            self.close()
            raise too_late(self.address, timeout) from None
        except (OSError, hiredis.HiredisError) as error:
            self.close()
            raise lost(self.address, getattr(error, "strerror", None) or error) from None
        except BaseException:
            # Ctrl-C between request and reply: what is left of the reply must not answer the next request.
            self.close()
            raise

    def _connect(self) -> _Connection:
        try:
            connection = _Connection(self.address, self._connect_timeout)
        except TimeoutError:
            raise lost(self.address, f"no connection within {self._connect_timeout:g} s") from None
        self._connection = connection
        self.was_connected = True
        return connection

    def _after_fork(self) -> None:
        if self._pid != os.getpid():
            # The parent still uses the socket, and its lock may be held by a thread that is not here.
            self._pid = os.getpid()
            self._lock = threading.RLock()
            self.close()


class Subscription:
    """A connection that listens. Use as a context manager; not shared between threads."""

    def __init__(
        self, connection: _Connection, address: BrokerAddress, channels: Sequence[str], seconds: float
    ) -> None:
        self._address = address
        self._connection = connection
        try:
            subscribe = _pack(("SUBSCRIBE", *channels))
            for reply in self._connection.exchange(subscribe, len(channels), seconds):
                if isinstance(reply, hiredis.ReplyError):
                    raise translate_error(str(reply), address.folder)
        except OSError as error:
            self._connection.close()
            raise lost(address, getattr(error, "strerror", None) or error) from None
        except BaseException:
            self._connection.close()
            raise

    def wait(self, timeout: float) -> tuple[str, bytes] | None:
        """The next (channel, message); None when *timeout* seconds passed without one.

        Raises:
            BrokerUnavailable: the connection broke; messages may have been missed.
        """
        give_up = time.monotonic() + timeout
        try:
            while True:
                kind, channel, message = self._connection.wait(max(0.0, give_up - time.monotonic()))
                if kind == b"message":
                    return channel.decode(), message
        except TimeoutError:
            return None
        except (OSError, hiredis.HiredisError) as error:
            self._connection.close()
            raise lost(self._address, getattr(error, "strerror", None) or error) from None

    def close(self) -> None:
        """Stop listening."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_unknown_script(reply: Any) -> bool:
    return isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT")
