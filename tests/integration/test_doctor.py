"""The doctor names what is wrong and what mends it, and nothing where all is well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.environment import Environment
from tests.support.servers import RedisServer
from tests.support.wait import wait_until
from tqctl_runtime import doctor, stack
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.broker.address import BrokerAddress
from tqctl_runtime.broker.calls import submit
from tqctl_runtime.broker.keys import Keys
from tqctl_runtime.broker.leader_calls import COORDINATOR, coordinator_beat, elect, open_gate, publish
from tqctl_runtime.broker.wire import Wire
from tqctl_runtime.checks import CHECKS, Finding, Scene
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.core.submission import build_submission
from tqctl_runtime.observe import registry
from tqctl_runtime.record import open_store
from tqctl_runtime.record.schema import VERSION_TABLE


def problems(settings: Settings) -> dict[str, Finding]:
    return {finding.check: finding for finding in doctor.run_checks(settings) if finding.is_problem}


def test_a_healthy_stack_has_no_finding(embedded: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQCTL_HOME", str(embedded.home / "tqctl"))
    settings = embedded.settings()
    stack.up_detached(settings)

    found = doctor.run_checks(settings)

    assert [finding for finding in found if finding.level != "ok"] == []
    assert [finding.check for finding in found] == list(CHECKS)
    stack.down(settings)


def test_without_anything_every_check_says_why_it_cannot_look(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")

    found = doctor.run_checks(settings)

    assert {finding.check for finding in found} == set(CHECKS)
    assert problems(settings)["broker"].hint == "tqctl up --detach"
    assert not settings.home.exists()


@pytest.fixture
def settings(own_redis: RedisServer, sqlite_url: str, namespace: str, tmp_path: Path) -> Settings:
    """An open namespace on a server of our own, with a record and nothing that runs."""
    made = Settings(home=tmp_path / "home", redis_url=own_redis.url, database_url=sqlite_url, namespace=namespace)
    with Wire(BrokerAddress.of(made)) as wire, open_store(made) as store:
        wire.call(open_gate(Keys(namespace), epoch=1, pairing="par_test"))
        store.pair("par_test", 1)
    return made


def test_every_finding_of_a_neglected_server_has_a_step_that_mends_it(
    settings: Settings, own_redis: RedisServer
) -> None:
    with own_redis.client() as control:
        control.config_set("maxmemory-policy", "allkeys-lru")

    found = problems(settings)

    assert set(found) == {"persistence", "eviction policy", "coordinator", "recorder lag", "workers"}
    assert all(finding.hint for finding in found.values())
    assert "appendonly yes" in found["persistence"].hint
    assert "noeviction" in found["eviction policy"].hint
    assert "coordinator start" in found["coordinator"].hint


def test_stores_of_different_pairs_are_told(settings: Settings) -> None:
    with open_store(settings) as store:
        store.database.execute("UPDATE checkpoint SET pairing = 'par_other'")

    assert "par_other" in problems(settings)["pairing"].message


def test_a_new_record_beside_a_redis_that_is_recorded_elsewhere_is_told(settings: Settings, tmp_path: Path) -> None:
    keys = Keys(settings.namespace)
    with Wire(BrokerAddress.of(settings)) as wire:
        wire.call(elect(keys, role=COORDINATOR, holder="coo_1", term=1, lease_ms=60_000))
        wire.call(publish(keys, term=1, epoch=1, seq=0, stream_id="0-0", rows=0, size=0))
    new = replace(settings, database_url=f"sqlite:///{tmp_path / 'new.db'}")
    with open_store(new) as store:
        store.upgrade()

    assert "the record is new, but a coordinator records" in problems(new)["pairing"].message


@pytest.mark.parametrize("lost", [True, False])
def test_a_redis_that_the_record_was_moved_away_from_is_told_and_nobody_is_said_to_repair_it(
    settings: Settings, own_redis: RedisServer, lost: bool
) -> None:
    with open_store(settings) as store:
        store.database.execute("UPDATE checkpoint SET broker = 'redis://after:6379/0', epoch = 2, sequence = 5")
    if lost:
        with own_redis.client() as control:
            control.flushall()

    found = problems(settings)["pairing"]

    assert "redis://after:6379/0" in found.message
    assert "repairs" not in found.hint
    assert "TQCTL_REDIS_URL" in found.hint


def test_pending_migrations_are_told(settings: Settings) -> None:
    with open_store(settings) as store:
        store.database.execute(f"DELETE FROM {VERSION_TABLE}")

    found = problems(settings)

    assert "migrations" in found
    assert found["migrations"].hint


def test_an_unreachable_database_is_told_and_the_rest_is_still_looked_at(settings: Settings) -> None:
    away = Settings(
        home=settings.home,
        redis_url=settings.redis_url,
        namespace=settings.namespace,
        database_url="postgresql://nobody:s3cr3t@127.0.0.1:1/none",
    )

    found = problems(away)

    assert {"record", "coordinator"} <= set(found)
    assert "s3cr3t" not in str(found)


def test_processes_of_another_version_are_told(settings: Settings) -> None:
    info = {"name": "old one", "host": "h", "version": "0.0.1", "at": now_ms(), "roles": {}}
    with Wire(BrokerAddress.of(settings)) as wire:
        wire.call(coordinator_beat(Keys(settings.namespace), "coo_old", info))

    assert "old one of version 0.0.1" in problems(settings)["versions"].message


def test_a_coordinator_whose_lease_ended_is_named_and_told_from_none(settings: Settings) -> None:
    assert problems(settings)["coordinator"].message.startswith("no coordinator runs")
    keys = Keys(settings.namespace)
    info = {"name": "frozen", "host": "h", "pid": 7, "version": "1", "at": now_ms(), "roles": {}}
    with Wire(BrokerAddress.of(settings)) as wire:
        wire.call(elect(keys, role=COORDINATOR, holder="coo_frozen", term=1, lease_ms=1))
        wire.call(coordinator_beat(keys, "coo_frozen", info))
        wait_until(lambda: "coordinator" in problems(settings), "the lease ended")

    found = problems(settings)["coordinator"]
    assert "coordinator frozen on h does not lead: its lease ended" in found.message
    assert "process 7" in found.hint


def test_a_coordinator_that_was_stopped_by_hand_is_told_rather_than_one_that_fell_silent_before(
    settings: Settings,
) -> None:
    keys = Keys(settings.namespace)
    info = {"name": "killed", "host": "h", "pid": 7, "version": "1", "at": now_ms(), "roles": {}}
    long_ago = now_ms() - 30_000
    with Wire(BrokerAddress.of(settings)) as wire:
        wire.call(coordinator_beat(keys, "coo_killed", info, now=long_ago))
    assert "process 7" in problems(settings)["coordinator"].hint

    registry.folder(settings).mkdir(parents=True)
    with registry.registered(settings, role="up", name="up", log=None):
        registry.note_stopped(settings, role="coordinator", name="coordinator", pid=2**22, log=settings.home)

        found = problems(settings)["coordinator"]

    assert found.message.startswith("coordinator was stopped by hand and stays stopped")
    assert found.hint == "tqctl down && tqctl up --detach"


def test_memory_near_its_limit_is_told(settings: Settings, own_redis: RedisServer) -> None:
    with own_redis.client() as control:
        used = int(str(control.info("memory")["used_memory"]))
        control.config_set("maxmemory", used)

    assert "busy" in problems(settings)["memory"].message


def test_clocks_that_differ_are_told(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    with Scene(settings) as scene:
        assert scene.clock_difference_ms is not None
        assert abs(scene.clock_difference_ms) < 60_000
    monkeypatch.setattr(Scene, "clock_difference_ms", -3_600_000)

    assert "1h behind" in problems(settings)["clock"].message


def test_a_folder_that_others_may_enter_is_told(settings: Settings) -> None:
    settings.context_home.mkdir(parents=True)
    settings.context_home.chmod(0o755)

    assert problems(settings)["files"].hint == f"chmod 700 {settings.context_home}"


def test_a_worker_that_renews_its_lease_and_claims_nothing_is_told(settings: Settings) -> None:
    keys = Keys(settings.namespace)
    with Wire(BrokerAddress.of(settings)) as wire:
        info = {"name": "box-1", "host": "box", "pid": 77}
        wire.call(worker_calls.register(keys, "wrk_1", lease_ms=60_000, info=info, rows=[]))
        figures = {"claim_silence_ms": 42_000}
        wire.call(worker_calls.heartbeat(keys, "wrk_1", lease_ms=60_000, held=[], answered=0, figures=figures))

    found = problems(settings)["workers"]
    assert found.message == "box-1 renews its lease and has claimed nothing for 42 s"
    assert "kill 77 on box" in found.hint


def test_tasks_in_a_queue_that_nobody_serves_are_only_told_beside_live_workers(settings: Settings) -> None:
    with Wire(BrokerAddress.of(settings)) as wire:
        wire.call(submit(Keys(settings.namespace), [build_submission("echo", {}, queue="lonely")]))

    assert problems(settings)["workers"].message == "no worker"


def test_an_entry_in_quarantine_is_told_until_a_repair_has_begun_a_new_epoch(settings: Settings) -> None:
    with open_store(settings) as store:
        row = "INSERT INTO quarantine (epoch, stream_id, sequence, at, error, entry) VALUES (?, '1-1', 1, 0, 'bad', ?)"
        store.database.execute(row, (1, b""))

        assert "1 journal entry" in problems(settings)["quarantine"].message
        assert "doctor --repair" in problems(settings)["quarantine"].hint

        store.database.execute("UPDATE checkpoint SET epoch = 2")
        assert "quarantine" not in problems(settings)
