"""``stack.status`` on both pairs: what keeps a context from its work, and who lives, stands still or is gone."""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from tests.integration.loss import lose_everything, record
from tests.integration.recorder_stage import Stage
from tests.support.environment import Environment
from tests.support.wait import wait_until
from tqctl_runtime import stack
from tqctl_runtime.broker import worker_calls
from tqctl_runtime.broker.leader_calls import RECORDER, coordinator_beat, publish
from tqctl_runtime.broker.repair_calls import close_gate
from tqctl_runtime.broker.views import overview
from tqctl_runtime.checks import Scene
from tqctl_runtime.checks.situation import record_place_of
from tqctl_runtime.core.clock import now_ms
from tqctl_runtime.core.errors import (
    BrokerUnavailable,
    ConfigError,
    NotOpen,
    RecordUnavailable,
    StoresDiffer,
    TqctlError,
    Unavailable,
    UnderRepair,
)
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.doctor import run_checks
from tqctl_runtime.inspector import Inspector
from tqctl_runtime.observe import registry
from tqctl_runtime.record.schema import VERSION_TABLE
from tqctl_runtime.stack.state import Inhabitant
from tqctl_runtime.worker.membership import closed_because

HERE = platform.node()
LEASE = 30_000


def trouble(settings: Settings) -> TqctlError:
    found = stack.status(settings).trouble
    assert found is not None, "the context is ready"
    return found


def lead(stage: Stage, recorder_trouble: str | None = None) -> None:
    stage.elect("coo_lead")
    info = {"name": "lead", "host": HERE, "pid": 1, "version": "1", "roles": {RECORDER: recorder_trouble}}
    info["record"] = record_place_of(stage.settings)
    stage.wire.call(coordinator_beat(stage.keys, "coo_lead", info))


def test_a_context_in_which_somebody_leads_is_ready_and_sql_is_not_even_asked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead(stage)
    monkeypatch.setattr("tqctl_runtime.record.open_store", lambda *_, **__: pytest.fail("the record was read"))

    assert stack.status(stage.settings).trouble is None


def test_a_leader_that_records_into_another_record_is_told_with_both_addresses(
    stage: Stage, other_record: Settings
) -> None:
    lead(stage)

    found = stack.status(other_record)

    assert type(found.trouble) is StoresDiffer
    assert "par_other" in found.trouble.message
    assert record_place_of(other_record) in found.trouble.message
    assert str(stage.settings.redis_url) in found.trouble.message
    assert found.lag is not None
    assert found.lag.record == record_place_of(stage.settings)


def test_without_a_leader_an_older_schema_is_told_where_no_coordinator_migrates_it(stage: Stage) -> None:
    stage.store.database.execute(f"DELETE FROM {VERSION_TABLE}")

    for _ in range(2):
        found = trouble(stage.settings)

        if stage.store.kind == "postgresql":
            assert type(found) is ConfigError
            assert found.hint == "tqctl db upgrade"
        else:
            assert "coordinator start" in str(found.hint)
        lose_everything(stage)


def test_a_record_that_goes_by_another_name_and_is_the_same_is_no_other(stage: Stage) -> None:
    lead(stage)
    url = str(stage.settings.database_url)
    again = f"{url}?application_name=again" if url.startswith("postgres") else url.replace(":////", ":////./")

    assert stack.status(replace(stage.settings, database_url=again)).trouble is None


def test_a_namespace_that_nobody_ever_opened_says_so_and_what_opens_it(pair: Environment) -> None:
    found = trouble(pair.settings())

    assert type(found) is NotOpen
    assert "no coordinator has run on it" in found.message
    assert "tqctl coordinator start" in str(found.hint)


def test_a_worker_that_waits_for_a_closed_namespace_tells_what_the_record_knows_of_it(stage: Stage) -> None:
    closed = NotOpen("the namespace is not open")
    stage.submit(1)
    record(stage)
    assert closed_because(stage.settings, closed) == closed.message
    lose_everything(stage)

    told = closed_because(stage.settings, closed)

    assert told.startswith("the namespace is not open: Redis at ")
    assert "lost its data: the record knows it up to entry 1 of epoch 1" in told


