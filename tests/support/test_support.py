"""The tools of the suites do what the suites rely on."""

from __future__ import annotations

import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from tests.support.cluster import Cluster
from tests.support.environment import Environment
from tests.support.leaks import find_leaks
from tests.support.postgres import Postgres
from tests.support.proxy import Proxy
from tests.support.servers import RedisServer, new_namespace, own_redis_binary, start_redis
from tests.support.wait import wait_until


@pytest.fixture
def proxy(own_redis: RedisServer) -> Iterator[Proxy]:
    with Proxy(own_redis.url) as running:
        yield running


def through(proxy: Proxy, timeout: float = 0.3) -> redis.Redis:
    return redis.Redis.from_url(proxy.url, protocol=2, socket_timeout=timeout, socket_connect_timeout=timeout)


def test_waiting_returns_the_first_true_value() -> None:
    answers = iter([0, "", "here"])
    assert wait_until(lambda: next(answers), "an answer") == "here"


def test_waiting_in_vain_names_what_was_waited_for_and_what_was_seen() -> None:
    with pytest.raises(AssertionError, match=r"the moon.*last seen: 0"):
        wait_until(lambda: 0, "the moon", timeout=0.05)


def test_waiting_lets_unexpected_errors_through() -> None:
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0, "an impossible number", ignore=(KeyError,))


def test_the_proxy_forwards(proxy: Proxy) -> None:
    with through(proxy) as client:
        assert client.set("a", b"\x00\xff" * 100_000)
        assert client.get("a") == b"\x00\xff" * 100_000


def test_a_paused_proxy_holds_replies_and_gives_them_later(proxy: Proxy, own_redis: RedisServer) -> None:
    with through(proxy, timeout=30) as client, own_redis.client() as direct:
        client.ping()
        proxy.pause("down")
        connection = client.connection_pool.get_connection()
        connection.send_command("INCR", "n")
        wait_until(lambda: direct.get("n") == b"1", "the command arrives although its reply is held")
        proxy.resume()
        assert connection.read_response() == 1
        client.connection_pool.release(connection)


def test_a_cut_loses_the_reply_but_not_the_effect(proxy: Proxy, own_redis: RedisServer) -> None:
    with through(proxy, timeout=30) as client, own_redis.client() as direct:
        client.ping()
        proxy.pause("down")
        connection = client.connection_pool.get_connection()
        connection.send_command("INCR", "n")
        wait_until(lambda: direct.get("n") == b"1", "the command arrives")
        proxy.cut()
        with pytest.raises(redis.ConnectionError):
            connection.read_response()
        client.connection_pool.release(connection)


def test_a_refusing_proxy_serves_again_after_resume(proxy: Proxy) -> None:
    with through(proxy) as client:
        proxy.refuse()
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            client.ping()
        proxy.resume()
        assert client.ping()


def test_a_stopped_server_keeps_its_port_and_files_for_the_next_start(tmp_path: Path) -> None:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    first = start_redis(own_redis_binary(), options=options, folder=tmp_path)
    with first.client() as client:
        client.set("kept", "1")
    first.stop(signal.SIGTERM)
    port = int(first.url.rpartition(":")[2].partition("/")[0])
    second = start_redis(own_redis_binary(), options=options, folder=tmp_path, port=port)
    try:
        with second.client() as client:
            assert client.get("kept") == b"1"
    finally:
        second.stop()


def test_the_leak_check_names_keys_that_nothing_bounds(own_redis: RedisServer) -> None:
    name = new_namespace()
    prefix = f"{{tq:{name}}}:"
    with own_redis.client() as client:
        client.hset(f"{prefix}st", "tsk", "line")
        client.set(f"{prefix}slot:wrk", "1", ex=100)
        assert find_leaks(client, name) == []
        client.set(f"{prefix}slot:wrk", "1")
        client.set(f"{prefix}nonsense", "1")
        client.rpush(f"{prefix}b:default", "1", "1")
        client.set(f"{prefix}meta", "text")
        problems = find_leaks(client, name)
    assert [line.partition(":")[0] for line in problems] == ["b", "meta", "nonsense", "slot"]


def test_a_database_is_a_clone_of_what_migrated_once(postgres: Postgres) -> None:
    template = postgres.create()
    with psycopg.connect(template) as connection:
        connection.execute("create table t (x int)")
        connection.execute("insert into t values (7)")
    clone = postgres.create(template.rpartition("/")[2].partition("?")[0])
    with psycopg.connect(clone) as connection:
        assert connection.execute("select x from t").fetchall() == [(7,)]
    postgres.drop(clone)
    postgres.drop(template)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(clone)


# slow: copies 40 MB of binaries and initialises a cluster
@pytest.mark.slow
def test_the_embedded_binaries_give_a_server() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tqctl-pg-"))
    folder.chmod(0o711)
    try:
        cluster = Cluster(folder)
        with psycopg.connect(cluster.url) as connection:
            row = connection.execute("select current_setting('server_version_num')::int").fetchone()
        assert row is not None
        assert row[0] >= 160000
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def test_an_environment_hides_the_callers_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQCTL_LEASE", "3s")
    ready = Environment("embedded", tmp_path)
    assert "TQCTL_LEASE" not in ready.env
    assert ready.env["TQCTL_HOME"] == str(ready.settings().home)


def test_an_environment_finds_and_kills_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQCTL_TEST_COMMAND", "sleep")
    ready = Environment("embedded", tmp_path)
    process = ready.start("1000")
    wait_until(lambda: process.pid in ready.processes(), "the process is seen")
    ready.kill_all()
    assert process.wait(timeout=10) == -signal.SIGKILL
