"""What goes to stdout and how: formats, fields, safety of text, the guard, and what changes are told as."""

from __future__ import annotations

import io
import itertools
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from tests.cli.conftest import Program
from tqctl.output import Column, Output, View, wants_color
from tqctl.text import cell, dig, dump, plain_table, plural, printable, printable_log
from tqctl.watch import watch
from tqctl_runtime.core.errors import UsageError

VIEW = View(
    "thing",
    "id",
    ("id", "state", "error", "tags"),
    (Column("id", "id", key=True), Column("state", "state"), Column("error", "error.message", wide=True)),
)
ROWS: list[dict[str, Any]] = [
    {"id": "a1", "state": "dead", "error": {"message": "bad\nnews"}, "tags": {"k": "v"}},
    {"id": "b22", "state": "queued", "error": None, "tags": {}},
]


def shown(capsys: pytest.CaptureFixture[str], style: str, *fields: str, rows: list[dict[str, Any]] = ROWS) -> str:
    Output(style, fields).rows(VIEW, rows)
    return capsys.readouterr().out


def test_a_table_is_aligned_and_plain(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "table") == "ID   STATE\na1   dead\nb22  queued\n"


def test_wide_adds_columns_and_escapes_line_breaks(capsys: pytest.CaptureFixture[str]) -> None:
    assert "bad\\nnews" in shown(capsys, "wide")


def test_json_is_a_bare_array_of_whole_objects(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, "json")) == ROWS


def test_jsonl_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert [json.loads(line) for line in shown(capsys, "jsonl").splitlines()] == ROWS


def test_csv_has_all_fields_and_json_inside_of_cells(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "csv").splitlines()
    assert lines[0] == "id,state,error,tags"
    assert lines[2] == "b22,queued,,"
    assert '"{""k"": ""v""}"' in lines[1]


def test_name_prints_what_other_commands_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "name") == "a1\nb22\n"


@pytest.mark.parametrize(("style", "nothing"), [("json", "[]\n"), ("jsonl", ""), ("table", ""), ("name", "")])
def test_nothing_is_an_empty_array_or_nothing(capsys: pytest.CaptureFixture[str], style: str, nothing: str) -> None:
    assert shown(capsys, style, rows=[]) == nothing


def test_fields_select_for_every_format_by_dotted_path(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "table", "id", "tags.k").splitlines() == ["ID   TAGS.K", "a1   v", "b22"]
    assert json.loads(shown(capsys, "json", "error.message"))[0] == {"error.message": "bad\nnews"}
    assert shown(capsys, "csv", "id", "state").splitlines()[0] == "id,state"


def test_an_unknown_field_is_refused_with_near_names() -> None:
    with pytest.raises(UsageError) as caught:
        Output("table", ["sate"]).rows(VIEW, ROWS)
    assert caught.value.hint == "did you mean state?"


def test_one_object_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Output("json").show(VIEW, ROWS[:1])
    assert json.loads(capsys.readouterr().out) == ROWS[0]
    Output("table").show(VIEW, ROWS[:1])
    assert (
        capsys.readouterr().out
        == 'id     a1\nstate  dead\nerror:\n  message:    bad\n              news\ntags   {"k": "v"}\n'
    )


def test_control_characters_cannot_act() -> None:
    nasty = "a\x1b[31m\x00\u202eb\n"
    assert printable(nasty + "\ud800") == "a\\x1b[31m\\x00\\u202eb\\n\\ud800"
    assert json.loads(dump({"x": nasty}))["x"] == nasty
    assert "\u202e" not in dump(nasty)
    assert printable_log("a\tb\n\x1b[2J") == "a\tb\n\\x1b[2J"


def test_cells_and_paths() -> None:
    values: tuple[Any, ...] = (None, True, 3, "x", {}, [1])
    assert [cell(value) for value in values] == ["", "true", "3", "x", "", "[1]"]
    row: Mapping[str, Any] = {"a": [{"b": 1}]}
    assert (dig(row, "a.0.b"), dig(row, "a.5.b"), dig(row, "c.d")) == (1, None, None)
    assert plain_table(["n"], [["10"], ["9"]], [True]) == [" N", "10", " 9"]
    assert (plural(1, "task"), plural(2000, "task")) == ("1 task", "2,000 tasks")


@pytest.mark.parametrize(
    ("choice", "environ", "is_wanted"),
    [
        ("always", {"NO_COLOR": "1"}, True),
        ("never", {"FORCE_COLOR": "1"}, False),
        ("auto", {"FORCE_COLOR": "1", "NO_COLOR": "1"}, True),
        ("auto", {"NO_COLOR": "1"}, False),
        ("auto", {"NO_COLOR": "", "TERM": "dumb"}, False),
        ("auto", {}, True),
    ],
)
def test_colour_follows_flag_then_variables_then_terminal(
    choice: str, environ: dict[str, str], is_wanted: bool
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert wants_color(Terminal(), choice, environ) is is_wanted
    assert wants_color(io.StringIO(), "auto", {}) is False


def test_watching_a_pipe_tells_changes(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = ROWS
    states = iter([[first], [{**first, "state": "queued"}, second], [second]])

    def read() -> list[dict[str, Any]]:
        return next(states)

    with pytest.raises(RuntimeError):  # a generator's end inside of a loop that has none
        watch(Output("jsonl"), VIEW, lambda: _or_stop(read), 0)
    kinds = [json.loads(line)["type"] for line in capsys.readouterr().out.splitlines()]
    assert kinds == ["ADDED", "MODIFIED", "ADDED", "REMOVED"]


def _or_stop(read: Any) -> list[dict[str, Any]]:
    try:
        return read()  # type: ignore[no-any-return]
    except StopIteration:
        raise RuntimeError("the end") from None


def test_half_of_a_surrogate_pair_never_reaches_a_reader_of_json() -> None:
    assert dump(["\ud800", {"\udfff": "a\udc80b"}, "\U0001f600"]) == '["\ufffd", {"\ufffd": "a\ufffdb"}, "\U0001f600"]'


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed")
def test_jq_reads_a_result_with_half_of_a_surrogate_pair() -> None:
    done = subprocess.run(["jq", "-c", "."], input=dump([{"result": "\ud800"}]), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '[{"result":"\ufffd"}]\n')


def test_watching_refuses_formats_that_cannot_change() -> None:
    with pytest.raises(UsageError, match="-o csv"):
        watch(Output("csv"), VIEW, lambda: ROWS, 0)


def _environment(program: Program) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_a_reader_that_leaves_is_no_error(program: Program) -> None:
    script = f"set -o pipefail; {sys.executable} -m tqctl config show -o jsonl | head -1 >/dev/null"
    for _ in range(3):
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=False, env=_environment(program)
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_output_to_a_closed_pipe_ends_with_0(program: Program) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "tqctl", "config", "show", "-o", "json"],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env=_environment(program),
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_told(program: Program) -> None:
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tqctl", "config", "show"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env=_environment(program),
        )
    assert done.returncode == 1
    assert "error: stdout cannot be written: No space left" in done.stderr


def test_a_terminal_gets_a_drawn_table(program: Program) -> None:
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "tqctl", "context", "list", "--color", "always"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env=_environment(program) | {"TERM": "xterm-256color", "COLUMNS": "100"},
    )
    assert done.wait(30) == 0
    os.close(follower)
    text = b"".join(itertools.takewhile(bool, iter(lambda: _read(leader), b""))).decode()
    os.close(leader)
    assert "\x1b[1m" in text
    assert "private Valkey" in text


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # how Linux tells that a terminal's other side is closed
        return b""
