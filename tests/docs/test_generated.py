"""Pages that are made from the code are as fresh as the code."""

from __future__ import annotations

import pytest

from tests.docs.generate import PAGES, ROOT, configuration_page, state_diagram
from tqctl_runtime.core.settings import SETTING_FIELDS
from tqctl_runtime.core.states import TRANSITIONS


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_generated_page_is_fresh(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == PAGES[name](), f"{name} is stale: make docs"


def test_every_setting_is_documented_with_its_variable() -> None:
    page = configuration_page()
    for name in SETTING_FIELDS:
        assert f"| `{name}` | `TQCTL_{name.upper()}` |" in page


def test_the_diagram_shows_every_transition() -> None:
    diagram = state_diagram()
    for before, after in TRANSITIONS:
        assert f"    {before or '[*]'} --> {after}: " in diagram


def test_no_default_of_a_secret_is_told() -> None:
    for item in SETTING_FIELDS.values():
        if item.metadata["secret"]:
            assert item.default is None
