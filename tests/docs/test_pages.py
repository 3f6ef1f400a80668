"""What the pages say exists: commands and options, files, and the numbers of invariants."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.docs.generate import ROOT
from tqctl.completion import tree

PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
COMMANDS = {node.path: {name for option in node.options for name in option.names} for node in tree()}
INVARIANT = re.compile(r"\bINV-(\d+)\b")


def words_of(line: str) -> list[list[str]]:
    """The commands of a line of shell, each as its words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("|&;<>()"):
            commands.append([])
        else:
            commands[-1].append(word)
    return commands


def commands() -> list[tuple[str, list[str]]]:
    """(page, words after the program) of every command in a fenced block of shell that calls tqctl."""
    fence = re.compile(r"^```(?:sh|console|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
    found = [
        (page.name, words)
        for page in PAGES
        for block in fence.findall(page.read_text(encoding="utf-8"))
        for line in block.replace("\\\n", " ").splitlines()
        for words in words_of(line.removeprefix("$ "))
    ]
    return [(page, words[1:]) for page, words in found if words[:1] == ["tqctl"]]


@pytest.mark.parametrize(("page", "words"), commands(), ids=str)
def test_a_documented_command_and_its_options_exist(page: str, words: list[str]) -> None:
    words = words[: words.index("--")] if "--" in words else list(words)
    path = ""
    while words and f"{path} {words[0]}".strip() in COMMANDS:
        path = f"{path} {words.pop(0)}".strip()
    unknown = [
        word for word in words if word.startswith("-") and word != "-" and word.partition("=")[0] not in COMMANDS[path]
    ]
    assert path or set(words) <= {"--version", "--help"}, f"no such command: {words}"
    assert not unknown, f"tqctl {path} has no {unknown}"


def test_the_readme_stays_short_and_has_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("\n") <= 150
    assert "make demo" in text
    assert "make test" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_invariant_that_is_cited_is_written_down_and_every_one_written_down_is_held_by_something() -> None:
    defined = set(
        re.findall(r"^\*\*INV-(\d+) ·", (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    folders = [ROOT / "runtime", ROOT / "tqctl", ROOT / "tests"]
    files = [path for folder in folders for kind in ("*.py", "*.lua") for path in folder.rglob(kind)]
    cited = {number for path in files for number in INVARIANT.findall(path.read_text(encoding="utf-8"))}
    assert defined == cited


def test_every_exit_code_and_every_field_of_a_batch_line_is_documented() -> None:
    from tqctl.__main__ import EXIT_CODES
    from tqctl.wish import LINE_FIELDS

    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    rows = {cells[1].strip(): cells[2] for cells in (line.split("|") for line in page.splitlines()) if len(cells) == 5}
    assert {word for word, code in EXIT_CODES.items() if f"`{word}`" not in rows.get(str(code), "")} == set()
    fields = " ".join(line.split("|")[1] for line in page.partition("## Lines")[2].splitlines() if line.startswith("|"))
    assert set(re.findall(r"`(\w+)`", fields)) == set(LINE_FIELDS)


def test_every_chaos_scenario_has_its_row_and_every_row_finds_a_scenario() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    table = page.partition("## The scenarios")[2]
    words = [word for cell in re.findall(r"\| `([\w ]+)` \|$", table, re.MULTILINE) for word in str(cell).split(" or ")]
    files = [path for path in (ROOT / "tests" / "chaos").glob("test_*.py") if path.name != "test_oracle.py"]
    names = [name for path in files for name in re.findall(r"^def (test_\w+)", path.read_text("utf-8"), re.MULTILINE)]
    assert [name for name in names if not any(word in name for word in words)] == []
    assert [word for word in words if not any(word in name for name in names)] == []
