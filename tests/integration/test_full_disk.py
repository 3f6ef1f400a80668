"""The private server on a disk that is full: it says so, what only reads is answered, and it goes on by itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.disk import fill, small_file_system
from tests.support.environment import Environment
from tests.support.servers import MissingServerError
from tests.support.wait import wait_until
from tqctl_runtime.broker.call import translate_error
from tqctl_runtime.core.errors import BrokerCannotWrite

SUBMIT = ("submit", "echo", "-p", "message=hi", "--unchecked", "--durability", "accepted", "-q")
AOF = "MISCONF Errors writing to the AOF file: "


@pytest.fixture
def on_small_disk(embedded: Environment) -> Iterator[Environment]:
    """The embedded set-up, all of it on a file system of 24 MB."""
    try:
        with small_file_system(embedded.home / "disk", 24) as disk:
            ready = Environment("embedded", disk)
            yield ready
            ready.kill_all()
    except MissingServerError as error:
        pytest.skip(f"not run, missing: {error}")


def refused(env: Environment) -> subprocess.CompletedProcess[str] | None:
    """What a submit says as soon as one is not taken: the last page of the server's file has some room at first."""
    said = env.run(*SUBMIT)
    return said if said.returncode else None


@pytest.mark.root
def test_a_full_disk_is_named_and_all_goes_on_when_there_is_room(on_small_disk: Environment) -> None:
    env = on_small_disk
    home = env.home / "tqctl" / "default"
    assert env.run(*SUBMIT).returncode == 0
    filler = fill(env.home)

    said = wait_until(lambda: refused(env), "a submit is refused", interval=0.2)
    assert said is not None
    status, doctor, queues = env.run("status"), env.run("doctor", "-o", "json"), env.run("queue", "list")

    told = f"the private server cannot write its disk: {home} is full (0 MB free)"
    assert (said.returncode, said.stderr) == (
        75,
        f"error: nothing of this call was queued: {told}\nhint: df -h {home}\n",
    )
    assert status.returncode == 69
    assert f"error: {told}\nhint: df -h {home}\n" in status.stderr
    of_broker = [row for row in json.loads(doctor.stdout) if row["check"] == "broker"]
    assert {"level": "problem", "message": told, "hint": f"df -h {home}"}.items() <= of_broker[0].items()
    assert (queues.returncode, "from the record alone" in queues.stderr) == (0, False)

    filler.unlink()
    wait_until(lambda: env.run(*SUBMIT).returncode == 0, "a submit is taken again", interval=0.2)


@pytest.mark.root
def test_a_server_that_finds_no_room_to_start_is_no_bug(on_small_disk: Environment) -> None:
    fill(on_small_disk.home)

    said = on_small_disk.run(*SUBMIT)

    assert said.returncode in (69, 78)
    assert "No space left on device" in said.stderr
    assert "this is a bug" not in said.stderr


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (f"{AOF}No space left on device", "Redis cannot write its disk: No space left on device"),
        ("MISCONF Redis is configured to save RDB snapshots", "Redis cannot write its disk"),
    ],
)
def test_a_redis_elsewhere_that_cannot_write_says_why(reply: str, said: str) -> None:
    error = translate_error(reply)

    assert type(error) is BrokerCannotWrite
    assert error.message == said
    assert "make room" in str(error.hint)
