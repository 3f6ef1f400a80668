"""The tree of commands: a static table, so that help and mistakes import no command's module."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
import typer.main

from tqctl.flags import Flags, Group

#: name → (module in tqctl.commands, one line of help), in the order of the help page.
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("stack", "start everything: broker, coordinator, workers"),
    "down": ("stack", "stop what up started"),
    "status": ("stack", "what runs, since when, and its logs"),
    "submit": ("submit", "queue one task or a batch"),
    "task": ("task", "list, show, result, logs, wait, cancel, retry"),
    "queue": ("queue", "list, show, pause, resume, purge"),
    "dlq": ("dlq", "dead letters: list, show, requeue, discard"),
    "handler": ("handler", "what workers can run"),
    "worker": ("worker", "start, list, show"),
    "coordinator": ("coordinator", "start, status"),
    "db": ("db", "upgrade the schema of the record"),
    "doctor": ("doctor", "check the installation"),
    "health": ("health", "what the checks found over time, what was recovered from"),
    "config": ("config", "settings and where they come from"),
    "context": ("context", "named sets of settings"),
    "completion": ("completion", "scripts for bash, zsh, fish"),
    "version": ("version", "versions of tqctl and what it runs on"),
}
EXAMPLES = """Examples:
  tqctl up --detach
  tqctl submit echo -p message=hi --wait
  tqctl task list --state dead --since 1h"""


class Root(Group):
    """The program itself: commands are imported when they are called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import and build the command called *cmd_name*."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = load_command(cmd_name)
        return self.commands[cmd_name]

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Cut off what follows the first ``--`` before any option is read."""
        if "--" in args and isinstance(ctx.obj, Flags):
            place = args.index("--")
            ctx.obj.tail = args[place + 1 :]
            args = args[:place]
        return super().parse_args(ctx, args)


def load_command(name: str) -> Any:
    """The command or group called *name*, built from its module: the attribute ``app``, or ``NAME_app``."""
    module = import_module(f"tqctl.commands.{COMMANDS[name][0]}")
    app = getattr(module, f"{name}_app", None) or module.app
    command = typer.main.get_command(app)
    command.name = name
    return command


def _show_version(value: bool) -> None:
    if value:
        from tqctl._version import __version__

        typer.echo(f"tqctl {__version__}")
        raise typer.Exit


def build() -> Root:
    """The root command."""
    app = typer.Typer(
        cls=Root,
        name="tqctl",
        help="A task queue operated from the terminal.",
        epilog=EXAMPLES,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(
        version: bool = typer.Option(
            False, "--version", "-V", is_eager=True, callback=_show_version, help="print the version"
        ),
    ) -> None:
        """Nothing happens before the command."""

    command = typer.main.get_command(app)
    assert isinstance(command, Root)
    return command
