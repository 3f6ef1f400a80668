"""Where settings come from: flags, then ``TQCTL_*``, then the context's tables, then the files, then defaults.

Files are ``./tqctl.toml`` and ``$XDG_CONFIG_HOME/tqctl/config.toml``, the first before the second. A table
``[contexts.NAME]`` of either is the context NAME and goes before values outside of any table, which hold for all
contexts. Every value remembers its origin. A secret may be given as ``NAME_file`` (a path) or hold ``${VAR}``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tqctl_runtime.core.clock import format_duration, parse_duration_ms
from tqctl_runtime.core.errors import ConfigError, UsageError
from tqctl_runtime.core.ids import is_name
from tqctl_runtime.core.settings import SETTING_FIELDS, Settings

PREFIX = "TQCTL_"
#: Variables of the test suite share the prefix and are no settings.
_FOREIGN = ("TQCTL_TEST_", "TQCTL_BENCH_")
_SIZES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmg]?i?b|)\Z", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
#: Up to the last @: a password may hold an @ or a / that somebody forgot to encode.
_PASSWORD = re.compile(r"(://[^:\n]*:).+(?=@)")
_PASSWORD_OPTION = re.compile(r"([?&](?:ssl)?password=)[^&\n]+", re.IGNORECASE)
#: What ends the user's part of a URL too early, or makes its end unclear.
_UNESCAPED = frozenset("@/?#")
URL_ESCAPES = "in user and password write @ as %40, / as %2F, ? as %3F, # as %23"
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_SCHEMES = {
    "redis_url": ("redis", "rediss", "unix", "valkey", "valkeys"),
    "database_url": ("postgresql", "postgres", "sqlite"),
    "smtp_url": ("smtp", "smtps"),
}
_RANGES = {
    "concurrency": (1, 1000),
    "processes": (0, 1000),
    "workers": (0, 1000),
    "lease": (1_000, 86_400_000),
    # One row of the record must be written within a statement's time, or nothing behind it is recorded.
    "payload_limit": (1, 64 * 2**20),
    "result_limit": (1, 64 * 2**20),
}
_CHOICES = {"log_format": ("text", "json"), "log_level": ("debug", "info", "warning", "error")}


@dataclass(frozen=True, slots=True)
class Resolved:
    """Settings and, for each by name, where its value came from; *files* are those that were read."""

    settings: Settings
    origins: dict[str, str]
    files: tuple[Path, ...]
    contexts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Layer:
    """One source of raw values by setting name, and how errors call it."""

    source: str
    values: Mapping[str, Any]
    spell: Callable[[str], str] = str


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Settings:
    """The settings that hold here; see :func:`resolve`."""
    return resolve(flags, environ=environ, folder=folder).settings


def resolve(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Resolved:
    """Find every setting's value and origin. *flags* hold text or values by setting name; None means not given.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, a value has the wrong form, a context does not exist.
        UsageError: a flag's value has the wrong form or holds a password.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    files = [(path, _read(path)) for path in config_paths(environ, folder) if path.is_file()]
    variables = _Layer("environment", _environment(environ), lambda key: PREFIX + key.upper())
    tops = [_Layer(str(path), {k: v for k, v in data.items() if k != "contexts"}) for path, data in files]
    for layer in tops:
        _check_keys(layer)
    context, origin = _pick_context([_Layer("flag", given, _flag), variables, *tops])
    tables = [_context_table(path, data, context) for path, data in files]
    contexts = {"default"}.union(*(data.get("contexts", {}) for _, data in files))
    if context not in contexts:
        raise ConfigError(f"no context is called {context!r} ({origin})", hint=_near(context, sorted(contexts)))
    layers = [_Layer("flag", given, _flag), variables, *[table for table in tables if table], *tops]
    values, origins = _merge(layers, environ)
    values["context"], origins["context"] = context, origin
    values.setdefault("home", _data_home(environ))
    return Resolved(Settings(**values), origins, tuple(path for path, _ in files), tuple(sorted(contexts)))


