"""What a handler may ask its worker for by ``@handler(needs=…)``: secrets that no other handler's executor sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tqctl_runtime.core.errors import ConfigError

#: What can be asked for → the setting it comes from.
KNOWN_NEEDS = {"db": "database_url", "smtp": "smtp_url"}


class Needs(Mapping[str, str]):
    """The values a running handler was given, by name. They are secrets: nothing shows them but an index."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        self._values = dict(values or {})

    def __getitem__(self, name: str) -> str:
        """The value of *name*.

        Raises:
            KeyError: the handler did not ask for it.
        """
        try:
            return self._values[name]
        except KeyError:
            raise KeyError(f"{name!r} was not asked for: declare the handler with needs=({name!r},)") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"<needs: {', '.join(self._values) or 'none'}>"


def parse_needs(wanted: str | Iterable[str], *, whose: str) -> tuple[str, ...]:
    """The names *wanted* by the handler that *whose* tells (name and place), each once and sorted.

    Raises:
        ConfigError: one of them is not known.
    """
    names = {wanted} if isinstance(wanted, str) else set(wanted)
    unknown = sorted(repr(name) for name in names - KNOWN_NEEDS.keys())
    if unknown:
        raise ConfigError(f"handler {whose} needs {', '.join(unknown)}", hint=f"known: {', '.join(KNOWN_NEEDS)}")
    return tuple(sorted(names))