def test_an_emptied_redis_is_told_with_what_the_record_knows_and_who_repairs_it(stage: Stage) -> None:
    stage.submit(3)
    record(stage)
    lose_everything(stage)

    found = trouble(stage.settings)

    assert type(found) is NotOpen
    assert "lost its data: the record knows it up to entry 1 of epoch 1" in found.message
    assert "waits for a coordinator, which repairs it" in found.message
    assert "tqctl coordinator start" in str(found.hint)


def test_an_empty_redis_that_the_record_does_not_belong_to_is_told_with_the_address_of_the_right_one(
    stage: Stage,
) -> None:
    stage.submit()
    record(stage)
    stage.store.database.execute("UPDATE checkpoint SET broker = 'redis://right.example:6379/0'")
    lose_everything(stage)

    found = trouble(stage.settings)

    assert type(found) is StoresDiffer
    assert "when Redis was at redis://right.example:6379/0" in found.message
    assert "TQCTL_REDIS_URL" in str(found.hint)


def test_an_open_namespace_of_another_pair_is_told_with_both_pairings(stage: Stage) -> None:
    stage.store.database.execute("UPDATE checkpoint SET pairing = 'par_other'")

    found = trouble(stage.settings)

    assert type(found) is StoresDiffer
    assert "par_other" in found.message


def test_a_redis_that_went_back_waits_for_a_coordinator(stage: Stage) -> None:
    stage.store.database.execute("UPDATE checkpoint SET sequence = 7, stream_id = '1-1', rows = 7")

    found = trouble(stage.settings)

    assert type(found) is Unavailable
    assert "Redis went back by 7 entries" in found.message
    assert "waits for a coordinator" in found.message


def test_a_repair_at_work_is_told_to_be_waited_for(stage: Stage) -> None:
    stage.wire.call(close_gate(stage.keys, term=9, epoch=2, seen=1, pairing="par_any", by="rep_x coo_1 on far"))
    stage.store.database.execute("UPDATE checkpoint SET pairing = 'par_any'")
    away = replace(stage.settings, database_url="postgresql://nobody@127.0.0.1:1/none")

    for settings in (stage.settings, away):
        found = trouble(settings)

        assert type(found) is UnderRepair
        assert "a repair is at work for " in found.message
        assert "by coo_1 on far (term 9)" in found.message
        assert "wait" in str(found.hint)


def test_a_namespace_that_is_opened_while_one_looks_is_not_said_to_be_new(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Scene, "opened", None)

    found = trouble(stage.settings)

    assert type(found) is UnderRepair
    assert "is open now" in found.message


def test_an_open_namespace_that_nobody_leads_is_unavailable(stage: Stage) -> None:
    found = trouble(stage.settings)

    assert type(found) is Unavailable
    assert found.message.startswith("no coordinator runs: nothing is recorded")


def test_without_a_leader_a_record_that_is_away_too_is_told(stage: Stage) -> None:
    away = replace(stage.settings, database_url="postgresql://nobody:s3cr3t@127.0.0.1:1/none")

    found = trouble(away)

    assert type(found) is Unavailable
    assert "the record cannot be read either: PostgreSQL: " in found.message
    assert "s3cr3t" not in found.message
    lose_everything(stage)
    assert type(trouble(away)) is NotOpen


def test_a_leader_that_cannot_record_is_told_with_its_reason(stage: Stage) -> None:
    lead(stage, "PostgreSQL: connection refused")

    found = trouble(stage.settings)

    assert type(found) is RecordUnavailable
    assert "the recorder cannot work: PostgreSQL: connection refused" in found.message


#: Longer than rows may wait for a recorder that works, ms.
LONG = 20_000


def wait_in_vain(stage: Stage, *, moved_ago: int = LONG) -> None:
    """A recorder gives a sign of life now, recorded a row *moved_ago* ms ago; the next one waits for long."""
    stage.redis.hset(stage.keys.meta, "rows", 1)
    stage.redis.xadd(stage.keys.build("journal"), {"e": 1, "s": 1, "r": b""}, id=f"{now_ms() - LONG}-0")
    at = {"epoch": 1, "seq": 0, "sid": "0-0", "rows": 0, "at": now_ms(), "moved": now_ms() - moved_ago}
    stage.redis.hset(stage.keys.build("wm"), mapping=at)


