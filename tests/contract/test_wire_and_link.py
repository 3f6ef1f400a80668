"""Both clients against both servers: the same calls, the same errors, never a reply that belongs to another call."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.link_side import KEY, AsyncioWire, plain, script, unseen_script
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import BrokerTimeout, BrokerUnavailable, ConfigError, TqctlError

TLS = Path(__file__).parent / "tls"


@pytest.fixture(params=["wire", "link"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    clients: list[Wire | AsyncioWire] = []
    kind = Wire if request.param == "wire" else AsyncioWire

    def make(url: str, **options: Any) -> Wire | AsyncioWire:
        clients.append(kind(BrokerAddress.parse(url), **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def test_replies_come_back_undecoded(connect: Callable[..., Any], broker_address_url: str) -> None:
    client = connect(broker_address_url)

    assert client.call(plain("PING")) == b"PONG"
    assert client.call(plain("ECHO", b"\x00\xff")) == b"\x00\xff"
    assert client.call(plain("ECHO", 7)) == b"7"
    assert client.call(script("return {1, 'a', false, {2}}")) == [1, b"a", None, [2]]


def test_a_script_that_the_server_does_not_know_is_sent_whole(
    connect: Callable[..., Any], broker_address_url: str
) -> None:
    client = connect(broker_address_url)
    call = unseen_script("hello")

    assert client.call(call) == b"hello"
    assert client.call(call) == b"hello"


def test_an_error_reply_becomes_our_error_and_the_connection_stays_usable(
    connect: Callable[..., Any], broker_address_url: str
) -> None:
    client = connect(broker_address_url)

    with pytest.raises(TqctlError, match="unknown command"):
        client.call(plain("NOSUCHCOMMAND"))
    with pytest.raises(BrokerUnavailable, match="not open"):
        client.call(script("return redis.error_reply('NOEPOCH')"))
    assert client.call(plain("PING")) == b"PONG"


def test_a_call_without_an_answer_times_out_and_its_late_reply_is_never_read(
    connect: Callable[..., Any], broker_address_url: str
) -> None:
    with Proxy(broker_address_url) as proxy:
        client = connect(proxy.url)
        client.call(plain("PING"))
        proxy.pause("down")
        with pytest.raises(BrokerTimeout):
            client.call(plain("ECHO", "late", timeout=0.2))
        proxy.resume()

        assert client.call(plain("ECHO", "mine")) == b"mine"


def test_a_call_over_a_lost_connection_is_told_and_the_next_one_connects_again(
    connect: Callable[..., Any], broker_address_url: str
) -> None:
    with Proxy(broker_address_url) as proxy:
        client = connect(proxy.url)
        client.call(plain("PING"))
        proxy.cut()

        with pytest.raises(BrokerUnavailable):
            client.call(plain("PING"))
        assert client.call(plain("PING")) == b"PONG"


def test_an_idempotent_call_outlives_a_lost_connection(connect: Callable[..., Any], broker_address_url: str) -> None:
    with Proxy(broker_address_url) as proxy:
        client = connect(proxy.url)
        client.call(plain("PING"))
        proxy.cut()

        assert client.call_idempotent(plain("PING")) == b"PONG"


def test_an_idempotent_call_gives_up_after_its_patience(connect: Callable[..., Any], broker_address_url: str) -> None:
    with Proxy(broker_address_url) as proxy:
        client = connect(proxy.url)
        client.call(plain("PING"))
        proxy.refuse()

        with pytest.raises(BrokerUnavailable):
            client.call_idempotent(plain("PING"), patience=0.3)


def test_a_command_is_sent_once_when_the_connection_breaks_before_the_reply(
    connect: Callable[..., Any], own_redis: RedisServer
) -> None:
    with Proxy(own_redis.url) as proxy, own_redis.client() as control:
        client = connect(proxy.url)
        client.call(plain("PING"))
        proxy.pause("down")
        with pytest.raises(BrokerTimeout):
            client.call(plain("INCR", KEY, timeout=0.2))

        assert int(str(control.get(KEY), "ascii")) == 1


def test_an_absent_server_is_unavailable_with_a_hint(connect: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = connect(f"redis://user:secret@127.0.0.1:{port}/0")

    with pytest.raises(BrokerUnavailable) as told:
        client.call(plain("PING"))

    assert told.value.hint
    assert f"redis://127.0.0.1:{port}/0" in told.value.message
    assert "secret" not in told.value.message


def test_a_server_that_accepts_and_says_nothing_times_out(connect: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(f"redis://127.0.0.1:{silent.getsockname()[1]}/3", connect_timeout=0.2)

        with pytest.raises(BrokerUnavailable):
            client.call(plain("PING", timeout=0.2))


def test_password_user_and_database_of_the_url_are_used(connect: Callable[..., Any], own_redis: RedisServer) -> None:
    host = own_redis.url.removeprefix("redis://").removesuffix("/0")
    with own_redis.client() as control:
        control.execute_command("ACL", "SETUSER", "bob", "on", ">s@cret", "~*", "&*", "+@all")
        control.config_set("requirepass", "default-secret")

    assert connect(f"redis://bob:s%40cret@{host}/5").call(plain("ACL", "WHOAMI")) == b"bob"
    assert b"db=5" in connect(f"redis://bob:s%40cret@{host}/5").call(plain("CLIENT", "INFO"))
    assert connect(f"redis://:default-secret@{host}").call(plain("ACL", "WHOAMI")) == b"default"
    for wrong in (f"redis://bob:wrong@{host}/0", f"redis://:default-secret@{host}/99"):
        with pytest.raises(ConfigError) as refused:
            connect(wrong).call(plain("PING"))
        assert "wrong@" not in refused.value.message


def test_a_unix_socket_works_alike(connect: Callable[..., Any], valkey: RedisServer) -> None:
    client = connect(f"{valkey.socket_url}?db=2")

    assert b"db=2" in client.call(plain("CLIENT", "INFO"))


def test_tls_is_verified(connect: Callable[..., Any], valkey: RedisServer) -> None:
    with tls_in_front_of(valkey) as port:
        trusting = f"rediss://localhost:{port}/0?ssl_ca_certs={TLS / 'localhost.pem'}"

        assert connect(trusting).call(plain("PING")) == b"PONG"
        with pytest.raises(BrokerUnavailable, match="certificate"):
            connect(f"rediss://localhost:{port}/0").call(plain("PING"))


@contextmanager
def tls_in_front_of(server: RedisServer) -> Iterator[int]:
    """A TLS port that passes each connection on to *server*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "localhost.pem", TLS / "localhost.key")
    behind = ("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def forward(raw: socket.socket) -> None:
        with (
            raw,
            contextlib.suppress(OSError),
            context.wrap_socket(raw, server_side=True) as near,
            socket.create_connection(behind) as far,
        ):
            back = threading.Thread(target=pump, args=(far, near))
            back.start()
            pump(near, far)
            back.join()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=forward, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_a_subscription_hears_and_stays_silent_without_a_message(broker_address_url: str) -> None:
    address = BrokerAddress.parse(broker_address_url)
    with Wire(address) as wire, wire.subscribe("{tq:wire-and-link}:one", "{tq:wire-and-link}:two") as heard:
        assert heard.wait(0.05) is None
        wire.command("PUBLISH", "{tq:wire-and-link}:two", b"\x01payload")

        assert heard.wait(5) == ("{tq:wire-and-link}:two", b"\x01payload")


def test_a_broken_subscription_is_told(broker_address_url: str) -> None:
    with Proxy(broker_address_url) as proxy, Wire(BrokerAddress.parse(proxy.url)).subscribe(KEY) as heard:
        proxy.cut()

        with pytest.raises(BrokerUnavailable):
            heard.wait(5)


def test_threads_share_a_wire_without_mixing_replies(broker_address_url: str) -> None:
    wrong: list[object] = []
    with Wire(BrokerAddress.parse(broker_address_url)) as wire:

        def ask(name: str) -> None:
            for number in range(200):
                word = f"{name}-{number}"
                if wire.command("ECHO", word) != word.encode():
                    wrong.append(word)

        threads = [threading.Thread(target=ask, args=(f"thread-{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    assert wrong == []


def test_a_forked_child_makes_a_connection_of_its_own(valkey: RedisServer) -> None:
    with Wire(BrokerAddress.parse(valkey.url)) as wire:
        mine = wire.command("CLIENT", "ID")
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, b"%d" % wire.command("CLIENT", "ID"))
            os._exit(0)
        os.waitpid(child, 0)
        theirs = int(os.read(reader, 64))
        os.close(reader)
        os.close(writer)

        assert theirs != mine
        assert wire.command("CLIENT", "ID") == mine


def test_the_wire_loads_nothing_that_a_shell_command_would_feel() -> None:
    code = "import sys, tqctl_runtime.broker.wire; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert {"ssl", "asyncio", "redis", "tenacity", "hashlib", "subprocess", "logging"} & set(loaded) == set()
