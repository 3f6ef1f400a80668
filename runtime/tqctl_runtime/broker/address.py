"""Where the broker is: a parsed URL or the socket of the private server.

The password is in no representation and in no message; :attr:`BrokerAddress.display` is what people see.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tqctl_runtime.config import URL_ESCAPES, has_unclear_user
from tqctl_runtime.core.errors import ConfigError

if TYPE_CHECKING:
    from tqctl_runtime.core.settings import Settings

DEFAULT_PORT = 6379
#: Longest path of a Unix socket on Linux, without the closing NUL.
SOCKET_PATH_MAXIMUM = 107
_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True, "unix": False}
_TLS_OPTIONS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
_HINT = "write it like redis://user:password@host:6379/0, rediss://host/0 or unix:///path/to.sock?db=0"


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One server and database. *path* is set for a Unix socket, *host* and *port* otherwise."""

    path: str = ""
    host: str = ""
    port: int = DEFAULT_PORT
    db: int = 0
    tls: bool = False
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    #: Where the private server writes; empty for every other server.
    folder: str = field(default="", repr=False, compare=False)

    @classmethod
    def of(cls, settings: Settings) -> BrokerAddress:
        """The address that *settings* name; for the private server the socket it published or would use.

        Raises:
            ConfigError: the URL is not usable.
        """
        if settings.redis_url is None:
            return cls.private(settings, published_socket(settings) or embedded_socket(settings))
        return cls.parse(settings.redis_url)

    @classmethod
    def private(cls, settings: Settings, path: str) -> BrokerAddress:
        """The private server of *settings* at the socket *path*."""
        return cls(path=path, folder=str(settings.context_home))

    @classmethod
    def parse(cls, url: str) -> BrokerAddress:
        """The address in *url*: ``redis://``, ``rediss://`` (both also with ``valkey``) or ``unix://``.

        Raises:
            ConfigError: another scheme, an unknown option, or a part that is not valid.
        """
        from urllib.parse import parse_qsl, unquote, urlsplit

        if has_unclear_user(url):
            raise ConfigError("an unescaped mark stands before the last @ of the Redis URL", hint=URL_ESCAPES)
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORT
            options = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        except ValueError:
            raise ConfigError("the Redis URL cannot be read", hint=_HINT) from None
        if parts.scheme not in _SCHEMES:
            raise ConfigError(f"a Redis URL cannot begin with {parts.scheme or 'nothing'}://", hint=_HINT)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if parts.scheme == "unix":
            path = unquote(parts.path)
            if not path or parts.hostname:
                raise ConfigError("a unix:// URL needs three slashes and an absolute path", hint=_HINT)
            _check_socket_path(path)
            db = _database(options.pop("db", "0"))
            _refuse_unknown(options)
            return cls(path=path, db=db, username=user, password=password)
        folder_db = parts.path.strip("/")
        db = _database(options.pop("db", folder_db or "0"))
        tls = _SCHEMES[parts.scheme]
        files = {theirs: options.pop(theirs, "") if tls else "" for theirs in _TLS_OPTIONS}
        _refuse_unknown(options)
        return cls(
            host=parts.hostname or "localhost",
            port=port,
            db=db,
            tls=tls,
            username=user,
            password=password,
            ca_file=files["ssl_ca_certs"],
            cert_file=files["ssl_certfile"],
            key_file=files["ssl_keyfile"],
        )

    @property
    def display(self) -> str:
        """The address for people and logs, without user, password and options."""
        if self.path:
            return f"unix://{self.path}" + (f"?db={self.db}" if self.db else "")
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"

    def __str__(self) -> str:
        return self.display


def published_socket(settings: Settings) -> str | None:
    """The socket that the running private server told in its folder; None where none was told."""
    try:
        with open(settings.context_home / "valkey" / "address", encoding="utf-8") as file:
            return file.read().strip() or None
    except OSError:
        return None


def embedded_socket(settings: Settings) -> str:
    """The socket a private server of this context would use: in its folder, or hashed where that path is too long."""
    wanted = str((settings.context_home / "valkey" / "valkey.sock").absolute())
    if len(os.fsencode(wanted)) <= SOCKET_PATH_MAXIMUM:
        return wanted
    import hashlib
    import tempfile

    digest = hashlib.blake2b(os.fsencode(wanted), digest_size=8).hexdigest()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    candidates = [f"{runtime}/tqctl-{digest}/valkey.sock"] if runtime else []
    folders = (tempfile.gettempdir(), "/tmp")  # noqa: S108  a folder of our own in it, checked before it is used
    candidates += [f"{folder}/tqctl-{os.getuid()}-{digest}/valkey.sock" for folder in folders]
    for path in candidates:
        if len(os.fsencode(path)) <= SOCKET_PATH_MAXIMUM:
            return path
    raise AssertionError("unreachable: the last candidate is short")


def _check_socket_path(path: str) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_MAXIMUM:
        raise ConfigError(f"the path of a Unix socket has at most {SOCKET_PATH_MAXIMUM} bytes: {path}")


def _database(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ConfigError(f"{text!r} is not the number of a Redis database", hint=_HINT)
    return int(text)


def _refuse_unknown(options: dict[str, str]) -> None:
    if options:
        known = ", ".join(["db", *_TLS_OPTIONS])
        raise ConfigError(f"the Redis URL has unknown options: {', '.join(sorted(options))}", hint=f"known: {known}")