def test_a_recorder_that_lives_and_records_nothing_while_rows_wait_for_long_is_no_success(stage: Stage) -> None:
    lead(stage)
    wait_in_vain(stage)

    found = trouble(stage.settings)

    assert type(found) is RecordUnavailable
    assert "the recorder gives signs of life and has recorded nothing for 20" in found.message


def test_what_such_a_recorder_says_of_its_last_try_is_told(stage: Stage) -> None:
    lead(stage, "PostgreSQL: lock timeout")
    wait_in_vain(stage)

    assert "the recorder cannot work: PostgreSQL: lock timeout" in trouble(stage.settings).message


def test_a_recorder_that_catches_up_is_ready_however_old_the_oldest_row_is(stage: Stage) -> None:
    lead(stage, "PostgreSQL: connection refused")
    wait_in_vain(stage, moved_ago=100)

    assert stack.status(stage.settings).trouble is None


def test_the_watermark_tells_since_when_it_stands(stage: Stage) -> None:
    def told(seq: int, now: int) -> int:
        call = publish(stage.keys, term=term, epoch=1, seq=seq, stream_id="0-0", rows=seq, size=0, keep_ms=1, now=now)
        stage.wire.call(call)
        return stage.wire.call(overview(stage.keys)).moved_at

    term = stage.elect("coo_lead")
    stage.submit(2)
    start = now_ms()

    assert [told(0, start), told(0, start + 1_000), told(1, start + 2_000), told(1, start + 3_000)] == [
        start,
        start,
        start + 2_000,
        start + 2_000,
    ]


def test_processes_of_this_machine_are_shown_also_while_the_broker_is_away(pair: Environment) -> None:
    settings = replace(pair.settings(), redis_url="redis://127.0.0.1:1/0")
    registry.folder(settings).mkdir(parents=True)
    with registry.registered(settings, role="worker", name="left", log=None):
        found = stack.status(settings)

    assert type(found.trouble) is BrokerUnavailable
    assert [(one.name, one.state) for one in found.inhabitants] == [("left", "starting")]


# -- who lives


def join(stage: Stage, name: str, pid: int, seen_ago: int = 0, host: str = HERE, **figures: object) -> None:
    info = {"name": name, "host": host, "pid": pid, "lease_ms": LEASE}
    at = now_ms() - seen_ago
    stage.wire.call(worker_calls.register(stage.keys, f"wrk_{name}", lease_ms=LEASE, info=info, rows=[], now=at))
    if figures:
        call = worker_calls.heartbeat(
            stage.keys, f"wrk_{name}", lease_ms=LEASE, held=[], answered=0, figures=figures, now=at
        )
        stage.wire.call(call)


def states(stage: Stage) -> dict[str, str]:
    found = {one.name: one.state for one in stack.status(stage.settings).inhabitants}
    with Inspector.open(stage.settings) as inspector:
        assert {worker.name: worker.state for worker in inspector.workers()}.items() <= found.items()
    return found


def test_a_worker_is_silent_once_it_missed_a_beat_and_late_once_its_lease_is_over(stage: Stage) -> None:
    join(stage, "fresh", 1, 5_000, "elsewhere", state="running")
    join(stage, "silent", 2, 21_000, "elsewhere")
    join(stage, "late", 3, 31_000, "elsewhere")
    join(stage, "deaf", 4, 0, "elsewhere", state="running", claim_silence_ms=60_000)

    assert states(stage) == {"fresh": "running", "silent": "silent", "late": "late", "deaf": "deaf"}
    silent = next(one for one in stack.status(stage.settings).inhabitants if one.name == "silent")
    assert silent.seen_at is not None


