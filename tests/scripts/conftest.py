"""An open namespace on each of the two servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.scripts.rig import Rig


@pytest.fixture
def rig(broker_address_url: str, namespace: str) -> Iterator[Rig]:
    """A rig on Valkey, then on Redis 7; its keys are checked for leaks and removed afterwards."""
    with redis.Redis.from_url(broker_address_url, protocol=2, socket_timeout=10) as client:
        yield Rig(client, namespace)
