"""Completion scripts, generated from the tree of commands so that a TAB on a command or a flag starts no program.

Names that only the live system knows (queues, handlers …) are asked for by ``tqctl __complete KIND PREFIX``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SHELLS = ("bash", "zsh", "fish")
_FILE = "FILE"
#: Values of options, by any of their names: words to offer, the kind of a live name, or FILE.
_OPTION_VALUES: dict[str, str | tuple[str, ...]] = {
    "--output": ("table", "wide", "json", "jsonl", "csv", "name"),
    "--color": ("auto", "always", "never"),
    "--context": "contexts",
    "--queue": "queues",
    "--queues": "queues",
    "--handler": "handlers",
    "--state": (
        *("scheduled", "waiting", "queued", "running", "retrying", "succeeded", "dead", "cancelled", "expired"),
        *("pending", "completed", "failed"),
    ),
    "--priority": ("low", "normal", "high", "critical"),
    "--durability": ("accepted", "recorded"),
    # The names of the checks, whose import would be most of what a TAB may take; a test holds them to the code.
    "--check": (
        *("files", "disk", "broker", "server-version", "persistence", "eviction-policy", "memory", "record"),
        *("migrations", "pairing", "coordinator", "recorder-lag", "quarantine", "workers", "clock", "versions"),
    ),
    "--log-format": ("text", "json"),
    "--log-level": ("debug", "info", "warning", "error"),
    "--payload": _FILE,
    "--batch": _FILE,
    "--home": _FILE,
    "--app": _FILE,
}
_ARGUMENTS: dict[str, str | tuple[str, ...]] = {
    "submit": "handlers",
    "task show": "tasks",
    "task result": "tasks",
    "task logs": "tasks",
    "task wait": "tasks",
    "task cancel": "tasks",
    "task retry": "tasks",
    "queue show": "queues",
    "queue pause": "queues",
    "queue resume": "queues",
    "queue purge": "queues",
    "handler show": "handlers",
    "worker show": "workers",
    "context show": "contexts",
    "completion": SHELLS,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its spellings, its help, and whether and what kind of value it takes."""

    names: tuple[str, ...]
    help: str
    takes_value: bool
    values: str | tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Node:
    """One command: its words after the program's name, its commands with their help, its options and arguments."""

    path: str
    commands: list[tuple[str, str]] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    arguments: str | tuple[str, ...] | None = None


def tree() -> list[Node]:
    """All commands; importing each of them."""
    import typer

    from tqctl.cli import build

    root = build()
    context = typer.Context(root, info_name="tqctl")
    return list(_walk(root, context, ""))


def _walk(command: Any, context: Any, path: str) -> Iterator[Node]:
    names = command.list_commands(context) if hasattr(command, "list_commands") else []
    children = [(name, command.get_command(context, name)) for name in names]
    shown = [(name, child) for name, child in children if not child.hidden]
    options = [_option(param) for param in command.get_params(context) if _is_shown(param)]
    listed = [(name, _first_line(child)) for name, child in shown]
    yield Node(path, listed, sorted(options, key=lambda option: option.names), _ARGUMENTS.get(path))
    for name, child in shown:
        yield from _walk(child, type(context)(child, info_name=name, parent=context), f"{path} {name}".strip())


def _first_line(command: Any) -> str:
    return str(command.help or "").strip().split("\n")[0].rstrip(".")


def _is_shown(param: Any) -> bool:
    return param.param_type_name == "option" and not param.hidden


def _option(param: Any) -> Option:
    names = (*param.opts, *param.secondary_opts)
    takes_value = not param.is_flag and not param.count
    values = next((_OPTION_VALUES[name] for name in names if name in _OPTION_VALUES), None)
    return Option(tuple(sorted(names)), str(param.help or "").rstrip("."), takes_value, values if takes_value else None)


