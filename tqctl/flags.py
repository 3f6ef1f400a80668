"""The flags every command takes, and the command classes that add them.

A flag may stand on the root, the noun or the verb; the innermost wins. Values go to the one :class:`Flags` of a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

FORMATS = ("table", "wide", "json", "jsonl", "csv", "name")
COLORS = ("auto", "always", "never")
ALIASES = {"ls": "list", "get": "show", "rm": "delete"}
_MAY_BE_EMPTY = frozenset({"reason"})
#: Settings that say where the servers are: accepted, hidden in help, by every command.
CONNECTION_SETTINGS = ("redis_url", "database_url", "namespace", "home")


@dataclass(slots=True)
class Flags:
    """What the global flags said; *settings* holds raw values by name, *tail* what followed the first ``--``.

    *words* is the whole command line as typed, without the program's name.
    """

    output: str | None = None
    fields: tuple[str, ...] = ()
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0
    yes: bool = False
    no_input: bool = False
    settings: dict[str, Any] = field(default_factory=dict)
    tail: list[str] | None = None
    command: str = "tqctl"
    words: tuple[str, ...] = ()


def parse_format(word: str) -> str:
    """The output format called *word*.

    Raises:
        typer.BadParameter: there is none.
    """
    low = "jsonl" if word.lower() == "ndjson" else word.lower()
    if low not in FORMATS:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(FORMATS)}")
    return low


def _parse_color(word: str) -> str:
    if word not in COLORS:
        raise typer.BadParameter(f"{word!r} is not one of {', '.join(COLORS)}")
    return word


def _parse_fields(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _store(name: str, convert: Callable[[Any], Any]) -> Callable[..., Any]:
    def callback(ctx: Any, param: Any, value: Any) -> Any:
        if _is_given(ctx, param.name) and isinstance(ctx.obj, Flags):
            setattr(ctx.obj, name, convert(value))
        return value

    return callback


def _store_setting(name: str) -> Callable[..., Any]:
    def callback(ctx: Any, param: Any, value: Any) -> Any:
        if _is_given(ctx, param.name) and isinstance(ctx.obj, Flags):
            if isinstance(value, str) and "://" in value:
                from tqctl_runtime.config import refuse_password

                refuse_password(name, value)
            ctx.obj.settings[name] = [part for item in value for part in item.split(",")] if param.multiple else value
        return value

    return callback


def _is_given(ctx: Any, name: str) -> bool:
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _option(*names: str, store: Callable[..., Any], **extra: Any) -> TyperOption:
    return TyperOption(param_decls=list(names), callback=store, expose_value=False, show_default=False, **extra)


def global_options() -> list[TyperOption]:
    """Fresh option objects of the global flags."""
    same = _same
    return [
        _option("-o", "--output", metavar="FORMAT", help="/".join(FORMATS), store=_store("output", parse_format)),
        _option("--fields", metavar="A,B.C", help="show only these fields", store=_store("fields", _parse_fields)),
        _option("-c", "--context", metavar="NAME", help="named settings", store=_store_setting("context")),
        _option("-q", "--quiet", is_flag=True, help="no summary lines", store=_store("quiet", same)),
        _option("-v", "--verbose", count=True, type=int, help="say more (counts)", store=_store("verbose", same)),
        _option("-y", "--yes", is_flag=True, help="answer yes to questions", store=_store("yes", same)),
        _option("--no-input", is_flag=True, help="never ask", store=_store("no_input", same)),
        _option("--color", metavar="WHEN", help="/".join(COLORS), store=_store("color", _parse_color)),
    ]


def setting_options(names: tuple[str, ...], taken: set[str], *, hidden: bool) -> list[TyperOption]:
    """Options for the settings *names* (``--lease`` for ``lease``), leaving out spellings in *taken*."""
    from tqctl_runtime.core.settings import SETTING_FIELDS

    options = []
    for name in names:
        spelling = "--" + name.replace("_", "-")
        if spelling in taken:
            continue
        kind = SETTING_FIELDS[name].metadata["kind"]
        extra: dict[str, Any] = {"metavar": kind.upper()}
        if kind == "bool":
            spelling, extra = f"{spelling}/--no-{spelling[2:]}", {"is_flag": True}
        elif kind == "list":
            extra["multiple"] = True
        help_text = SETTING_FIELDS[name].metadata["help"]
        options.append(_option(spelling, help=help_text, hidden=hidden, store=_store_setting(name), **extra))
    return options


def _same(value: Any) -> Any:
    return value


def _spellings(params: list[Any]) -> set[str]:
    return {name for param in params for name in (*param.opts, *param.secondary_opts)}


def write_examples(text: str | None, formatter: Any) -> None:
    """Write the examples of a help page as they stand, since shells care about line breaks."""
    if text:
        formatter.write_paragraph()
        formatter.write("\n".join(text.strip("\n").splitlines()) + "\n")


class Command(TyperCommand):
    """A verb with the global flags."""

    takes_tail = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        options = setting_options(CONNECTION_SETTINGS, _spellings(self.params), hidden=True)
        self.params = [*self.params, *options, *global_options()]

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, remember who runs, and refuse what followed ``--`` unless this command runs programs."""
        if isinstance(ctx.obj, Flags):
            ctx.obj.command = ctx.command_path
            if ctx.obj.tail is not None and not self.takes_tail and not ctx.resilient_parsing:
                ctx.fail("nothing may follow -- here")
        rest = super().parse_args(ctx, args)
        if not ctx.resilient_parsing:
            self._refuse_empty(ctx)
        return rest

    def _refuse_empty(self, ctx: Any) -> None:
        """An empty value is a variable of a script that is not set: it must not mean the default, or everything."""
        for param in self.params:
            value = ctx.params.get(param.name)
            values = value if isinstance(value, list | tuple) else [value]
            is_checked = param.param_type_name == "option" and param.name not in _MAY_BE_EMPTY
            if is_checked and "" in values and _is_given(ctx, str(param.name)):
                ctx.fail(f"{param.opts[0]} is empty")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        write_examples(self.epilog, formatter)


