"""The frame of all commands: help, mistakes, exit codes, flags, crash files, start-up."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.cli.conftest import Broker, Program
from tqctl import cli
from tqctl.__main__ import EXIT_CODES
from tqctl.flags import Flags
from tqctl.mistakes import tell
from tqctl.session import Session
from tqctl.starting import settings_for_start
from tqctl_runtime.core import errors

ROOT = Path(__file__).parents[2]


def walk(command: Any, context: Any) -> Iterator[tuple[Any, Any]]:
    yield command, context
    if hasattr(command, "list_commands"):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            yield from walk(child, typer.Context(child, info_name=name, parent=context))


def whole_tree() -> list[tuple[Any, Any]]:
    root = cli.build()
    return list(walk(root, typer.Context(root, info_name="tqctl", obj=Flags())))


@pytest.fixture(scope="module")
def tree() -> list[tuple[Any, Any]]:
    return whole_tree()


def test_each_short_flag_means_one_thing_everywhere(tree: list[tuple[Any, Any]]) -> None:
    meanings: dict[str, set[str]] = defaultdict(set)
    for command, context in tree:
        for param in command.get_params(context):
            for name in param.opts:
                if name.startswith("-") and not name.startswith("--"):
                    meanings[name].add(max(param.opts, key=len))
    assert {name: found for name, found in meanings.items() if len(found) > 1} == {}
    known = {"-c", "-o", "-p", "-q", "-v", "-w", "-n", "-y", "-f", "-F", "-h", "-V"}
    assert set(meanings) <= known


def test_every_command_takes_the_global_flags(tree: list[tuple[Any, Any]]) -> None:
    wanted = {"--output", "--context", "--quiet", "--verbose", "--yes", "--no-input", "--color", "--fields", "--help"}
    for command, context in tree:
        names = {name for param in command.get_params(context) for name in param.opts}
        assert wanted <= names, context.command_path


def test_every_command_has_help_within_80_columns(tree: list[tuple[Any, Any]]) -> None:
    for command, context in tree:
        text = command.get_help(context)
        assert command.help, context.command_path
        assert max(map(len, text.splitlines())) <= 80, context.command_path


def test_every_noun_shows_examples(tree: list[tuple[Any, Any]]) -> None:
    for command, context in tree:
        if hasattr(command, "list_commands"):
            assert command.epilog.count("\n") >= 1, context.command_path


def test_no_flag_of_ours_shadows_another_of_the_same_command(tree: list[tuple[Any, Any]]) -> None:
    for command, context in tree:
        names = [name for param in command.get_params(context) for name in (*param.opts, *param.secondary_opts)]
        assert len(names) == len(set(names)), context.command_path


def test_bare_words_print_short_help_and_succeed(program: Program) -> None:
    for words in ([], ["task"], ["queue"], ["config"]):
        said = program.done(*words)
        assert said.out.startswith("Usage: tqctl")
        assert said.out.count("  tqctl ") >= 3, words
        assert said.err == ""


def test_help_of_the_root_imports_no_command(program: Program) -> None:
    code = (
        "import sys; from tqctl.__main__ import main; main(['-h']); print([m for m in sys.modules if 'commands.' in m])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_env())
    assert done.stdout.splitlines()[-1] == "[]"


def test_aliases_of_verbs_work(program: Program) -> None:
    assert program.done("context", "ls", "-o", "name").out == program.done("context", "list", "-o", "name").out
    assert program.done("config", "get", "lease").out == program.done("config", "show", "lease").out


def test_half_words_are_not_guessed_and_near_ones_are_suggested(program: Program) -> None:
    for words, hint in (
        (["tsak", "list"], "did you mean tqctl task?"),
        (["task", "lits"], "did you mean tqctl task list or"),
        (["config", "shwo"], "did you mean tqctl config show?"),
        (["conf"], ""),
    ):
        said = program.run(*words)
        assert said.code == 2
        assert hint in said.err


def test_an_unknown_option_suggests_the_near_one(program: Program) -> None:
    said = program.run("config", "show", "--outptu", "json")
    assert said.code == 2
    assert "hint: did you mean --output?" in said.err


def test_the_innermost_flag_wins(program: Program) -> None:
    assert program.done("-o", "csv", "config", "-o", "table", "show", "-o", "name", "lease").out == "lease\n"
    assert program.done("-o", "name", "config", "show", "lease").out == "lease\n"
    assert json.loads(program.done("config", "-o", "ndjson", "show", "lease").out)["name"] == "lease"


def test_an_unknown_format_is_refused(program: Program) -> None:
    said = program.run("config", "show", "-o", "xml")
    assert said.code == 2
    assert "not one of table, wide, json, jsonl, csv, name" in said.err


@pytest.mark.parametrize("port", ["99999", "abc", "0", "5432x"])
def test_a_port_that_is_none_is_a_mistake_in_the_settings(program: Program, port: str) -> None:
    program.set(TQCTL_DATABASE_URL=f"postgresql://me@[::1]:5432,db:{port}/tasks")
    said = program.run("db", "upgrade")
    assert said.code == 78
    assert "the port of the database URL is not 1 to 65535" in said.err


def test_a_record_is_never_made_in_a_folder_that_does_not_exist(program: Program, tmp_path: Path) -> None:
    program.set(TQCTL_DATABASE_URL=f"sqlite:///{tmp_path}/no such/record.db")
    said = program.run("db", "upgrade")
    assert said.code == 78
    assert f"mkdir -p '{tmp_path}/no such'" in said.err
    assert not (tmp_path / "no such").exists()


def test_nothing_may_follow_two_dashes_where_no_command_is_run(program: Program) -> None:
    assert program.run("config", "show", "--", "lease").code == 2


@pytest.mark.parametrize("words", [["-o", "json"], ["-ojson"], ["--output", "json"], ["--output=jsonl"]])
def test_errors_are_json_where_json_was_asked_for_even_of_mistakes(program: Program, words: list[str]) -> None:
    said = program.run("config", "show", "--bogus", *words)
    body = json.loads(said.err)["error"]
    assert (said.code, body["code"], body["retryable"]) == (2, "usage", False)
    assert set(body) == {"code", "message", "hint", "retryable"}


def test_every_error_on_purpose_has_an_exit_code() -> None:
    def kinds(kind: type[errors.TqctlError]) -> Iterator[type[errors.TqctlError]]:
        yield kind
        for child in kind.__subclasses__():
            yield from kinds(child)

    missing = {kind.__name__: kind.code for kind in kinds(errors.TqctlError) if kind.code not in EXIT_CODES}
    assert missing == {}


def test_a_bug_leaves_a_crash_file_and_no_traceback(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise ZeroDivisionError("redis://:hunter2@host")

    monkeypatch.setattr("tqctl.output.Output.rows", explode)
    said = program.run("config", "show", "lease")
    assert said.code == 1
    assert "Traceback" not in said.err
    assert "hunter2" not in said.err
    path = Path(said.err.split("the details are in ")[1].strip())
    text = path.read_text()
    assert "ZeroDivisionError" in text
    assert "command tqctl config show lease" in text
    assert "hunter2" not in text
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.parent.stat().st_mode & 0o077 == 0


def test_ctrl_c_is_130(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tqctl.output.Output.rows", interrupt)
    assert program.run("config", "show").code == 130


def test_a_password_on_the_command_line_is_refused(program: Program) -> None:
    said = program.run("config", "show", "--redis-url", "redis://:hunter2@host")
    assert said.code == 2
    assert "hunter2" not in said.err


def test_settings_are_flags_of_the_same_name(program: Program) -> None:
    assert program.done("config", "show", "namespace", "-o", "json", "--namespace", "mine").json[0] == {
        "name": "namespace",
        "value": "mine",
        "origin": "flag: --namespace",
        "help": "separates installations on one Redis",
    }


def test_config_shows_where_values_come_from_and_masks_secrets(program: Program) -> None:
    (program.folder / "tqctl.toml").write_text('lease = "12s"\nredis_url = "redis://:hunter2@host"\n[contexts.prod]\n')
    program.set(TQCTL_GRACE="7s")
    rows = {row["name"]: row for row in program.done("config", "show", "-o", "json").json}
    assert (rows["lease"]["value"], rows["lease"]["origin"]) == ("12s", f"{program.folder}/tqctl.toml: lease")
    assert rows["grace"]["origin"] == "environment: TQCTL_GRACE"
    assert rows["redis_url"]["value"] == "redis://:***@host"
    assert rows["drain"]["origin"] == "default"
    assert program.done("context", "list", "-o", "name").lines == ["default", "prod"]
    assert program.done("-c", "prod", "context", "show", "-o", "json").json["is_current"] is True
    assert program.run("-c", "nosuch", "context", "show").code == 78
    assert "no context is called 'nosuch' (flag: --context)" in program.run("-c", "nosuch", "status").err
    assert program.done("config", "path", "-o", "json").json[0]["exists"] is True


def test_a_broken_file_is_78_and_names_the_key(program: Program) -> None:
    (program.folder / "tqctl.toml").write_text('laese = "12s"')
    said = program.run("config", "show")
    assert said.code == 78
    assert "laese" in said.err
    assert "did you mean lease" in said.err


def test_a_wrong_context_is_listed_with_its_error_beside_the_others(program: Program) -> None:
    (program.folder / "tqctl.toml").write_text('context = "bad"\n[contexts.bad]\nlaese = "1s"\n[contexts.good]\n')
    said = program.done("context", "list", "-o", "json")
    rows = {row["name"]: row for row in said.json}
    assert set(rows) == {"bad", "default", "good"}
    assert "laese is not a setting" in rows["bad"]["error"]
    assert rows["bad"]["is_current"] is True
    assert rows["good"]["error"] is None
    assert "laese is not a setting" in program.done("context", "list").out


def test_an_app_that_cannot_be_imported_is_told_in_lines(program: Program) -> None:
    error = errors.ConfigError("broken.py cannot be imported\nTraceback:\n  \x1b[31mboom")
    with pytest.MonkeyPatch.context() as patch:
        written: list[str] = []
        patch.setattr("tqctl.mistakes.say", written.append)
        tell(error, Flags(), [])
        assert written == ["error: broken.py cannot be imported", "Traceback:", "  \x1b[31mboom"]
        written.clear()
        tell(errors.NotFound("no task\nhint: rm -rf"), Flags(), [])
        assert written == ["error: no task\nhint: rm -rf"]


def test_quiet_leaves_the_log_files_of_a_stack_as_they_are() -> None:
    session = Session(Flags(quiet=True))
    assert settings_for_start(session, logs_here=False).log_level == session.settings.log_level
    assert settings_for_start(session).log_level == "warning"


def test_an_environment_that_beats_a_chosen_context_is_told(program: Program) -> None:
    (program.folder / "tqctl.toml").write_text('[contexts.prod]\nredis_url = "redis://prod"')
    program.set(TQCTL_REDIS_URL="redis://elsewhere")
    assert "goes before context prod" in program.done("-c", "prod", "config", "show").err


def test_version_has_two_forms(program: Program) -> None:
    assert program.done("--version").out == program.done("-V").out
    item = program.done("version", "-o", "json").json
    assert f"tqctl {item['version']}\n" == program.done("--version").out
    assert set(item) == {"version", "output_version", "python", "platform", "packages"}


def _env() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


HEAVY = ("rich", "redis", "sqlalchemy", "sqlmodel", "sqlite3", "psycopg", "asyncio", "pydantic", "textual", "tomllib")


@pytest.mark.parametrize(
    "words",
    [["--version"], ["-V"], ["submit", "--help"], ["__complete", "queues", ""], ["submit", "echo", "-p", "message=x"]],
)
def test_light_commands_load_nothing_heavy(program: Program, words: list[str]) -> None:
    program.set(TQCTL_REDIS_URL="redis://127.0.0.1:1")
    code = (
        "import sys; from tqctl.__main__ import main; main(sys.argv[1:]); "
        f"sys.stderr.write('loaded: ' + ','.join(sorted(set({HEAVY!r}) & set(sys.modules))) + '\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=_env())
    assert done.stderr.splitlines()[-1] == "loaded: "


def test_a_submit_that_succeeds_loads_nothing_heavy(program: Program, broker: Broker) -> None:
    code = (
        "import sys; from tqctl.__main__ import main; code = main(sys.argv[1:]); "
        f"sys.stderr.write('loaded: ' + ','.join(sorted(set({HEAVY!r}) & set(sys.modules))) + '\\n'); sys.exit(code)"
    )
    words = ["submit", "echo", "-p", "message=x", "-q"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=_env())
    assert (done.returncode, done.stderr) == (0, "loaded: \n")


def test_version_does_not_even_load_typer(program: Program) -> None:
    code = "import sys; from tqctl.__main__ import main; main(['--version']); sys.exit('typer' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], check=False, env=_env(), stdout=subprocess.DEVNULL).returncode == 0
    )


_INTERRUPTED = """
import runpy
import tqctl.cli