def script(shell: str) -> str:
    """The completion script for *shell*, one of :data:`SHELLS`."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](tree())


def _kind(values: str | tuple[str, ...] | None) -> str:
    """What a shell function is told: ``=a b`` for words, the kind of a live name, FILE, or nothing."""
    if values is None:
        return ""
    return values if isinstance(values, str) else "=" + " ".join(values)


def _case(nodes: list[Node]) -> list[str]:
    """Shell code (bash and zsh) that sets ``subs opts takes kinds arg`` for ``$path``."""
    lines = ['  case "$path" in']
    for node in nodes:
        names = [name for option in node.options for name in option.names]
        takes = [name for option in node.options if option.takes_value for name in option.names]
        lines += [
            f'    "{node.path}")',
            f'      subs="{" ".join(name for name, _ in node.commands)}"',
            f'      opts="{" ".join(names)}"',
            f'      takes=" {" ".join(takes)} "',
            f'      arg="{_kind(node.arguments)}" ;;',
        ]
    return [*lines, "  esac"]


def _values_case() -> list[str]:
    lines = ['  case "$1" in']
    aliases = {"--output": "-o|--output", "--context": "-c|--context"}
    lines += [f'    {aliases.get(name, name)}) kind="{_kind(values)}" ;;' for name, values in _OPTION_VALUES.items()]
    return [*lines, '    *) kind="" ;;', "  esac"]


_HEAD = """# Completion of tqctl for {name}, generated: tqctl completion {name}
"""

_BASH = """
_tqctl_node() {{
{case}
}}

_tqctl_values() {{
{values}
}}

_tqctl_live() {{
  TQCTL_CONTEXT="${{context:-$TQCTL_CONTEXT}}" tqctl __complete "$1" "$2" 2>/dev/null
}}

_tqctl_offer() {{
  case "$1" in
    =*) COMPREPLY=($(compgen -W "${{1#=}}" -- "$cur")) ;;
    FILE) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur")) ;;
    "") COMPREPLY=() ;;
    *) COMPREPLY=($(compgen -W "$(_tqctl_live "$1" "$cur")" -- "$cur")) ;;
  esac
}}

_tqctl() {{
  local IFS=$' \\t\\n' cur="${{COMP_WORDS[COMP_CWORD]}}" path="" subs opts takes arg kind context="" word previous="" i
  [[ "$cur" == "=" ]] && cur=""
  _tqctl_node
  for ((i = 1; i < COMP_CWORD; i++)); do
    word="${{COMP_WORDS[i]}}"
    if [[ "$word" == "--" ]]; then COMPREPLY=(); return; fi
    if [[ "$word" == "=" ]]; then continue; fi
    if [[ -n "$previous" ]]; then
      [[ "$previous" == "-c" || "$previous" == "--context" ]] && context="$word"
      previous=""
    elif [[ "$takes" == *" $word "* ]]; then
      previous="$word"
    elif [[ " $subs " == *" $word "* ]]; then
      path="${{path:+$path }}$word"
      _tqctl_node
    fi
  done
  if [[ -n "$previous" ]]; then
    _tqctl_values "$previous"
    _tqctl_offer "$kind"
  elif [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$opts" -- "$cur"))
  elif [[ -n "$subs" ]]; then
    COMPREPLY=($(compgen -W "$subs" -- "$cur"))
  else
    _tqctl_offer "$arg"
  fi
}}

complete -F _tqctl tqctl
"""


def _bash(nodes: list[Node]) -> str:
    body = _BASH.format(case="\n".join(_case(nodes)), values="\n".join(_values_case()))
    return _HEAD.format(name="bash") + body


_ZSH = """
_tqctl_node() {{
{case}
}}

_tqctl_values() {{
{values}
}}

_tqctl_live() {{
  TQCTL_CONTEXT="${{context:-$TQCTL_CONTEXT}}" tqctl __complete "$1" "$2" 2>/dev/null
}}

_tqctl_offer() {{
  case "$1" in
    =*) compadd -- ${{=1#=}} ;;
    FILE) _files ;;
    "") ;;
    *) compadd -- ${{(f)"$(_tqctl_live "$1" "$PREFIX")"}} ;;
  esac
}}

