"""How attempts end by themselves, what is kept of them, and what a running handler can ask for."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.worker_rig import APP, Rig, is_alive
from tqctl_runtime.core.attempt import Detail
from tqctl_runtime.core.errors import ConfigError
from tqctl_runtime.core.states import Outcome
from tqctl_runtime.worker import frames


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with Rig(tmp_path) as ready:
        yield ready


def result(detail: Detail) -> Any:
    assert detail.result is not None, detail.error
    return json.loads(detail.result)


def test_a_result_is_json_and_defaults_are_those_of_the_function(rig: Rig) -> None:
    ended, detail = rig.run("typed", {"count": 3, "ratio": 2})
    assert ended.outcome is Outcome.SUCCEEDED
    assert result(detail) == [3, "x", 2]


@pytest.mark.parametrize(
    "payload", [{}, {"count": "3"}, {"count": True}, {"count": 1, "other": 2}, {"count": 1, "name": None}]
)
def test_a_payload_that_does_not_fit_is_rejected_and_never_retried(rig: Rig, payload: dict[str, Any]) -> None:
    ended, detail = rig.run("typed", payload)
    assert ended.outcome is Outcome.REJECTED
    assert ended.retry == frames.NEVER
    assert detail.error is not None
    assert detail.error.type == "PayloadError"


def test_an_exception_is_a_failure_with_the_users_traceback(rig: Rig) -> None:
    ended, detail = rig.run("fail", {"message": "boom"})
    assert (ended.outcome, ended.retry) == (Outcome.FAILED, frames.BY_BACKOFF)
    assert detail.error is not None
    assert detail.error.message == "boom (attempt 1)"
    assert detail.error.traceback is not None
    assert "DemonstrationError: boom" in detail.error.traceback
    assert "executor.py" not in detail.error.traceback


@pytest.mark.parametrize(
    ("handler", "payload", "outcome", "retry"),
    [
        ("ask_retry", {"after": 2.5}, Outcome.FAILED, 2500),
        ("ask_cancel", {}, Outcome.CANCELLED, frames.NEVER),
        ("never_again", {}, Outcome.FAILED, frames.NEVER),
        ("only_key_errors", {"kind": "key"}, Outcome.FAILED, frames.BY_BACKOFF),
        ("only_key_errors", {"kind": "value"}, Outcome.FAILED, frames.NEVER),
        ("system_exit", {}, Outcome.FAILED, frames.BY_BACKOFF),
        ("not_json", {}, Outcome.FAILED, frames.NEVER),
        ("big", {"size": 1_000_001}, Outcome.FAILED, frames.NEVER),
    ],
)
def test_what_a_handler_raises_or_returns_decides_about_a_retry(
    rig: Rig, handler: str, payload: dict[str, Any], outcome: Outcome, retry: int
) -> None:
    ended, _ = rig.run(handler, payload)
    assert (ended.outcome, ended.retry) == (outcome, retry)


def test_a_result_over_the_limit_says_so(rig: Rig) -> None:
    _, detail = rig.run("big", {"size": 1_000_001})
    assert detail.error is not None
    assert "the result has 1,000,003 bytes, the limit is 1,000,000" in detail.error.message


def test_the_log_holds_streams_logging_and_children_in_order(rig: Rig) -> None:
    first, second = rig.add("talk", {"word": "one"}), rig.add("talk", {"word": "two"})
    for held, word in ((first, "one"), (second, "two")):
        (ended,) = rig.wait(held)
        lines = Detail.from_bytes(ended.detail).log.decode().splitlines()
        assert lines == [
            f"printed {word}",
            f"complained {word}",
            f"INFO app: logged {word}",
            f"WARNING tqctl.task.talk: told {word}",
            f"child {word}",
            "without end",
        ]


def test_tasks_of_one_frame_have_their_own_logs(rig: Rig) -> None:
    rig.run("talk_much", {"lines": 1})
    tasks = [rig.held("talk_much", {"lines": n % 3}) for n in range(60)]
    rig.add_many(tasks)
    for number, ended in enumerate(rig.wait(*tasks)):
        assert len(Detail.from_bytes(ended.detail).log.splitlines()) == number % 3


def test_a_long_log_keeps_its_head_and_its_tail(rig: Rig) -> None:
    _, detail = rig.run("talk_much", {"lines": 200_000})
    lines = detail.log.splitlines()
    assert lines[0] == b"line 00000000"
    assert lines[-1] == b"line 00199999"
    assert len(detail.log) < 4096 + 100
    assert detail.log_dropped == 200_000 * 14 - 4096


def test_lines_of_a_running_task_are_told_before_it_ends(rig: Rig, tmp_path: Path) -> None:
    until = tmp_path / "until"
    held = rig.add("talk_and_hold", {"until": str(until)})
    rig.until(lambda: any(lines == b"early line\n" for _, _, lines in rig.notes), "the early line")
    until.touch()
    (ended,) = rig.wait(held)
    assert Detail.from_bytes(ended.detail).log == b"early line\nlate line\n"


def test_async_tasks_side_by_side_have_their_own_logs(rig: Rig) -> None:
    tasks = [rig.held("async_talk", {"word": word}) for word in ("one", "two", "three")]
    rig.add_many(tasks)
    for word, ended in zip(("one", "two", "three"), rig.wait(*tasks), strict=True):
        lines = Detail.from_bytes(ended.detail).log.decode().splitlines()
        assert lines[:2] == [f"{word} 0", f"INFO app: logged {word}"]
        assert lines[-2:] == [f"{word} from a sub-task", f"{word} from a thread"]
        assert all(word in line for line in lines)


def test_text_that_no_database_takes_is_cleaned_in_logs_and_kept_in_results(rig: Rig) -> None:
    _, detail = rig.run("odd_text")
    assert result(detail) == "nul \x00 and surrogate \udc80"
    text = detail.log.decode()
    assert "\x00" not in text
    assert "surrogate \\udc80" in text
    assert detail.result == b'"nul \\u0000 and surrogate \\udc80"'


def test_progress_is_told_and_kept_and_the_folder_is_gone_afterwards(rig: Rig) -> None:
    _, detail = rig.run("tell_progress")
    assert detail.progress == (40.0, "resized")
    assert [progress for _, progress, _ in rig.notes if progress] == [(40.0, "resized")]
    assert not Path(result(detail)).exists()


def test_a_handler_knows_its_task(rig: Rig) -> None:
    held = rig.add("where_am_i")
    (ended,) = rig.wait(held)
    found = result(Detail.from_bytes(ended.detail))
    assert found == {"id": held.id, "attempt": 1, "queue": "default", "handler": "where_am_i"}


@pytest.mark.parametrize("handler", ["three_children", "async_children", "awaited_children"])
def test_submits_inside_a_handler_travel_to_the_supervisor_with_their_ordinal(rig: Rig, handler: str) -> None:
    ended, _ = rig.run(handler)
    assert [call["ordinal"] for _, call in rig.calls] == list(range(1, len(rig.calls) + 1))
    assert {call["handler"] for _, call in rig.calls} == {"child"}
    assert all(held is ended.held for held, _ in rig.calls)


def test_a_sync_handler_may_await_a_submit_in_a_loop_of_its_own(rig: Rig) -> None:
    assert result(rig.run("awaited_in_a_loop_of_its_own")[1]) == "tsk_child"
    ((_, call),) = rig.calls
    assert call["priority"] == 7


def test_an_awaited_submit_holds_up_nobody_and_one_given_up_harms_nobody(rig: Rig, tmp_path: Path) -> None:
    rig.answers_at_once = False
    neighbour = rig.add("async_hold", {"started": str(tmp_path / "started"), "until": str(tmp_path / "until")})
    submitting = rig.add("submit_and_wait", {"until": str(tmp_path / "until")})
    rig.wait(neighbour)  # while nobody has answered the submit
    assert rig.find(submitting) is None
    assert result(rig.run("submit_then_give_up")[1]) == "gave up"
    rig.answer_all()
    (ended,) = rig.wait(submitting)
    assert result(Detail.from_bytes(ended.detail)) == "tsk_child"
    assert rig.run("async_sleep", {"seconds": 0.0})[0].outcome is Outcome.SUCCEEDED


def test_a_refused_submit_raises_in_the_handler_what_a_client_would_raise(rig: Rig) -> None:
    rig.answer = (["busy", "the journal is full"], None)
    _, detail = rig.run("three_children")
    assert detail.error is not None
    assert (detail.error.type, detail.error.message) == ("Busy", "the journal is full")


def test_executors_see_no_address_and_no_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TQCTL_REDIS_URL", "redis://h/0")
    monkeypatch.setenv("MY_DATABASE", "postgresql://me:secret@h/db")
    monkeypatch.setenv("HARMLESS", "https://example.com/a:b@c")
    with Rig(tmp_path) as rig:
        _, detail = rig.run("environment")
        seen = result(detail)
        assert not any(name.startswith("TQCTL_") for name in seen)
        assert "MY_DATABASE" not in seen
        assert seen["HARMLESS"] == "https://example.com/a:b@c"


def test_an_executor_is_a_group_of_its_own_below_the_nursery(rig: Rig) -> None:
    _, detail = rig.run("who")
    pid, parent, group = result(detail)
    assert parent == rig.nursery.pid
    assert group == pid


def test_a_child_that_returns_from_a_handlers_fork_says_nothing(rig: Rig) -> None:
    assert result(rig.run("forked_return")[1]) == "one of two"
    assert rig.run("noop")[0].outcome is Outcome.SUCCEEDED
    assert len(rig.ended) == 2


def test_streams_that_a_handler_closed_are_there_for_the_next(rig: Rig) -> None:
    assert rig.run("close_streams")[1].log == b"before\n"
    assert rig.run("talk_much", {"lines": 1})[1].log == b"line 00000000\n"


def test_shell_runs_an_argument_list_and_its_exit_code_is_the_outcome(rig: Rig, tmp_path: Path) -> None:
    ended, detail = rig.run("shell", {"argv": ["sh", "-c", "echo out; echo err >&2; exit 3"]})
    assert ended.outcome is Outcome.FAILED
    assert detail.error is not None
    assert detail.error.message == "exit code 3"
    assert detail.log == b"out\nerr\n"
    ended, detail = rig.run("shell", {"argv": ["echo", "a b;", "$HOME"]})
    assert (ended.outcome, detail.log) == (Outcome.SUCCEEDED, b"a b; $HOME\n")


def test_shell_kills_its_command_and_what_that_left_behind(rig: Rig) -> None:
    ended, detail = rig.run("shell", {"argv": ["sh", "-c", "sleep 1000 & echo $!; wait"]}, timeout_s=0.3)
    assert ended.outcome is Outcome.TIMED_OUT
    pid = int(detail.log)
    rig.until(lambda: not is_alive(pid), "what the command left behind is gone")


def test_shell_is_not_there_where_it_is_not_allowed(tmp_path: Path) -> None:
    with Rig(tmp_path, guarded=False) as rig:
        assert "shell" not in {row["name"] for row in rig.nursery.rows}


def test_executors_are_replaced_after_so_many_tasks(tmp_path: Path) -> None:
    with Rig(tmp_path, concurrency=1, max_tasks=2) as rig:
        pids = [result(rig.run("hold_if")[1]) for _ in range(6)]
    assert pids[0] == pids[1] != pids[2] == pids[3] != pids[4]


def test_executors_are_replaced_when_they_have_grown(tmp_path: Path) -> None:
    with Rig(tmp_path, concurrency=1, max_memory=1) as rig:
        assert result(rig.run("hold_if")[1]) != result(rig.run("hold_if")[1])


def test_short_tasks_pass_through_one_executor(rig: Rig) -> None:
    while rig.pool.pace.frame_of("hold_if") == 1:  # until it is known to be short, also on a busy machine
        rig.run("hold_if")
    tasks = [rig.held("hold_if") for _ in range(300)]
    rig.add_many(tasks)
    pids = {result(Detail.from_bytes(ended.detail)) for ended in rig.wait(*tasks)}
    assert len(pids) <= 2


def test_tasks_behind_one_that_takes_long_are_taken_back_and_run_elsewhere(rig: Rig, tmp_path: Path) -> None:
    until = tmp_path / "until"
    rig.run("hold_if")
    slow = rig.held("hold_if", {"until": str(until)})
    behind = [rig.held("hold_if") for _ in range(50)]
    rig.add_many([slow, *behind])
    rig.wait(*behind)
    assert rig.find(slow) is None
    until.touch()
    rig.wait(slow)
    assert len(rig.ended) == 52


def test_apps_are_files_or_modules_beside_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper.py").write_text("VALUE = 7\n")
    (tmp_path / "mine.py").write_text(
        "from tqctl import handler\nimport helper\n@handler\ndef seven():\n    return helper.VALUE\n"
    )
    monkeypatch.chdir(tmp_path)
    for app in ("mine", "mine.py", str(tmp_path / "mine.py")):
        with Rig(tmp_path, apps=[app]) as rig:
            assert result(rig.run("seven")[1]) == 7


def test_names_of_ours_in_the_working_folder_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("runtime", "campaigns", "templates", "msgpack", "selectors", "logging"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.chdir(tmp_path)
    with Rig(tmp_path) as rig:
        assert rig.run("noop")[0].outcome is Outcome.SUCCEEDED
        assert rig.run("async_sleep", {"seconds": 0.0})[0].outcome is Outcome.SUCCEEDED


def test_an_app_that_cannot_be_imported_shows_the_users_traceback(tmp_path: Path) -> None:
    app = tmp_path / "broken.py"
    app.write_text("def f():\n    return 1 / 0\nf()\n")
    with pytest.raises(ConfigError) as caught, Rig(tmp_path, apps=[str(app)]):
        pass
    assert "ZeroDivisionError" in caught.value.message
    assert f'File "{app}", line 3' in caught.value.message
    assert "apps.py" not in caught.value.message


def test_an_app_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"), Rig(tmp_path, apps=[str(tmp_path / "none.py")]):
        pass
    with (
        pytest.raises(ConfigError, match="ModuleNotFoundError: No module named 'nosuch'"),
        Rig(tmp_path, apps=["nosuch"]),
    ):
        pass


def test_two_handlers_of_one_name_stop_the_start_with_both_places(tmp_path: Path) -> None:
    one, two = tmp_path / "one.py", tmp_path / "two.py"
    for file in (one, two):
        file.write_text("from tqctl import handler\n@handler\ndef same():\n    pass\n")
    with pytest.raises(ConfigError) as caught, Rig(tmp_path, apps=[str(one), str(two)]):
        pass
    assert f"{one}:2" in caught.value.message
    assert f"{two}:2" in caught.value.message


def test_executors_are_started_afresh_where_importing_left_threads(tmp_path: Path) -> None:
    app = tmp_path / "threaded.py"
    app.write_text("import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n")
    with Rig(tmp_path, apps=[str(app), APP]) as rig:
        assert rig.run("noop")[0].outcome is Outcome.SUCCEEDED
        assert rig.run("async_sleep", {"seconds": 0.0})[0].outcome is Outcome.SUCCEEDED
        (pid, parent, _) = result(rig.run("who")[1])
        assert parent == rig.nursery.pid
        assert "become" in Path(f"/proc/{pid}/cmdline").read_text()


def test_a_reload_runs_edited_code_and_lets_running_tasks_end(tmp_path: Path) -> None:
    app, until = tmp_path / "edited.py", tmp_path / "until"
    code = "import pathlib, time\nfrom tqctl import handler\n@handler\ndef which(until: str = ''):\n"
    code += "    while until and not pathlib.Path(until).exists():\n        time.sleep(0.01)\n    return 'WHICH'\n"
    app.write_text(code.replace("WHICH", "old"))
    with Rig(tmp_path, apps=[str(app)]) as rig:
        running = rig.add("which", {"until": str(until)})
        rig.until(lambda: running.started_at, "its start")
        old = rig.nursery.pid
        app.write_text(code.replace("WHICH", "edited"))
        os.utime(app, (1, 1))
        rig.reload()
        assert result(rig.run("which")[1]) == "edited"
        until.touch()
        (ended,) = rig.wait(running)
        assert result(Detail.from_bytes(ended.detail)) == "old"
        rig.until(lambda: not Path(f"/proc/{old}").exists(), "the end of the old nursery")
