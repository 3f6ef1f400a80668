"""The state machine against both servers."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.property.machine import ProtocolMachine

#: With the profile's 100 examples: each step is compared whole, so that the number of steps is what takes time.
_STEPS = 30


@pytest.mark.slow  # 3,000 steps, each with a reading of the whole namespace
@pytest.mark.timeout(1500)  # a thousand stories on a busy machine; or a failure, whose shortest story is looked for
@pytest.mark.parametrize("server", ["valkey", "redis7"])
def test_the_scripts_do_what_the_model_does(server: str, request: pytest.FixtureRequest) -> None:
    class Machine(ProtocolMachine):
        url = request.getfixturevalue(server).url

    run_state_machine_as_test(Machine, settings=settings(stateful_step_count=_STEPS))
