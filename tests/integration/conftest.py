"""Fixtures of the recorder and of repair."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.integration.recorder_stage import Stage
from tests.support.environment import Environment
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator import recorder as recorder_module
from tqctl_runtime.coordinator.opening import open_namespace
from tqctl_runtime.record import open_store


@pytest.fixture
def stage(pair: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """An open pair, with recorders that do not wait for entries."""
    monkeypatch.setattr(recorder_module, "_BLOCK_SECONDS", 0.01)
    settings = pair.settings()
    client = redis.Redis.from_url(str(pair.redis_url), protocol=2)
    with open_store(settings) as store, Wire(BrokerAddress.of(settings)) as wire, client:
        keys = Keys(settings.namespace)
        open_namespace(store, wire, keys)
        ready = Stage(settings, keys, wire, store, client)
        with ready.closing:
            yield ready
