"""What an installed tqctl consists of, and that it lives beside a user's own folders of the same names."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def test_every_top_level_name_of_the_wheel_is_our_own(names: list[str]) -> None:
    top = {name.partition("/")[0] for name in names}
    assert {"tqctl", "tqctl_runtime", "tqctl_campaigns"} <= top
    assert all(name.startswith("tqctl") for name in top)


@pytest.mark.parametrize(
    ("folder", "package", "pattern"),
    [
        ("tqctl", "tqctl", "**/*.py"),
        ("runtime/tqctl_runtime", "tqctl_runtime", "**/*.py"),
        ("runtime/tqctl_runtime", "tqctl_runtime", "**/*.lua"),
        ("campaigns/tqctl_campaigns", "tqctl_campaigns", "**/*.py"),
        ("completions", "tqctl/_completions", "*tqctl*"),
    ],
)
def test_the_wheel_has_every_file_of_the_checkout(names: list[str], folder: str, package: str, pattern: str) -> None:
    files = {f"{package}/{path.relative_to(ROOT / folder)}" for path in (ROOT / folder).glob(pattern)}
    assert files
    assert files <= set(names)


def test_the_wheel_has_nothing_that_only_developers_need(names: list[str]) -> None:
    assert not [name for name in names if "README" in name or "tests/" in name or "__pycache__" in name]


def test_the_wheel_declares_its_program_types_and_license(wheel: Path, names: list[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        scripts = next(name for name in names if name.endswith("entry_points.txt"))
        assert "tqctl = tqctl.__main__:main" in archive.read(scripts).decode()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert "tqctl/py.typed" in names
    assert "tqctl_runtime/py.typed" in names


def test_a_users_own_folders_and_ours_do_not_meet(tmp_path: Path) -> None:
    for name in ("campaigns", "templates", "completions"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "runtime.py").write_text("MINE = True\n")
    code = (
        "import campaigns, completions, runtime, templates\n"
        "import tqctl, tqctl_campaigns, tqctl_runtime.core.states\n"
        "assert campaigns.MINE and completions.MINE and runtime.MINE and templates.MINE\n"
        "from tqctl import Client, handler\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, check=True)
    done = subprocess.run([sys.executable, "-m", "tqctl", "--version"], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tqctl ")
