"""Writes what the repository keeps of what the code says: ``make docs``. The tests compare, so nothing goes stale."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from tqctl_runtime.config import PREFIX, format_value
from tqctl_runtime.core.settings import SETTING_FIELDS
from tqctl_runtime.core.states import FINAL, TRANSITIONS, State

ROOT = Path(__file__).resolve().parents[2]
_CONFIGURATION = """# Configuration

*Generated from `runtime/tqctl_runtime/core/settings.py` by `make docs`.*

A setting has one name in three spellings: `lease` in a file, `TQCTL_LEASE` in the environment, `--lease` on the
command line of the commands that use it. The first of these that says something wins, and `tqctl config show` tells
which it was:

1. flags of the command line
2. `TQCTL_*` in the environment
3. the table `[contexts.NAME]` of a file, for the context picked by `-c NAME`, `TQCTL_CONTEXT` or `context =` in a file
4. `./tqctl.toml`, then `$XDG_CONFIG_HOME/tqctl/config.toml`
5. the defaults below

```toml
# ~/.config/tqctl/config.toml
concurrency = 10

[contexts.production]
redis_url = "rediss://tqctl:${REDIS_PASSWORD}@redis.internal:6380/0"
database_url_file = "/run/secrets/tqctl-database-url"
lease = "1m"
```

Durations are `250ms 30s 5m 2h 7d`, sizes `10MB 64KiB`, lists are parted by commas. A secret is never a flag: it comes
from the environment, from a file (`redis_url_file`) or from a `${VARIABLE}`; a URL with a password on the command line
is refused.

Everything a context owns lies in `TQCTL_HOME/CONTEXT`; `home` itself defaults to `$XDG_DATA_HOME/tqctl`, else
`~/.local/share/tqctl`.

| setting | variable | kind | default | what it is |
|---|---|---|---|---|
"""


def configuration_page() -> str:
    """``docs/configuration.md``."""
    rows = []
    for name, item in SETTING_FIELDS.items():
        default = "see above" if name == "home" else format_value(name, item.default)
        shown = f"`{default}`" if default and name != "home" else default or "–"
        kind = item.metadata["kind"] + (", secret" if item.metadata["secret"] else "")
        rows.append(f"| `{name}` | `{PREFIX}{name.upper()}` | {kind} | {shown} | {item.metadata['help']} |")
    return _CONFIGURATION + "\n".join(rows) + "\n"


def state_diagram() -> str:
    """The states and the operations between them, as a Mermaid diagram and a table of transitions."""
    lines = ["```mermaid", "stateDiagram-v2"]
    for (before, after), operations in TRANSITIONS.items():
        lines.append(f"    {before or '[*]'} --> {after}: {', '.join(operations)}")
    lines += [f"    {state} --> [*]" for state in State if state in FINAL]
    return "\n".join([*lines, "```"]) + "\n"


def semantics_page() -> str:
    """``docs/semantics.md`` with its diagram written anew; the words around it are written by hand."""
    text = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    begin, end = "<!-- generated: states -->\n", "<!-- end of generated -->\n"
    pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    fresh, count = pattern.subn(lambda _: begin + state_diagram() + end, text)
    if count != 1:
        raise ValueError("docs/semantics.md needs exactly one place for the state diagram")
    return fresh


def completion_script(shell: str) -> str:
    """``completions/``: what ``tqctl completion SHELL`` prints."""
    from tqctl.completion import script

    return script(shell).rstrip("\n") + "\n"


#: File in the repository → what makes its text.
PAGES: dict[str, Callable[[], str]] = {
    "docs/configuration.md": configuration_page,
    "docs/semantics.md": semantics_page,
    "completions/tqctl.bash": lambda: completion_script("bash"),
    "completions/_tqctl": lambda: completion_script("zsh"),
    "completions/tqctl.fish": lambda: completion_script("fish"),
}


def main() -> int:
    """Write every page that is not fresh, and name it."""
    for name, make in PAGES.items():
        path, text = ROOT / name, make()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
