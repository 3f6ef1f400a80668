"""What the tests of clients and of the Inspector begin with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from tests.contract.client_side import AsyncFace, Face, Side, SyncFace, side_of
from tests.support.environment import Environment
from tqctl_runtime.core.settings import Settings


@pytest.fixture
def side(pair: Environment) -> Iterator[Side]:
    with side_of(pair) as ready:
        yield ready


@pytest.fixture(params=[SyncFace, AsyncFace], ids=["sync", "async"])
def make_face(request: pytest.FixtureRequest) -> Iterator[Callable[[Settings], Face]]:
    made: list[Face] = []

    def make(settings: Settings) -> Face:
        made.append(request.param(settings))
        return made[-1]

    yield make
    for face in made:
        face.close()


@pytest.fixture
def client(side: Side, make_face: Callable[[Settings], Face]) -> Face:
    return make_face(side.settings)


@pytest.fixture
def background() -> Iterator[Callable[..., Future[Any]]]:
    with ThreadPoolExecutor(4) as pool:
        yield pool.submit
