"""The private server: one for a context, safe in its folder, its data kept."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tqctl_runtime.broker import embedded
from tqctl_runtime.broker.address import BrokerAddress, embedded_socket
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import pairing
from tqctl_runtime.broker.locks import is_locked, locked
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.core.errors import BrokerUnavailable, ConfigError
from tqctl_runtime.core.settings import Settings

START = """
import sys
from pathlib import Path
from tqctl_runtime.broker import embedded
from tqctl_runtime.core.settings import Settings
settings = Settings(home=Path(sys.argv[1]))
embedded.ensure_started(settings)
print(embedded.server_pid(settings))
"""


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    given = Settings(home=tmp_path / "home")
    yield given
    embedded.shutdown(given)


def start_elsewhere(settings: Settings) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", START, str(settings.home)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def pids_of(starters: list[subprocess.Popen[str]]) -> list[str]:
    pids = []
    for starter in starters:
        said, errors = starter.communicate(timeout=60)
        assert starter.returncode == 0, errors
        pids.append(said.strip())
    return pids


def servers_of(settings: Settings) -> list[int]:
    """Process ids of every server that was started for this context, by the folder it runs in."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.joinpath("cwd").readlink() == embedded.folder(settings):
                found.append(int(process.name))
        except OSError:
            continue
    return found


@pytest.mark.slow  # twenty interpreters on two cores
def test_twenty_starts_at_once_give_one_server(settings: Settings) -> None:
    pids = pids_of([start_elsewhere(settings) for _ in range(20)])

    assert set(pids) == {str(embedded.server_pid(settings))}
    assert servers_of(settings) == [embedded.server_pid(settings)]


def test_data_outlives_a_killed_server(settings: Settings) -> None:
    with Wire(embedded.ensure_started(settings)) as wire:
        wire.command("SET", "kept", "yes")
        # While an earlier fsync is under way the server may hold a write back for up to two seconds.
        assert wire.command("WAITAOF", 1, 0, 10_000, within=15.0) == [1, 0]
    first = embedded.server_pid(settings)
    assert first is not None

    os.kill(first, signal.SIGKILL)
    pids = pids_of([start_elsewhere(settings) for _ in range(4)])

    assert len(set(pids)) == 1
    assert pids[0] != str(first)
    with Wire(BrokerAddress.of(settings)) as wire:
        assert wire.command("GET", "kept") == b"yes"


def test_the_starter_may_end_before_the_server(settings: Settings) -> None:
    pids = pids_of([start_elsewhere(settings)])

    assert embedded.is_running(settings)
    assert pids == [str(embedded.server_pid(settings))]


def test_looking_for_a_server_makes_nothing_on_disk(settings: Settings) -> None:
    assert embedded.find_running(settings) is None
    assert embedded.server_pid(settings) is None
    assert embedded.shutdown(settings) is False
    assert not settings.home.exists()


def test_nobody_else_can_read_what_the_server_writes(settings: Settings) -> None:
    address = embedded.ensure_started(settings)

    modes = {path: stat.S_IMODE(path.lstat().st_mode) for path in settings.context_home.rglob("*")}

    assert len(modes) > 5
    assert {path: oct(mode) for path, mode in modes.items() if mode & 0o077} == {}
    assert stat.S_ISSOCK(Path(address.path).stat().st_mode)


def test_the_server_is_set_up_to_lose_nothing(settings: Settings) -> None:
    with Wire(embedded.ensure_started(settings)) as wire:
        found = wire.command("CONFIG", "GET", "append*", "maxmemory-policy", "save", "port")

    options = dict(zip(found[::2], found[1::2], strict=True))
    assert options[b"appendonly"] == b"yes"
    assert options[b"appendfsync"] == b"everysec"
    assert options[b"maxmemory-policy"] == b"noeviction"
    assert options[b"save"] == b""
    assert options[b"port"] == b"0"


def test_a_folder_that_others_may_enter_is_refused(settings: Settings) -> None:
    settings.context_home.mkdir(parents=True)
    settings.context_home.chmod(0o755)

    with pytest.raises(ConfigError) as refused:
        embedded.ensure_started(settings)

    assert refused.value.hint == f"chmod 700 {settings.context_home}"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_owner_is_refused(settings: Settings) -> None:
    settings.context_home.mkdir(parents=True, mode=0o700)
    os.chown(settings.context_home, 12345, 12345)

    with pytest.raises(ConfigError, match="belongs to another user"):
        embedded.ensure_started(settings)


