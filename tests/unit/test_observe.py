"""Log lines keep no secret, log files stay small, and a process is never taken for another."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tqctl_runtime.core.settings import Settings
from tqctl_runtime.observe import registry
from tqctl_runtime.observe.files import rotate, tail
from tqctl_runtime.observe.logging import redact
from tqctl_runtime.observe.reminder import Reminder

CANARY = "c4n4ry-s3cr3t"
SAY = """
import logging, sys
from pathlib import Path
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.observe.logging import configure, get_logger
secret = sys.stdin.readline().strip()
configure(Settings(log_format=sys.argv[1]), role="worker-1", file=Path(sys.argv[2]) if sys.argv[2:] else None)
log = get_logger("test")
log.info("connected", url=f"redis://user:{secret}@host/0", password=secret, nested={"api_key": secret}, count=3)
log.warning(f"refused: password={secret}")
logging.getLogger("library").warning("Authorization: Bearer %s", secret)
try:
    raise ValueError(f"postgresql://user:{secret}@host/db cannot be reached")
except ValueError:
    log.exception("a bug")
print("printed by a library", flush=True)
"""


def say(style: str, *file: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SAY, style, *file], input=CANARY, capture_output=True, text=True, check=True
    )


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_log_line_holds_a_secret(style: str) -> None:
    said = say(style).stderr

    assert CANARY not in said
    for word in ("connected", "refused", "library", "a bug", "ValueError", "host", "worker-1"):
        assert word in said


def test_json_lines_are_one_object_each_with_their_values() -> None:
    rows = [json.loads(line) for line in say("json").stderr.splitlines()]

    assert [row["level"] for row in rows] == ["info", "warning", "warning", "error"]
    assert rows[0] | {"at": "", "pid": 0} == {
        "at": "",
        "count": 3,
        "event": "connected",
        "level": "info",
        "logger": "tqctl.test",
        "nested": {"api_key": "***"},
        "password": "***",
        "pid": 0,
        "role": "worker-1",
        "url": "redis://user:***@host/0",
    }


def test_a_log_file_is_private_and_takes_what_libraries_print(tmp_path: Path) -> None:
    path = tmp_path / "worker-1.log"

    shown = say("text", str(path))

    assert (shown.stdout, shown.stderr) == ("", "")
    assert "printed by a library" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://:pw@host", "redis://:***@host"),
        ("postgresql://user:p%40w@host/db?x=1", "postgresql://user:***@host/db?x=1"),
        ("postgresql://user:a@b/c@host/db is away", "postgresql://user:***@host/db is away"),
        ("token: abc123", "token: ***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_***"),
        ("redis://host:6379/0 answered at 10:30", "redis://host:6379/0 answered at 10:30"),
    ],
)
def test_secrets_are_found_in_running_text(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_a_log_file_is_put_aside_at_its_limit_and_three_old_ones_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "valkey.log"
    for number in range(5):
        path.write_text(f"file {number}")
        assert rotate(path, limit=6, keep=3) is True

    path.write_text("small")
    assert rotate(path, limit=6, keep=3) is False
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "valkey.log",
        "valkey.log.1",
        "valkey.log.2",
        "valkey.log.3",
    ]
    assert (tmp_path / "valkey.log.1").read_text() == "file 4"
    assert rotate(tmp_path / "absent.log") is False


def test_the_tail_of_a_file_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("one\ntwo\nthree\n")

    assert tail(path, 2) == "two\nthree"
    assert tail(tmp_path / "absent.log") == ""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = Settings(home=tmp_path)
    made.context_home.mkdir(mode=0o700)
    return made


def test_a_registered_process_is_seen_with_its_state_and_gone_at_its_end(settings: Settings) -> None:
    with registry.registered(settings, role="worker", name="w1", log=None) as known:
        assert [(info.name, info.pid, info.state) for info in registry.living(settings)] == [
            ("w1", os.getpid(), registry.STARTING)
        ]
        known.say(registry.READY)
        assert registry.living(settings)[0].state == registry.READY

    assert registry.living(settings) == []


def test_a_process_that_got_an_old_process_id_is_never_taken_for_the_old_one(settings: Settings) -> None:
    with registry.registered(settings, role="worker", name="w1", log=None):
        mine = registry.living(settings)[0]

    assert mine.is_alive
    assert not replace(mine, began="another boot:17").is_alive
    assert not replace(mine, began="").is_alive


def test_remains_of_a_child_that_nobody_waited_for_count_as_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    assert registry.began_at(child.pid) == ""
    child.wait()


def test_files_of_dead_processes_and_of_no_process_are_swept(settings: Settings) -> None:
    folder = registry.folder(settings)
    folder.mkdir()
    (folder / "worker-1.json").write_text('{"role": "worker"}')
    (folder / "worker-2.json").write_text("not json")
    with registry.registered(settings, role="up", name="up", log=None):
        registry.sweep(settings)

        assert [info.name for info in registry.living(settings)] == ["up"]
        assert len(list(folder.iterdir())) == 1


def test_what_is_waited_for_is_said_at_growing_intervals_and_at_least_each_half_minute() -> None:
    reminder = Reminder()
    said = [second for second in range(100) if reminder.is_due("no broker", float(second))]

    assert said == [0, 1, 3, 7, 15, 31, 61, 91]
    assert reminder.is_due("another trouble", 99.0)
    assert not reminder.is_due("another trouble", 99.5)