class Interrupted:
    def main(self, *words, **options):
        exec("raise KeyboardInterrupt")

tqctl.cli.build = Interrupted
runpy.run_module("tqctl", run_name="__main__", alter_sys=True)
"""


def test_an_interrupt_ends_with_its_code_also_where_it_came_in_text_that_was_executed(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text(_INTERRUPTED)
    words = [sys.executable, "-m", "interrupted"]
    assert subprocess.run(words, cwd=tmp_path, check=False, env=_env()).returncode == 130


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_fresh(program: Program, shell: str) -> None:
    names = {"bash": "tqctl.bash", "zsh": "_tqctl", "fish": "tqctl.fish"}
    kept = (ROOT / "completions" / names[shell]).read_text()
    assert program.done("completion", shell).out == kept, f"tqctl completion {shell} > completions/{names[shell]}"


def complete(line: str, *, cwd: Path) -> list[str]:
    """What bash offers at the end of *line*."""
    words = line.split(" ")
    script = (
        f'source {ROOT}/completions/tqctl.bash; tqctl() {{ {sys.executable} -m tqctl "$@"; }}; '
        f"COMP_WORDS=({' '.join(repr(word) for word in words)}); COMP_CWORD={len(words) - 1}; _tqctl; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=_env(), cwd=cwd)
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tqctl ta", ["task"]),
        ("tqctl queue pa", ["pause"]),
        ("tqctl -o json queue pa", ["pause"]),
        ("tqctl task list --stat", ["--state"]),
        ("tqctl task list --state de", ["dead"]),
        ("tqctl task list -o js", ["json", "jsonl"]),
        ("tqctl -c pro", ["prod"]),
        ("tqctl context show p", ["prod"]),
        ("tqctl completion f", ["fish"]),
        ("tqctl submit shell -- ls -", []),
    ],
)
def test_bash_completes(program: Program, line: str, offered: list[str]) -> None:
    (program.folder / "tqctl.toml").write_text("[contexts.prod]")
    assert complete(line, cwd=program.folder) == offered


def test_completion_without_a_server_is_silent(program: Program) -> None:
    said = program.run("__complete", "queues", "")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert program.run("__complete").code == 0


def test_several_hints_of_doctor_are_not_told_as_one(program: Program, broker: Broker) -> None:
    said = program.run("doctor", "--problems", "-o", "json")
    assert said.code == 20
    assert len({row["hint"] for row in said.json}) > 1
    assert json.loads(said.err)["error"]["hint"] == "see the hints above"
