"""Handlers that need secrets get them in executors of their own; nobody else finds a trace of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker_rig import Rig
from tests.integration.worker_world import World, children_of
from tests.support.wait import wait_until
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.states import Outcome, State

APP = str(Path(__file__).with_name("needs_app.py"))
SECRETS = {"db": "postgresql://me:hunter2-db@h/db", "smtp": "smtp://me:hunter2-smtp@h"}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path, apps=[APP], secrets=SECRETS) as ready:
        yield ready


def result(detail: Detail) -> Any:
    assert detail.result is not None, detail.error
    return json.loads(detail.result)


@pytest.mark.parametrize("handler", ["tell", "async_tell"])
def test_a_handler_is_given_what_it_needs(rig: Rig, handler: str) -> None:
    given, _ = result(rig.run(handler)[1])
    assert given == SECRETS


def test_a_handler_is_given_nothing_that_it_did_not_ask_for(rig: Rig) -> None:
    assert result(rig.run("tell_smtp")[1])[0] == {"smtp": SECRETS["smtp"]}
    for handler in ("ask_for_more", "ask_for_anything"):
        _, detail = rig.run(handler)
        assert detail.error is not None
        assert "declare the handler with needs=('db',)" in detail.error.message


def test_no_other_executor_holds_a_secret_anywhere(rig: Rig) -> None:
    (first,) = rig.wait(rig.add("tell"))
    rig.run("async_tell")
    assert result(Detail.from_bytes(first.detail))[0] == SECRETS
    for handler in ("search", "async_search"):
        assert result(rig.run(handler)[1]) == []
    assert result(rig.run("search_with_db")[1])[0] == "memory"  # the search finds what is there
    nursery = Path("/proc", str(rig.nursery.pid))
    assert b"hunter2" not in (nursery / "environ").read_bytes() + (nursery / "cmdline").read_bytes()


def test_handlers_with_other_needs_share_no_executor_and_those_with_the_same_do(rig: Rig, tmp_path: Path) -> None:
    until = tmp_path / "until"
    plain = rig.add("async_hold", {"until": str(until)})
    needy = rig.add("async_hold_with_smtp", {"until": str(until)})
    rig.until(lambda: plain.started_at and needy.started_at, "both")
    until.touch()
    one, other = (result(Detail.from_bytes(ended.detail)) for ended in rig.wait(plain, needy))
    assert one != other
    pids = [result(rig.run(handler)[1]) for handler in ("pid", "tell_smtp", "pid")]
    assert pids[0] == pids[2] != pids[1][1]
    assert result(rig.run("tell_smtp")[1])[1] == pids[1][1]


def test_executors_of_one_need_make_room_for_those_of_another(tmp_path: Path) -> None:
    with Rig(tmp_path, apps=[APP], secrets=SECRETS, concurrency=1, processes=1) as rig:
        for handler in ("pid", "tell", "tell_smtp", "pid"):
            assert rig.run(handler)[0].outcome is Outcome.SUCCEEDED
            assert sum(not ex.is_retired for ex in rig.pool.executors.values()) == 1


@pytest.mark.parametrize("handler", ["spin", "async_spin"])
def test_time_limits_hold_there(rig: Rig, handler: str) -> None:
    assert rig.run(handler, timeout_s=0.2)[0].outcome is Outcome.TIMED_OUT
    assert result(rig.run("tell_smtp")[1])[0] == {"smtp": SECRETS["smtp"]}


def test_a_death_there_is_charged_and_the_next_executor_has_the_secrets_again(rig: Rig) -> None:
    ended, detail = rig.run("leave")
    assert ended.outcome is Outcome.DIED
    assert detail.error is not None
    suspect = rig.held("tell_smtp", is_suspect=True)
    rig.add_alone(suspect)
    (alone,) = rig.wait(suspect)
    assert result(Detail.from_bytes(alone.detail))[0] == {"smtp": SECRETS["smtp"]}


def test_executors_that_are_started_afresh_get_them_too(tmp_path: Path) -> None:
    app = tmp_path / "threads.py"
    app.write_text("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    with Rig(tmp_path, apps=[str(app), APP], secrets=SECRETS) as rig:
        assert result(rig.run("tell")[1])[0] == SECRETS
        assert result(rig.run("search")[1]) == []


def test_a_task_whose_handler_asks_for_more_after_a_reload_is_given_back(tmp_path: Path) -> None:
    app = tmp_path / "changing.py"
    until = tmp_path / "until"
    code = (
        "from tqctl_runtime.api import handler\nfrom pathlib import Path\nimport time\n"
        "@handler{}\ndef f(until: str) -> None:\n    while not Path(until).exists(): time.sleep(0.005)\n"
    )
    app.write_text(code.format(""))
    with Rig(tmp_path, apps=[str(app)], concurrency=1, processes=1) as rig:
        running = rig.add("f", {"until": str(until)})
        rig.until(lambda: running.started_at, "its start")
        waiting = rig.add("f", {"until": str(until)})
        app.write_text(code.format("(needs='smtp')"))
        rig.reload()
        until.touch()
        first, second = rig.wait(running, waiting)
        assert first.outcome is Outcome.SUCCEEDED
        assert (second.outcome, second.reason) == (Outcome.RELEASED, "what it needs is not set")


@pytest.fixture
def world(broker_address_url: str, namespace: str, tmp_path: Path) -> Iterator[World]:
    with World(broker_address_url, namespace, tmp_path, app=[APP]) as ready:
        yield ready


def test_a_worker_gives_the_urls_of_its_settings(world: World, tmp_path: Path) -> None:
    worker = world.worker(smtp_url=SECRETS["smtp"])
    given, _ = world.result(world.submit("tell")[0])
    assert given == {"db": f"sqlite:///{tmp_path}/default/record.db", "smtp": SECRETS["smtp"]}
    assert "hunter2" not in worker.log
    for pid in children_of(worker.process.pid):
        assert b"hunter2" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_handler_with_needs_that_kills_its_executors_is_poison_and_its_neighbours_are_not_charged(
    world: World,
) -> None:
    world.worker(smtp_url=SECRETS["smtp"])
    (deadly,) = world.submit("leave")
    others = world.submit("tell_smtp", count=50)
    (task,) = world.until_state(State.DEAD, deadly)
    assert (task.deaths, task.failures) == (3, 0)
    for other in world.until_state(State.SUCCEEDED, *others):
        assert (other.deaths, other.failures) == (0, 0)


def test_a_handler_whose_need_is_not_set_is_neither_offered_nor_started(world: World) -> None:
    worker = world.worker()
    (without,) = world.overview().workers
    lacking = ["ask_for_more", "async_hold_with_smtp", "async_spin", "async_tell", "hold_with_smtp", "leave", "spin"]
    assert sorted(without.info["lacks"]) == [*lacking, "tell", "tell_smtp"]
    assert without.info["lacks"]["tell"] == ["smtp_url"]
    assert not set(without.info["lacks"]) & set(without.info["handlers"])
    assert "mail" not in without.info["queues"]
    assert worker.log.count("smtp_url (TQCTL_SMTP_URL) is not set, so this worker does not offer") == 1
    (of_default,) = world.submit("tell")
    (of_mail,) = world.submit("tell_smtp", queue="mail")
    (task,) = wait_until(lambda: [t for t in world.look(of_default) if t.state is State.SCHEDULED], "its way back")
    assert (task.attempts, task.failures, task.deaths) == (0, 0, 0)
    assert (world.look(of_mail)[0].state, world.look(of_mail)[0].is_held) == (State.QUEUED, False)
    world.worker(smtp_url=SECRETS["smtp"])
    world.until_state(State.SUCCEEDED, of_mail)