_tqctl() {{
  local path="" subs opts takes arg kind context="" word previous="" i
  _tqctl_node
  for ((i = 2; i < CURRENT; i++)); do
    word="${{words[i]}}"
    if [[ "$word" == "--" ]]; then return; fi
    if [[ -n "$previous" ]]; then
      [[ "$previous" == "-c" || "$previous" == "--context" ]] && context="$word"
      previous=""
    elif [[ "$takes" == *" $word "* ]]; then
      previous="$word"
    elif [[ " $subs " == *" $word "* ]]; then
      path="${{path:+$path }}$word"
      _tqctl_node
    fi
  done
  if [[ -n "$previous" ]]; then
    _tqctl_values "$previous"
    _tqctl_offer "$kind"
  elif [[ "$PREFIX" == -* ]]; then
    compadd -- ${{=opts}}
  elif [[ -n "$subs" ]]; then
    compadd -- ${{=subs}}
  else
    _tqctl_offer "$arg"
  fi
}}

if [[ "${{funcstack[1]}}" == "_tqctl" ]]; then
  _tqctl "$@"
else
  compdef _tqctl tqctl
fi
"""


def _zsh(nodes: list[Node]) -> str:
    # ``path`` is tied to PATH in zsh: a local of that name would hide every program.
    body = _ZSH.format(case="\n".join(_case(nodes)), values="\n".join(_values_case()))
    renamed = body.replace('path=""', 'place=""').replace('"$path"', '"$place"')
    renamed = renamed.replace('path="${path:+$path }$word"', 'place="${place:+$place }$word"')
    return "#compdef tqctl\n" + _HEAD.format(name="zsh") + renamed


_FISH = """
function __tqctl_place --description "the command that is being typed"
    set -l words (commandline -opc)
    set -l place
    for word in $words[2..-1]
        if contains -- "$place $word" {paths}
            set place "$place $word"
        end
    end
    echo -- (string trim -- "$place")
end

function __tqctl_at
    test (__tqctl_place) = "$argv"
end

function __tqctl_live
    set -l words (commandline -opc)
    set -l context $TQCTL_CONTEXT
    for i in (seq (count $words))
        if contains -- $words[$i] -c --context; and test $i -lt (count $words)
            set context $words[(math $i + 1)]
        end
    end
    TQCTL_CONTEXT=$context tqctl __complete $argv[1] (commandline -ct) 2>/dev/null
end

complete -c tqctl -f
"""


def _fish(nodes: list[Node]) -> str:
    paths = " ".join(_quote(" " + node.path) for node in nodes if node.path)
    lines = [_HEAD.format(name="fish") + _FISH.format(paths=paths).rstrip("\n")]
    for node in nodes:
        at = f"complete -c tqctl -n '__tqctl_at {node.path}'" if node.path else "complete -c tqctl -n '__tqctl_at \"\"'"
        lines += [f"{at} -a {name} -d {_quote(text)}" for name, text in node.commands]
        if node.arguments is not None:
            lines.append(f"{at} -a {_quote(_fish_values(node.arguments))}")
        lines += [f"{at} {_fish_option(option)}" for option in node.options]
    return "\n".join(lines) + "\n"


def _fish_option(option: Option) -> str:
    parts = [f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names]
    if option.takes_value:
        parts.append("-r")
    if option.values == _FILE:
        parts.append("-F")
    elif option.values is not None:
        parts.append(f"-a {_quote(_fish_values(option.values))}")
    return " ".join([*parts, f"-d {_quote(option.help)}"])


def _fish_values(values: str | tuple[str, ...]) -> str:
    return f"(__tqctl_live {values})" if isinstance(values, str) else " ".join(values)


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
