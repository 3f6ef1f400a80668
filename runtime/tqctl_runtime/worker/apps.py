"""What a worker can run: the built-in handlers, those of installed packages and those of the user's apps."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from tqctl_runtime.core.builtins import BUILTINS, GUARDED
from tqctl_runtime.core.errors import ConfigError
from tqctl_runtime.core.handler import HandlerSpec, describe, registry, source_place

#: Entry points by which packages offer modules with handlers.
ENTRY_POINTS = "tqctl.handlers"


def load_all(apps: Sequence[str], *, with_guarded: bool) -> None:
    """Register every handler of this worker.

    Raises:
        ConfigError: an app cannot be imported (its message ends with the user's traceback), or two handlers have one
            name.
    """
    for name, target in BUILTINS.items():
        if with_guarded or name not in GUARDED:
            registry.add(builtin_spec(name, target))
    load_entry_points()
    sys.path.insert(0, str(Path.cwd()))
    for app in apps:
        load_app(app)


def builtin_spec(name: str, target: str) -> HandlerSpec:
    """The spec of the built-in *name*, whose function is at *target* (``module:function``)."""
    module, _, attribute = target.partition(":")
    function = getattr(importlib.import_module(module), attribute)
    parameters, takes_any = describe(function)
    return HandlerSpec(
        name,
        function,
        argv=any(parameter.name == "argv" for parameter in parameters),
        parameters=parameters,
        takes_any=takes_any,
        doc=(function.__doc__ or "").partition("\n")[0],
        where=source_place(function),
    )


def load_entry_points() -> None:
    """Import what installed packages offer."""
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        try:
            point.load()
        except ConfigError:
            raise
        except BaseException as error:  # noqa: BLE001  as in load_app
            raise _cannot_import(f"{point.name} of {ENTRY_POINTS}", error) from None


def load_app(app: str) -> ModuleType:
    """Import *app*: ``pkg.mod`` or ``path/file.py``.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        if app.endswith(".py") or os.sep in app:
            return _load_file(Path(app).absolute(), app)
        return importlib.import_module(app)
    except ConfigError:
        raise
    except BaseException as error:  # noqa: BLE001  also SystemExit: a script must not end the worker silently
        raise _cannot_import(app, error) from None


def _load_file(path: Path, app: str) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"--app {app}: no such file")
    name = path.stem
    if path.parent == Path.cwd() and name.isidentifier():
        found = importlib.util.find_spec(name)
        if found is not None and found.origin == str(path):
            return importlib.import_module(name)
    if str(path.parent) not in sys.path:
        sys.path.insert(1, str(path.parent))  # what lies beside it can be imported, as when it is run as a script
    if name in sys.modules:
        name = f"{name}_{abs(hash(str(path))):x}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--app {app}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _cannot_import(what: str, error: BaseException) -> ConfigError:
    trace = error.__traceback__
    while trace is not None and _is_machinery(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace, chain=trace is not None)
    return ConfigError(f"{what} cannot be imported\n{''.join(lines).rstrip()}")


def _is_machinery(filename: str) -> bool:
    return filename == __file__ or filename.startswith("<frozen importlib") or filename == importlib.__file__
