"""What the page on operations shows works: its units, its shell check, its list of checks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.docs.generate import ROOT
from tqctl_runtime.checks import CHECKS
from tqctl_runtime.core.settings import SETTING_FIELDS
from tqctl_runtime.observe.probe import Probe

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
UNITS = re.findall(r"`/etc/systemd/system/(\S+\.service)`.*?```ini\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_has_nothing_against_the_units(tmp_path: Path) -> None:
    paths = []
    for name, text in UNITS:
        paths.append(tmp_path / name)
        # It looks whether the program can be run.
        paths[-1].write_text(text.replace("/opt/tqctl/bin/tqctl", "/bin/sh"))

    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, paths)], capture_output=True, text=True, check=False
    )

    assert len(paths) == 3
    assert (done.returncode, [line for line in done.stderr.splitlines() if "tqctl" in line]) == (0, [])


def test_the_units_start_commands_that_exist() -> None:
    from tqctl.completion import tree

    commands = {node.path: {name for option in node.options for name in option.names} for node in tree()}
    for line in re.findall(r"^ExecStart=/opt/tqctl/bin/tqctl (.*)$", PAGE, re.MULTILINE):
        words = line.split()
        assert {word for word in words if word.startswith("--")} <= commands[
            " ".join(words[: 1 if words[0] == "up" else 2])
        ]


def test_the_shell_check_works_as_it_is_printed(tmp_path: Path) -> None:
    (command,) = re.findall(r"^find .*$", PAGE, re.MULTILINE)
    folder = tmp_path / "default" / "run"
    folder.mkdir(parents=True)

    def is_alive() -> bool:
        return subprocess.run(["sh", "-c", command], env={"TQCTL_HOME": str(tmp_path)}, check=False).returncode == 0

    before = is_alive()
    Probe(folder, "worker-1").pulse()

    assert (before, is_alive()) == (False, True)


def test_every_check_is_on_the_page() -> None:
    rows = " ".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    assert {name for name in CHECKS if f"`{name}`" not in rows} == set()


def test_the_settings_on_the_page_exist() -> None:
    (table,) = re.findall(r"\| reached \|.*?\n\n", PAGE, re.DOTALL)
    assert set(re.findall(r"`((?:busy|stop)_\w+)`", table)) <= set(SETTING_FIELDS)
