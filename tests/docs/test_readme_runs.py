"""The README's own handler works as it is printed, on the embedded default."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.docs.generate import ROOT
from tests.support.environment import Environment

BLOCKS = re.findall(
    r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


# slow: starts the whole stack
@pytest.mark.slow
def test_the_printed_handler_runs_from_the_shell_and_from_python(embedded: Environment) -> None:
    tasks, client = BLOCKS
    assert tasks.startswith("# tasks.py\n")
    (embedded.home / "tasks.py").write_text(tasks)
    (embedded.home / "client.py").write_text(client)
    up = embedded.run("up", "--detach", "--app", "tasks.py")
    assert up.returncode == 0, up.stderr
    shell = embedded.run("submit", "resize", "-p", "path=cat.png", "-p", "width=320", "--wait")
    assert (shell.returncode, shell.stdout) == (0, '{"width": 320, "quality": 85}\n'), shell.stderr
    python = subprocess.run(
        [sys.executable, "client.py"], cwd=embedded.home, env=embedded.env, capture_output=True, text=True, timeout=40
    )
    assert (python.returncode, python.stdout) == (0, "{'width': 320, 'quality': 85}\n"), python.stderr
    shown = embedded.run("handler", "show", "resize")
    assert shown.returncode == 0
    assert "width" in shown.stdout
    down = embedded.run("down")
    assert down.returncode == 0, down.stderr
    assert not embedded.processes()
