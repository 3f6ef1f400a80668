"""tqctl: a task queue operated from a terminal."""

from tqctl._version import __version__

__all__ = ["__version__"]
