"""Addresses of the broker: what a URL may say, and that its password is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.core.errors import ConfigError
from tqctl_runtime.core.settings import Settings

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://", BrokerAddress(host="localhost")),
        ("redis://host", BrokerAddress(host="host")),
        ("valkey://host:7000/3", BrokerAddress(host="host", port=7000, db=3)),
        ("redis://host?db=4", BrokerAddress(host="host", db=4)),
        ("redis://[::1]:7000", BrokerAddress(host="::1", port=7000)),
        ("redis://:p%40ss@host", BrokerAddress(host="host", password="p@ss")),
        ("redis://user:pass@host/1", BrokerAddress(host="host", db=1, username="user", password="pass")),
        ("unix:///run/redis.sock", BrokerAddress(path="/run/redis.sock")),
        ("unix://user:pass@/a%20b?db=2", BrokerAddress(path="/a b", db=2, username="user", password="pass")),
        ("rediss://host/1", BrokerAddress(host="host", db=1, tls=True)),
        (
            "rediss://host?ssl_ca_certs=/ca&ssl_certfile=/cert&ssl_keyfile=/key",
            BrokerAddress(host="host", tls=True, ca_file="/ca", cert_file="/cert", key_file="/key"),
        ),
    ],
)
def test_every_part_of_a_url_is_read(url: str, expected: BrokerAddress) -> None:
    assert BrokerAddress.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        f"http://:{SECRET}@host",
        f"redis://:{SECRET}@host/nine",
        f"redis://:{SECRET}@host:port",
        f"redis://:{SECRET}@host?ssl_ca_certs=/ca",
        f"redis://:{SECRET}@host?retries=3",
        f"rediss://:{SECRET}@host?ssl_cert_reqs=none",
        f"unix://:{SECRET}@host/path",
        "unix://",
        "unix:///" + "x" * 107,
        "host:6379",
    ],
)
def test_a_url_that_is_not_understood_whole_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        BrokerAddress.parse(url)

    assert SECRET not in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize("url", [f"redis://user:{SECRET}@host/1", f"unix://user:{SECRET}@/path?db=1"])
def test_no_text_form_of_an_address_shows_its_password(url: str) -> None:
    address = BrokerAddress.parse(url)

    assert address.password == SECRET
    assert SECRET not in f"{address} {address!r} {address.display}"
    assert "user" not in address.display


@pytest.mark.parametrize("url", ["redis://host:7000/3", "rediss://[::1]:6379/0", "unix:///run/redis.sock?db=2"])
def test_the_display_form_is_a_url_of_the_same_address(url: str) -> None:
    assert BrokerAddress.parse(BrokerAddress.parse(url).display) == BrokerAddress.parse(url)


def test_without_a_url_the_private_socket_lies_in_the_context(tmp_path: Path) -> None:
    settings = Settings(home=Path("/srv/tq"), context="prod")

    assert BrokerAddress.of(settings) == BrokerAddress(path="/srv/tq/prod/valkey/valkey.sock")


def test_a_published_socket_goes_before_the_expected_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    (tmp_path / "default" / "valkey").mkdir(parents=True)
    (tmp_path / "default" / "valkey" / "address").write_text("/run/elsewhere.sock")

    assert BrokerAddress.of(settings) == BrokerAddress(path="/run/elsewhere.sock")


@pytest.mark.parametrize("url", ["redis://:a@more@127.0.0.1:6379/0", "redis://:12/more@host", "unix://:a@more@/x.sock"])
def test_an_unescaped_mark_in_a_password_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        BrokerAddress.parse(url)
    assert "more" not in caught.value.message
    assert "%40" in (caught.value.hint or "")
