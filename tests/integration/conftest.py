"""Fixtures of the recorder and of repair."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from tests.integration.recorder_stage import Stage
from tests.support.environment import Environment
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.coordinator import recorder as recorder_module
from tqctl_runtime.coordinator.opening import open_namespace
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record import open_store


@pytest.fixture
def other_record(stage: Stage, tmp_path: Path) -> Settings:
    """The set-up with the record of another pair."""
    settings = replace(stage.settings, database_url=f"sqlite:///{tmp_path}/other.db")
    with open_store(settings) as store:
        store.prepare()
        store.pair("par_other", 1, "redis://elsewhere:6379/0")
    return settings


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