def test_a_path_too_long_for_a_socket_is_replaced_by_a_private_folder(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ("long" * 30))

    try:
        address = embedded.ensure_started(settings)

        assert len(os.fsencode(address.path)) <= 107
        assert stat.S_IMODE(Path(address.path).parent.stat().st_mode) == 0o700
        assert BrokerAddress.of(settings) == address
        assert embedded.find_running(settings) == address
    finally:
        embedded.shutdown(settings)


def test_a_long_path_uses_the_runtime_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    settings = Settings(home=tmp_path / ("long" * 30))

    assert embedded_socket(settings).startswith("/run/user/1/tqctl-")


def test_a_planted_socket_folder_is_refused(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / ("long" * 30))
    planted = Path(embedded_socket(settings)).parent
    planted.mkdir(mode=0o777)
    planted.chmod(0o777)

    try:
        with pytest.raises(ConfigError, match="others may enter"):
            embedded.ensure_started(settings)
    finally:
        planted.rmdir()


def test_a_brand_new_server_has_an_open_namespace(settings: Settings) -> None:
    with Wire(embedded.ensure_started(settings)) as wire:
        opened = wire.call(pairing(Keys(settings.namespace)))

    assert opened is not None
    assert opened[0] == 1


def test_an_empty_server_beside_a_record_stays_closed(settings: Settings) -> None:
    settings.context_home.mkdir(parents=True, mode=0o700)
    embedded.record_path(settings).touch()

    with Wire(embedded.ensure_started(settings)) as wire:
        assert wire.call(pairing(Keys(settings.namespace))) is None


def test_a_server_is_stopped_with_its_data_and_started_again(settings: Settings) -> None:
    with Wire(embedded.ensure_started(settings)) as wire:
        wire.command("SET", "kept", "yes")

    assert embedded.shutdown(settings) is True
    assert embedded.find_running(settings) is None
    assert not is_locked(embedded.folder(settings) / "alive.lock")
    with Wire(embedded.ensure_started(settings)) as wire:
        assert wire.command("GET", "kept") == b"yes"


def test_a_start_waits_until_the_stack_is_down(settings: Settings) -> None:
    embedded.ensure_started(settings)
    first = embedded.server_pid(settings)

    with ThreadPoolExecutor(1) as pool:
        with embedded.going_down(settings):
            later = pool.submit(embedded.ensure_started, settings)
            embedded.shutdown(settings)
            assert not embedded.is_running(settings)
            assert not later.done()
        later.result(timeout=30)

    assert embedded.server_pid(settings) not in {None, first}


def test_a_start_outlives_the_deletion_of_the_folder_it_waits_in(settings: Settings) -> None:
    embedded.ensure_started(settings)

    with ThreadPoolExecutor(1) as pool:
        with embedded.going_down(settings):
            later = pool.submit(embedded.ensure_started, settings)
            embedded.shutdown(settings)
            gone = settings.context_home.rename(settings.context_home.with_name("gone"))
            shutil.rmtree(gone)
        later.result(timeout=30)

    assert embedded.is_running(settings)
    assert servers_of(settings) == [embedded.server_pid(settings)]


def test_two_stops_at_once_are_refused(settings: Settings) -> None:
    embedded.ensure_started(settings)

    with (
        embedded.going_down(settings),
        pytest.raises(BrokerUnavailable, match="another tqctl down"),
        embedded.going_down(settings),
    ):
        pytest.fail("two at once")


def test_a_start_gives_up_when_another_one_hangs(settings: Settings) -> None:
    embedded.ensure_started(settings)
    embedded.shutdown(settings)

    with (
        locked(embedded.folder(settings) / "start.lock", within=1, what="this test"),
        pytest.raises(BrokerUnavailable, match="the start of the private server has taken more than"),
    ):
        embedded.ensure_started(settings, within=0.1)


def test_a_server_that_cannot_start_tells_its_own_words(settings: Settings) -> None:
    embedded.ensure_started(settings)
    embedded.shutdown(settings)
    manifest = embedded.folder(settings) / "appendonlydir" / "appendonly.aof.manifest"
    manifest.write_text("not a manifest\n")

    with pytest.raises(BrokerUnavailable, match="manifest"):
        embedded.ensure_started(settings)


def test_waiting_for_a_server_never_starts_one(settings: Settings) -> None:
    with pytest.raises(BrokerUnavailable, match="does not run"):
        embedded.wait_running(settings, within=0.2)
    assert not settings.home.exists()


def test_the_server_inherits_nothing_secret(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQCTL_DATABASE_URL", "postgresql://user:secret@host/db")
    embedded.ensure_started(settings)

    environ = Path(f"/proc/{embedded.server_pid(settings)}/environ").read_bytes()

    assert f"TQCTL_HOME={settings.home}".encode() in environ.split(b"\0")
    assert b"secret" not in environ