class TailCommand(Command):
    """A verb that may be followed by ``-- COMMAND ARG...``."""

    takes_tail = True


class StartCommand(Command):
    """A verb that starts processes: it takes every setting as a flag and shows those of :attr:`shown` in its help."""

    shown: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from tqctl_runtime.core.settings import SETTING_FIELDS

        kwargs["epilog"] = f"Every setting is a flag too: tqctl config show\n\n{kwargs.get('epilog') or ''}".rstrip()
        super().__init__(*args, **kwargs)
        taken = _spellings(self.params)
        others = tuple(name for name in SETTING_FIELDS if name not in {"context", *self.shown})
        shown = setting_options(self.shown, taken, hidden=False)
        self.params = [*shown, *self.params, *setting_options(others, taken, hidden=True)]


class WorkerCommand(StartCommand):
    """Starts a worker."""

    shown = ("app", "queues", "concurrency", "processes", "allow_shell", "lease", "grace", "drain")


class UpCommand(StartCommand):
    """Starts everything."""

    shown = ("app", "workers", *WorkerCommand.shown[1:])


class Group(TyperGroup):
    """A noun: verbs, their aliases, the global flags, and suggestions for misspelt verbs."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs["invoke_without_command"] = True
        super().__init__(**kwargs)
        options = setting_options(CONNECTION_SETTINGS, _spellings(self.params), hidden=True)
        self.params = [*self.params, *options, *global_options()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The verb called *cmd_name* or its alias."""
        found = super().get_command(ctx, cmd_name)
        return found or super().get_command(ctx, ALIASES.get(cmd_name, cmd_name))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse and remember who runs."""
        if isinstance(ctx.obj, Flags):
            ctx.obj.command = ctx.command_path
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the verb; without one print the short help, which is no mistake."""
        if not ctx._protected_args:
            typer.echo(self.short_page(ctx))
            return None
        return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the verb; a misspelt one is told with near names and never run."""
        word = args[0]
        command = self.get_command(ctx, word)
        if command is not None:
            return command.name, command, args[1:]
        if ctx.resilient_parsing:
            return None, None, args[1:]
        near = get_close_matches(word, [*self.list_commands(ctx), *ALIASES], n=3, cutoff=0.5)
        # An alias is near where its verb is; the verb is what is said.
        near = list(dict.fromkeys(ALIASES.get(name, name) for name in near))
        near = [name for name in near if self.get_command(ctx, name) is not None]
        hint = " or ".join(f"{ctx.command_path} {name}" for name in near)
        raise Misspelt(f"{ctx.command_path} has no command {word!r}", ctx=ctx, suggestion=hint)

    def short_page(self, ctx: Any) -> str:
        """Usage, what it is, the verbs and three examples."""
        formatter = ctx.make_formatter()
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        self.format_commands(ctx, formatter)
        self.format_epilog(ctx, formatter)
        return str(formatter.getvalue()).rstrip("\n")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples."""
        write_examples(self.epilog, formatter)


class Misspelt(typer.BadParameter):
    """A command that does not exist; *suggestion* is what may have been meant."""

    def __init__(self, message: str, *, ctx: Any, suggestion: str) -> None:
        super().__init__(message, ctx=ctx)
        self.suggestion = suggestion

    def format_message(self) -> str:
        """The message alone."""
        return str(self.message)


def noun(help_text: str, examples: str, *, cls: type[Group] = Group) -> typer.Typer:
    """A Typer application for one noun."""
    app = typer.Typer(
        cls=cls,
        help=help_text,
        epilog="Examples:\n" + examples.strip("\n"),
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        suggest_commands=False,
    )

    @app.callback()
    def group() -> None:
        """Make Typer build a group even around a single verb."""

    return app


def verb(
    app: typer.Typer, name: str, *, examples: str = "", cls: type[Command] = Command
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as a command of *app*."""
    epilog = "Examples:\n" + examples.strip("\n") if examples else None
    register = app.command(name, cls=cls, epilog=epilog)

    def resolve(function: Callable[..., Any]) -> Callable[..., Any]:
        # Typer reads the annotations twice, and texts cost a compilation each time.
        function.__annotations__ = {
            key: eval(hint, function.__globals__) if isinstance(hint, str) else hint  # noqa: S307  the module's own code
            for key, hint in function.__annotations__.items()
        }
        return register(function)

    return resolve


def single() -> typer.Typer:
    """A Typer application that holds one command without a noun."""
    return typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