@contextmanager
def registered_child(settings: Settings, role: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is registered as *role* called ``child``, and does nothing until it is killed."""
    registry.folder(settings).mkdir(parents=True, exist_ok=True)
    code = (
        "import sys, time; from pathlib import Path; from tqctl_runtime.observe import registry; "
        "from tqctl_runtime.core.settings import Settings; home, namespace, role = sys.argv[1:]\n"
        "with registry.registered(Settings(home=Path(home), namespace=namespace), role=role, name='child', log=None)"
        " as me: me.say('ready'); time.sleep(600)"
    )
    words = [sys.executable, "-c", code, str(settings.home), settings.namespace, role]
    with subprocess.Popen(words) as child:
        try:
            wait_until(lambda: any(i.state == "ready" for i in registry.living(settings)), "the child is registered")
            yield child
        finally:
            child.kill()


def of_child(stage: Stage) -> Inhabitant:
    return next(one for one in stack.status(stage.settings).inhabitants if one.name == "child")


def test_a_worker_of_this_machine_is_told_at_once_to_be_suspended_or_ended(stage: Stage) -> None:
    with registered_child(stage.settings, "worker") as child:
        join(stage, "child", child.pid, state="running")
        assert of_child(stage).state == "ready"

        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: of_child(stage).state == "suspended", "the stop is seen")
        with Inspector.open(stage.settings) as inspector:
            assert [worker.state for worker in inspector.workers()] == ["suspended"]

        child.kill()
        child.wait()
        assert states(stage) == {"child": "ended"}


def test_a_process_that_lives_and_sends_no_beat_is_not_shown_as_ready(stage: Stage) -> None:
    with registered_child(stage.settings, "worker") as child:
        join(stage, "child", child.pid, 25_000)

        assert of_child(stage).state == "silent"


def test_a_suspended_coordinator_is_shown_and_named_as_the_reason_why_nobody_leads(stage: Stage) -> None:
    with registered_child(stage.settings, "coordinator") as child:
        info = {"name": "child", "host": HERE, "pid": child.pid, "version": "1", "roles": {}}
        stage.wire.call(coordinator_beat(stage.keys, "coo_child", info))
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: of_child(stage).state == "suspended", "the stop is seen")

        found = trouble(stage.settings)

        assert f"child (pid {child.pid}) is suspended" in found.message
        assert found.hint == f"kill -CONT {child.pid}"
        with Inspector.open(stage.settings) as inspector:
            assert [one.state for one in inspector.coordinators()] == ["suspended"]


def lead_as_child(stage: Stage, pid: int, recorder_trouble: str | None) -> None:
    stage.elect("coo_child")
    info = {"name": "child", "host": HERE, "pid": pid, "version": "1", "roles": {RECORDER: recorder_trouble}}
    stage.wire.call(coordinator_beat(stage.keys, "coo_child", info))


def findings(stage: Stage, check: str) -> list[tuple[str, str]]:
    return [(one.message, one.hint) for one in run_checks(stage.settings) if one.check == check]


def test_a_leader_that_is_suspended_is_told_before_what_it_said_last(stage: Stage) -> None:
    with registered_child(stage.settings, "coordinator") as child:
        lead_as_child(stage, child.pid, "PostgreSQL: connection refused")
        assert "PostgreSQL" in trouble(stage.settings).message
        child.send_signal(signal.SIGSTOP)
        wait_until(lambda: of_child(stage).state == "suspended", "the stop is seen")

        found = trouble(stage.settings)

        assert type(found) is Unavailable
        assert found.message.startswith(f"child (pid {child.pid}) is suspended")
        assert found.hint == f"kill -CONT {child.pid}"
        for check in ("coordinator", "recorder lag"):
            assert [hint for _, hint in findings(stage, check)] == [f"kill -CONT {child.pid}"]


@pytest.mark.parametrize("has_lease", [True, False])
def test_a_leader_that_ended_without_a_word_is_told_so_with_the_command_that_brings_one_back(
    stage: Stage, has_lease: bool
) -> None:
    with registered_child(stage.settings, "coordinator") as child:
        lead_as_child(stage, child.pid, "PostgreSQL: connection refused")
        if not has_lease:
            stage.elect("coo_child", lease_ms=1)
        child.kill()
        child.wait()

        found = trouble(stage.settings)

        assert type(found) is Unavailable
        assert found.message.startswith(f"coordinator child (pid {child.pid}) ended without a word: ")
        assert found.hint == "tqctl coordinator start"
        assert findings(stage, "coordinator") == [(found.message, found.hint)]


def test_a_pid_of_another_host_or_of_no_registered_process_is_never_judged(stage: Stage) -> None:
    join(stage, "far", 2**22, host="elsewhere", state="running")
    join(stage, "near", 2**22, state="running")

    assert states(stage) == {"far": "running", "near": "running"}
