"""``tqctl completion``: scripts for bash, zsh and fish."""

from __future__ import annotations

from typing import Annotated

import typer

from tqctl.flags import single, verb
from tqctl.session import open_session

completion_app = single()
_EXAMPLES = """  source <(tqctl completion bash)
  tqctl completion zsh > ~/.zfunc/_tqctl
  tqctl completion fish > ~/.config/fish/completions/tqctl.fish"""


@verb(completion_app, "completion", examples=_EXAMPLES)
def completion(ctx: typer.Context, shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish")]) -> None:
    """Print the completion script for a shell."""
    from tqctl.completion import SHELLS, script
    from tqctl_runtime.core.errors import UsageError

    session = open_session(ctx)
    if shell not in SHELLS:
        raise UsageError(f"{shell!r} is not a shell tqctl knows", hint="one of " + ", ".join(SHELLS))
    session.output.line(script(shell).rstrip("\n"))
