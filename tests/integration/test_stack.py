"""``up``, ``down`` and ``status``: everything starts ready, comes back when it dies, and ends whole."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.support.environment import Environment
from tests.support.servers import RedisServer, new_namespace
from tests.support.wait import wait_until
from tqctl_runtime import stack
from tqctl_runtime.broker import embedded as private_server
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.calls import submit
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.views import look
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.client import Client
from tqctl_runtime.core.errors import BrokerUnavailable, ConfigError, Conflict, NotFound, Unavailable, UsageError
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.states import State
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.doctor import run_checks
from tqctl_runtime.observe.probe import read
from tqctl_runtime.observe.registry import ProcessInfo
from tqctl_runtime.record import Store, open_store

FOREGROUND = "import sys; from tqctl_runtime import config, stack; sys.exit(stack.up(config.load_settings()))"


@pytest.fixture
def home(embedded: Environment, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """The embedded default; processes that this test starts carry its home, so that they are found at the end."""
    monkeypatch.setenv("TQCTL_HOME", str(embedded.home / "tqctl"))
    monkeypatch.chdir(embedded.home)
    return embedded


def by_name(settings: Settings) -> dict[str, ProcessInfo]:
    return {info.name: info for info in stack.status(settings).processes}


def is_ready(settings: Settings, name: str, *, other_than: int) -> bool:
    found = by_name(settings).get(name)
    return found is not None and found.state == "ready" and found.pid != other_than


def is_stopped(settings: Settings, name: str) -> bool:
    found = by_name(settings).get(name)
    return found is not None and found.state == "stopped"


def submit_one(settings: Settings, handler: str, **payload: object) -> str:
    with Wire(BrokerAddress.of(settings)) as wire:
        wanted = build_submission(handler, payload)
        return wire.call(submit(Keys(settings.namespace), [wanted])).accepted[0].id


def has_started(settings: Settings, task_id: str) -> bool:
    with Wire(BrokerAddress.of(settings)) as wire:
        live = wire.call(look(Keys(settings.namespace), [task_id]))[0]
    return live is not None and live.state is State.RUNNING


def state_in_record(settings: Settings, task_id: str) -> str | None:
    with open_store(settings, read_only=True) as store:
        rows = store.database.rows("SELECT state FROM tasks WHERE id = ?", (task_id,))
    return rows[0][0] if rows else None


def test_detached_up_returns_with_everything_ready_and_down_leaves_nothing(home: Environment) -> None:
    settings = home.settings(workers=2)

    started = stack.up_detached(settings)

    assert {(info.name, info.state) for info in started} == {
        ("up", "ready"),
        ("coordinator", "ready"),
        ("worker-1", "ready"),
        ("worker-2", "ready"),
    }
    seen = stack.status(settings)
    assert seen.broker is not None
    assert seen.broker.is_private
    assert [info.role for info in seen.processes] == ["broker", "up", "coordinator", "worker", "worker"]
    assert seen.overview is not None
    assert sorted(worker.info["name"] for worker in seen.overview.workers) == ["worker-1", "worker-2"]
    assert seen.overview.leaders["coordinator"].until > seen.overview.now

    stopped = stack.down(settings)

    assert len(stopped.processes) == 4
    assert (stopped.killed, stopped.broker) == ([], True)
    assert home.processes() == []
    assert stack.down(settings) == stack.Stopped()


def test_a_second_up_is_refused_and_tells_what_runs(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)

    for again in (stack.up_detached, stack.up):
        with pytest.raises(Conflict, match=r"up \(pid \d+, ready\), coordinator .*, worker-1"):
            again(settings)
    assert by_name(settings)["worker-1"].state == "ready"
    stack.down(settings)


def restarted(store: Store) -> set[str]:
    return {event.subject for event in store.health.events() if event.kind == "restart"}


@pytest.mark.slow  # a coordinator, a worker and the server are each started again after a pause
def test_what_is_killed_comes_back(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)
    before = by_name(settings)

    for name in ("worker-1", "coordinator", "valkey"):
        os.kill(before[name].pid, signal.SIGKILL)

    for name in ("valkey", "worker-1", "coordinator"):
        wait_until(
            lambda name=name: is_ready(settings, name, other_than=before[name].pid),  # type: ignore[misc]
            f"{name} runs again",
            ignore=(Unavailable,),
        )
    assert by_name(settings)["up"].pid == before["up"].pid
    with open_store(settings, read_only=True) as store:
        wait_until(
            lambda: restarted(store) == {"worker-1", "coordinator", "broker"}, "what was started again is recorded"
        )
    stack.down(settings)


def test_a_child_that_somebody_stopped_stays_stopped_and_is_told_with_the_way_back(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)
    before = by_name(settings)
    log = settings.context_home / "logs" / "up.log"

    for name in ("coordinator", "worker-1"):
        os.kill(before[name].pid, signal.SIGTERM)
        wait_until(partial(is_stopped, settings, name), f"{name} is shown as stopped")

    assert {name: info.pid for name, info in by_name(settings).items()} == {n: i.pid for n, i in before.items()}
    said = home.run("status")
    assert said.returncode == 69
    assert "error: coordinator was stopped by hand and stays stopped" in said.stderr
    assert "stopped by hand, and stays so: coordinator, worker-1; back: tqctl down && tqctl up --detach" in said.stderr
    warnings = [line for line in log.read_text().splitlines() if "stays stopped" in line]
    assert [("warning" in line, "tqctl down && tqctl up --detach" in line) for line in warnings] == [(True, True)] * 2
    found = {f.check: f.hint for f in run_checks(settings) if f.check in {"coordinator", "workers"}}
    assert found == dict.fromkeys(("coordinator", "workers"), "tqctl down && tqctl up --detach")

    stopped = stack.down(settings)
    assert [info.name for info in stopped.processes] == ["up"]
    assert sorted(info.name for info in stack.up_detached(settings)) == ["coordinator", "up", "worker-1"]
    assert {info.state for info in by_name(settings).values()} == {"ready"}
    stack.down(settings)


def test_a_hang_up_of_a_detached_stack_brings_edited_code_and_loses_nothing(home: Environment) -> None:
    app = home.home / "edited.py"
    text = "from tqctl import handler\nimport time\n\n@handler\ndef told(seconds: float = 0) -> str:\n"
    app.write_text(f"{text}    time.sleep(seconds)\n    return 'before'\n")
    settings = home.settings(app=(str(app),), workers=2, concurrency=2)
    stack.up_detached(settings)
    with Client(settings) as client:
        assert client.wait(client.submit("told"), timeout=30) == "before"
        workers = {name: info.pid for name, info in by_name(settings).items() if info.role == "worker"}
        running = client.submit("told", {"seconds": 2})
        wait_until(lambda: has_started(settings, running), "the long task runs")
        waiting = client.submit_many(("told", {"seconds": 0.01}) for _ in range(50))
        app.write_text(f"{text}    return 'after'\n")

        os.kill(by_name(settings)["up"].pid, signal.SIGHUP)

        def answers_anew() -> bool:
            return set(client.wait([client.submit("told") for _ in range(8)], timeout=30)) == {"after"}

        wait_until(answers_anew, "every worker runs the edited code")
        assert client.wait(running, timeout=30) == "before"
        assert set(client.wait(waiting, timeout=30)) <= {"before", "after"}
    assert {name: info.pid for name, info in by_name(settings).items() if info.role == "worker"} == workers
    stack.down(settings)
    with open_store(settings, read_only=True) as store:
        ends = set(store.database.rows("SELECT state, failures, deaths FROM tasks"))
    assert ends == {("succeeded", 0, 0)}


def test_a_private_server_that_hangs_neither_holds_its_stack_up_nor_counts_as_gone(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)
    server = by_name(settings)["valkey"].pid
    run = settings.context_home / "run"

    os.kill(server, signal.SIGSTOP)
    try:
        for _ in range(2):
            os.utime(run / "up.alive", (1, 1))
            wait_until(lambda: read(run, "up").is_alive, "the parent of the stack goes on")
    finally:
        os.kill(server, signal.SIGCONT)
    wait_until(lambda: by_name(settings)["valkey"].pid == server, "the server answers", ignore=(Unavailable,))
    assert "was gone" not in (settings.context_home / "logs" / "up.log").read_text()
    stack.down(settings)


def test_children_end_with_a_killed_parent_and_the_next_up_works(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)

    os.kill(by_name(settings)["up"].pid, signal.SIGKILL)

    wait_until(lambda: list(by_name(settings)) == ["valkey"], "the children are gone, the server is not")
    stack.up_detached(settings)
    assert "worker-1" in by_name(settings)
    stack.down(settings)


def test_an_app_that_cannot_be_imported_stops_everything_again(home: Environment) -> None:
    app = home.home / "broken_app.py"
    app.write_text("import nowhere_to_be_found\n")
    settings = home.settings(app=(str(app),))

    with pytest.raises(ConfigError, match="No module named 'nowhere_to_be_found'") as told:
        stack.up_detached(settings)

    assert told.value.hint is not None
    assert "worker-1.log" in told.value.hint
    wait_until(lambda: home.processes() == [], "nothing is left running")
    assert not private_server.is_running(settings)


def test_ctrl_c_stops_the_foreground_stack_whole(home: Environment) -> None:
    settings = home.settings()
    parent = subprocess.Popen([sys.executable, "-c", FOREGROUND], env=home.env, cwd=home.home, start_new_session=True)
    wait_until(lambda: is_ready(settings, "up", other_than=0), "up is ready", ignore=(Unavailable,))
    task = submit_one(settings, "echo", message="hi")

    os.killpg(parent.pid, signal.SIGINT)

    assert parent.wait(timeout=40) == 0
    assert home.processes() == []
    assert state_in_record(settings, task) is not None


def test_down_lets_running_tasks_end_and_records_them(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)
    task = submit_one(settings, "sleep", seconds=1)
    wait_until(lambda: has_started(settings, task), "it runs")

    assert stack.down(settings).killed == []

    assert state_in_record(settings, task) == "succeeded"


def test_down_by_force_hands_running_tasks_back(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)
    task = submit_one(settings, "sleep", seconds=600)
    wait_until(lambda: has_started(settings, task), "it runs")

    stack.down(settings, force=True)

    assert home.processes() == []
    assert state_in_record(settings, task) == "queued"


def test_down_deletes_the_data_of_an_embedded_context_only_when_told(home: Environment) -> None:
    settings = home.settings()
    stack.up_detached(settings)

    assert stack.down(settings).data_deleted is False
    assert (settings.context_home / "record.db").exists()

    assert stack.down(settings, delete_data=True).data_deleted is True
    assert not settings.context_home.exists()


@pytest.mark.parametrize("given", [{"redis_url": "redis://h"}, {"database_url": "postgresql://h/d"}])
def test_data_outside_of_the_context_is_never_deleted(tmp_path: Path, given: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="embedded"):
        stack.down(Settings(home=tmp_path, **given), delete_data=True)  # type: ignore[arg-type]


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_the_hint_instead_deletes_this_namespace_and_this_record_alone(
    tmp_path: Path, own_redis: RedisServer, namespace: str
) -> None:
    other = new_namespace()
    file = tmp_path / "it's the record.db"
    file.touch()
    with own_redis.client() as client:
        for name in (f'{{tq:{namespace}}}:key:it\'s "b" c', f"{{tq:{namespace}}}:x", f"{{tq:{other}}}:x"):
            client.set(name, "1")
        settings = Settings(
            home=tmp_path, redis_url=own_redis.url, namespace=namespace, database_url=f"sqlite:///{file}"
        )
        with pytest.raises(UsageError) as raised:
            stack.down(settings, delete_data=True)
        assert raised.value.hint is not None
        line = raised.value.hint.removeprefix("after tqctl down, by hand: ")
        subprocess.run(["bash", "-c", line], check=True, capture_output=True)
        assert list(client.scan_iter(f"{{tq:{namespace}}}:*")) == []
        assert client.delete(f"{{tq:{other}}}:x") == 1
    assert not file.exists()


def test_the_hint_for_a_server_names_its_database_and_no_password(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url="postgresql://me:s3cr3t@db:5433/tasks?sslmode=require")
    with pytest.raises(UsageError) as raised:
        stack.down(settings, delete_data=True)
    hint = str(raised.value.hint)
    assert hint.endswith(("@db:5433/postgres' tasks", "@db:5433/postgres tasks"))
    assert "s3cr3t" not in hint


def test_status_of_nothing_is_unavailable_and_makes_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")

    found = stack.status(settings)

    assert isinstance(found.trouble, BrokerUnavailable)
    assert found.trouble.hint == "tqctl up --detach"
    assert not settings.home.exists()


def test_a_stack_on_servers_by_url_starts_and_stops_but_leaves_the_servers(
    pair: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TQCTL_HOME", str(pair.home / "tqctl"))
    settings = pair.settings()

    stack.up_detached(settings)
    seen = stack.status(settings)
    stack.down(settings)

    assert seen.broker is not None
    assert not seen.broker.is_private
    assert [info.role for info in seen.processes] == ["up", "coordinator", "worker"]
    assert pair.processes() == []
    with Wire(BrokerAddress.of(settings)) as wire:
        assert wire.command("PING") == b"PONG"


@pytest.mark.parametrize("role", ["worker", "coordinator"])
def test_a_process_that_never_joined_says_again_what_it_waits_for_and_ends_with_69(
    embedded: Environment, role: str
) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{deaf.getsockname()[1]}/0"
        process = embedded.start(role, "start", "--redis-url", url)
        log = embedded.home / f"{role}.log"

        def told() -> list[str]:
            return [line for line in log.read_text().splitlines() if "waiting " in line]

        wait_until(lambda: len(told()) >= 2, "it says a second time that it waits")
        process.send_signal(signal.SIGTERM)

        assert process.wait(timeout=20) == 69
    for line in told():
        assert url in line
        assert "tqctl doctor" in line
    assert f"error: stopped before it ever joined: Redis at {url}" in log.read_text()


def test_logs_are_found_by_role_and_by_name(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    logs = settings.context_home / "logs"
    logs.mkdir(parents=True)
    for name in ("coordinator", "up", "valkey", "worker-1", "worker-2"):
        (logs / f"{name}.log").touch()

    def names(role: str | None) -> list[str]:
        return [path.stem for path in stack.log_files(settings, role)]

    assert names(None) == ["coordinator", "up", "valkey", "worker-1", "worker-2"]
    assert names("worker") == ["worker-1", "worker-2"]
    assert names("worker-2") == ["worker-2"]
    assert names("broker") == ["valkey"]
    with pytest.raises(NotFound, match="scheduler"):
        names("scheduler")


def test_followed_logs_go_on_over_a_rotation(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"
    path.write_text("one\ntwo\nthree\n")
    lines = stack.follow([path], lines=2)

    assert [next(lines), next(lines)] == [("worker-1", "two"), ("worker-1", "three")]
    with path.open("a") as file:
        file.write("four\n")
    assert next(lines) == ("worker-1", "four")
    path.rename(tmp_path / "worker-1.log.1")
    path.write_text("five\n")
    assert next(lines) == ("worker-1", "five")