def config_paths(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> list[Path]:
    """The files that may hold settings, the first before the second; they need not exist."""
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
    return [(folder or Path.cwd()) / "tqctl.toml", Path(base) / "tqctl" / "config.toml"]


def current_context(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> str:
    """The name of the chosen context, whether or not its settings are right.

    Raises:
        ConfigError: a file cannot be read.
    """
    environ = os.environ if environ is None else environ
    files = [_Layer(str(path), _read(path)) for path in config_paths(environ, folder) if path.is_file()]
    return _pick_context([_Layer("flag", flags or {}), _Layer("environment", _environment(environ)), *files])[0]


def known_contexts(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> list[str]:
    """Names of all contexts of the files, ``default`` included.

    Raises:
        ConfigError: a file cannot be read.
    """
    names = {"default"}
    for path in config_paths(environ, folder):
        if path.is_file():
            names.update(_tables(path, _read(path)))
    return sorted(names)


def has_password(url: str) -> bool:
    """Whether *url* carries a password."""
    return _PASSWORD.search(url) is not None or _PASSWORD_OPTION.search(url) is not None


def mask_url(url: str) -> str:
    """*url* with its password replaced by stars."""
    return _PASSWORD.sub(r"\1***", _PASSWORD_OPTION.sub(r"\1***", url))


def has_unclear_user(url: str) -> bool:
    """Whether the end of user and password in *url* is unclear: before its last ``@`` stands an unescaped mark."""
    scheme, _, rest = url.partition("://")
    before, at, _ = rest.rpartition("@")
    is_path = rest.startswith("/") or scheme.lower().startswith("sqlite")
    return bool(at) and not is_path and not _UNESCAPED.isdisjoint(before)


def refuse_password(name: str, raw: str) -> None:
    """Refuse the flag of setting *name* when *raw* carries a password.

    Raises:
        UsageError: it does.
    """
    if SETTING_FIELDS[name].metadata["secret"] and has_password(raw):
        variable = PREFIX + name.upper()
        raise UsageError(
            f"{_flag(name)} holds a password, which every user of this machine could read",
            hint=f"set {variable} or {variable}_FILE, or write it to the configuration file",
        )


def parse_value(name: str, raw: object) -> Any:
    """The value of setting *name* that *raw* (text, or a value of TOML) means.

    Raises:
        UsageError: it has the wrong form or is out of range.
    """
    kind = SETTING_FIELDS[name].metadata["kind"]
    value = _PARSERS[kind](raw)
    if name in _RANGES and not _RANGES[name][0] <= value <= _RANGES[name][1]:
        low, high = (format_value(name, bound) for bound in _RANGES[name])
        raise UsageError(f"{raw!r} is not between {low} and {high}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise UsageError(f"{raw!r} is not one of {', '.join(_CHOICES[name])}")
    if name in _SCHEMES and value is not None:
        _check_scheme(value, _SCHEMES[name])
        if has_unclear_user(value):
            raise UsageError("an unescaped mark stands before the last @ of this URL", hint=URL_ESCAPES)
        if name == "database_url":
            _check_ports(value)
    return value


def format_value(name: str, value: Any) -> str:
    """*value* of setting *name* as people write it; passwords are masked, nothing is an empty text."""
    kind = SETTING_FIELDS[name].metadata["kind"]
    if value is None or value == ():
        return ""
    if kind == "url":
        return mask_url(value)
    if kind == "duration":
        return format_duration(value) if value else "0"
    if kind == "list":
        return ",".join(value)
    if kind == "bool":
        return "true" if value else "false"
    if kind == "size" and value and value % 2**20 == 0:
        return f"{value // 2**20}MiB"
    if kind == "size" and value and value % 2**10 == 0:
        return f"{value // 2**10}KiB"
    return str(value)


def parse_size(raw: object) -> int:
    """Bytes of ``10MB``, ``64KiB`` or a plain number.

    Raises:
        UsageError: not a size.
    """
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    match = _SIZE.match(str(raw).strip())
    if match is None:
        raise UsageError(f"{raw!r} is not a size", hint="write it like 65536, 64KiB or 10MB")
    return round(float(match[1]) * _SIZES[match[2].lower()])


def _merge(layers: list[_Layer], environ: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in SETTING_FIELDS:
        origins[name] = "default"
        for layer in layers:
            found = _value(layer, name, environ)
            if found is not None:
                key, values[name] = found
                origins[name] = f"{layer.source}: {layer.spell(key)}"
                break
    return values, origins


def _value(layer: _Layer, name: str, environ: Mapping[str, str]) -> tuple[str, Any] | None:
    """The key in *layer* and the parsed value of *name*, or None where the layer does not have it."""
    key, raw = name, layer.values.get(name)
    secret_file = layer.values.get(f"{name}_file") if SETTING_FIELDS[name].metadata["secret"] else None
    if raw is not None and secret_file is not None:
        raise ConfigError(f"{layer.source}: {layer.spell(name)} and {layer.spell(name + '_file')}: give one of them")
    if secret_file is not None:
        key, raw = f"{name}_file", _read_secret(layer, f"{name}_file", str(secret_file))
    if raw is None or name == "context":
        return None
    is_flag = layer.source == "flag"
    if is_flag:
        refuse_password(name, str(raw))
    try:
        if isinstance(raw, str) and not is_flag and key == name:
            raw = _expand(raw, environ)
        return key, parse_value(name, raw)
    except UsageError as error:
        if is_flag:
            raise UsageError(f"{_flag(key)}: {error.message}", hint=error.hint) from None
        raise ConfigError(f"{layer.source}: {layer.spell(key)}: {error.message}", hint=error.hint) from None


def _pick_context(layers: list[_Layer]) -> tuple[str, str]:
    for layer in layers:
        if layer.values.get("context"):
            return str(layer.values["context"]), f"{layer.source}: {layer.spell('context')}"
    return "default", "default"


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for variable, value in environ.items():
        if not variable.startswith(PREFIX) or variable.startswith(_FOREIGN):
            continue
        key = variable[len(PREFIX) :].lower()
        if key in _KEYS:
            # An empty variable is one that a wrapper script could not fill: as if it were not there.
            if value:
                values[key] = value
            continue
        # Others may use the prefix for their own: only what looks like a misspelt setting is refused.
        near = get_close_matches(key, _KEYS, n=1, cutoff=0.8)
        if near:
            raise ConfigError(
                f"environment: {variable} is not a setting", hint=f"did you mean {PREFIX}{near[0].upper()}?"
            )
    return values


def _check_keys(layer: _Layer) -> None:
    for key in layer.values:
        if key not in _KEYS:
            raise ConfigError(f"{layer.source}: {key} is not a setting", hint=_near(key, _KEYS))


def _tables(path: Path, data: Mapping[str, Any]) -> Mapping[str, Any]:
    tables = data.get("contexts", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{path}: contexts is not a table", hint="write [contexts.NAME]")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: contexts.{name} is not a table", hint=f"write [contexts.{name}]")
        if not is_name(name):
            raise ConfigError(f"{path}: {name!r} is not a context name", hint="1 to 100 of A-Z a-z 0-9 . _ -")
    return tables


def _context_table(path: Path, data: Mapping[str, Any], context: str) -> _Layer | None:
    tables = _tables(path, data)
    if context not in tables:
        return None
    layer = _Layer(f"{path} [contexts.{context}]", tables[context])
    _check_keys(layer)
    if "context" in layer.values:
        raise ConfigError(f"{layer.source}: context cannot be set inside of a context")
    return layer


def _read(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _read_secret(layer: _Layer, key: str, name: str) -> str:
    try:
        return Path(name).expanduser().read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"{layer.source}: {layer.spell(key)}: {name} cannot be read: {reason}") from None


def _expand(text: str, environ: Mapping[str, str]) -> str:
    def variable(match: re.Match[str]) -> str:
        if match[1] not in environ:
            raise UsageError(f"${{{match[1]}}} is not in the environment", hint=f"export {match[1]}=…")
        return environ[match[1]]

    return _VARIABLE.sub(variable, text)


def _data_home(environ: Mapping[str, str]) -> Path:
    base = environ.get("XDG_DATA_HOME")
    if base:
        return Path(base) / "tqctl"
    return Path(environ.get("HOME") or os.path.expanduser("~")) / ".local" / "share" / "tqctl"


def _near(word: str, known: list[str] | tuple[str, ...]) -> str:
    near = get_close_matches(word, known, n=3, cutoff=0.5)
    return f"did you mean {' or '.join(near)}?" if near else "known: " + ", ".join(known)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _parse_name(raw: object) -> str:
    if not isinstance(raw, str) or not is_name(raw):
        raise UsageError(f"{raw!r} is not a name", hint="1 to 100 of A-Z a-z 0-9 . _ -")
    return raw


def _parse_path(raw: object) -> Path:
    if not isinstance(raw, str | Path) or not str(raw):
        raise UsageError(f"{raw!r} is not a path")
    return Path(raw).expanduser().absolute()


def _parse_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise UsageError(f"{raw!r} is not text")
    return raw


def _parse_list(raw: object) -> tuple[str, ...]:
    items = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise UsageError(f"{raw!r} is not a list of words")
    return tuple(item.strip() for item in items if item.strip())


def _parse_int(raw: object) -> int:
    text = str(raw)
    if not re.fullmatch(r"-?\d+(_\d+)*", text):
        raise UsageError(f"{raw!r} is not a whole number")
    return int(text)


def _parse_bool(raw: object) -> bool:
    word = str(raw).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UsageError(f"{raw!r} is neither true nor false")


def _parse_duration(raw: object) -> int:
    return parse_duration_ms(str(raw))


def _check_scheme(url: str, schemes: tuple[str, ...]) -> None:
    scheme = url.partition("://")[0].partition("+")[0].lower() if "://" in url else ""
    if scheme not in schemes:
        # Without a scheme nothing tells where a password would stand.
        shown = repr(mask_url(url)) if scheme or "@" not in url else "the URL"
        raise UsageError(f"{shown} does not begin with {schemes[0]}://", hint="known: " + ", ".join(schemes))


def _check_ports(url: str) -> None:
    for host in re.split("[/?#]", url.partition("://")[2])[0].rpartition("@")[2].split(","):
        _, colon, port = host.rpartition("]")[2].rpartition(":")
        if colon and port and not (port.isdecimal() and 0 < int(port) < 2**16):
            raise UsageError("the port of the database URL is not 1 to 65535")


_PARSERS: dict[str, Callable[[object], Any]] = {
    "name": _parse_name,
    "path": _parse_path,
    "url": _parse_text,
    "text": _parse_text,
    "list": _parse_list,
    "int": _parse_int,
    "bool": _parse_bool,
    "duration": _parse_duration,
    "size": parse_size,
}
_KEYS = (*SETTING_FIELDS, *(f"{name}_file" for name, item in SETTING_FIELDS.items() if item.metadata["secret"]))
