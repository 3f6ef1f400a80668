"""What only the asyncio client has: cancelled calls, many callers at once, blocking calls, listeners."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.link_side import KEY, plain
from tests.support.proxy import Proxy
from tests.support.wait import wait_until
from tqctl_runtime.broker import link as link_module
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.link import Link
from tqctl_runtime.core.errors import BrokerUnavailable


def test_a_cancelled_call_leaves_no_reply_behind(broker_address_url: str) -> None:
    async def scenario() -> None:
        with Proxy(broker_address_url) as proxy:
            async with Link(BrokerAddress.parse(proxy.url)) as link:
                await link.call(plain("PING"))
                proxy.pause("down")
                asked = asyncio.create_task(link.call(plain("ECHO", "cancelled")))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
                proxy.resume()

                for number in range(20):
                    assert await link.call(plain("ECHO", number)) == str(number).encode()

    asyncio.run(scenario())


def test_many_tasks_share_a_link_without_mixing_replies(broker_address_url: str) -> None:
    async def scenario() -> None:
        async with Link(BrokerAddress.parse(broker_address_url)) as link:

            async def ask(number: int) -> bytes:
                return bytes(await link.call(plain("ECHO", number)))

            answers = await asyncio.gather(*[ask(number) for number in range(300)])
            assert answers == [str(number).encode() for number in range(300)]

    asyncio.run(scenario())


def test_a_blocking_call_may_wait_longer_than_any_other_and_holds_nobody_up(broker_address_url: str) -> None:
    async def scenario() -> None:
        async with Link(BrokerAddress.parse(broker_address_url)) as link:
            bell = "{tq:wire-and-link}:bell"
            waiting = asyncio.create_task(link.blocking(plain("BLPOP", bell, 20, timeout=0.01), 20))
            assert await link.call(plain("PING")) == b"PONG"
            await link.call(plain("RPUSH", bell, "ding"))

            assert await waiting == [bell.encode(), b"ding"]

    asyncio.run(scenario())


def test_a_listener_connects_again_after_a_cut(broker_address_url: str) -> None:
    async def scenario() -> None:
        channel = "{tq:wire-and-link}:heard"
        with Proxy(broker_address_url) as proxy:
            async with Link(BrokerAddress.parse(proxy.url)) as link:
                ready = asyncio.Event()
                heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

                async def listen() -> None:
                    async for message in link.listen(channel, ready=ready):
                        await heard.put(message)

                listening = asyncio.create_task(listen())
                await ready.wait()
                await link.command("PUBLISH", channel, "before")
                assert await asyncio.wait_for(heard.get(), 10) == (channel, b"before")

                proxy.cut()
                ready.clear()
                await ready.wait()
                await link.call_idempotent(plain("PUBLISH", channel, "after"))

                assert await asyncio.wait_for(heard.get(), 10) == (channel, b"after")
                listening.cancel()

    asyncio.run(scenario())


def test_a_listener_on_a_half_open_link_notices_and_connects_again(
    broker_address_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_module, "LISTEN_PING", 0.1)

    async def scenario() -> None:
        channel = "{tq:wire-and-link}:half-open"
        with Proxy(broker_address_url) as proxy:
            address = BrokerAddress.parse(proxy.url)
            async with Link(address) as link, Link(BrokerAddress.parse(broker_address_url)) as other:
                ready = asyncio.Event()
                heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

                async def listen() -> None:
                    async for message in link.listen(channel, ready=ready):
                        await heard.put(message)

                listening = asyncio.create_task(listen())
                await ready.wait()
                ready.clear()
                proxy.pause()
                await asyncio.to_thread(wait_until, lambda: proxy.accepted > 1, "a second connection is tried")
                proxy.resume()
                await ready.wait()
                await other.command("PUBLISH", channel, "after")

                assert await asyncio.wait_for(heard.get(), 10) == (channel, b"after")
                listening.cancel()

    asyncio.run(scenario())


def test_a_closed_link_refuses_calls(broker_address_url: str) -> None:
    async def scenario() -> None:
        link = Link(BrokerAddress.parse(broker_address_url))
        await link.call(plain("PING"))
        await link.aclose()
        with pytest.raises(BrokerUnavailable, match="closed"):
            await link.call_idempotent(plain("PING"))

    asyncio.run(scenario())


def test_the_link_sends_nothing_twice_by_itself() -> None:
    async def scenario() -> None:
        received: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            received.append(await reader.read(4096))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, Link(BrokerAddress.parse(f"redis://127.0.0.1:{port}")) as link:
            with pytest.raises(BrokerUnavailable):
                await link.call(plain("INCR", KEY))

        assert len(received) == 1
        assert received[0].count(b"INCR") == 1

    asyncio.run(scenario())
