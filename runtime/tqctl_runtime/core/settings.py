"""Every setting, its default and its unit, as one frozen dataclass.

A setting has one name in three spellings (``lease``, ``TQCTL_LEASE``, ``--lease``). Values come in by
``tqctl_runtime.config``; ``docs/configuration.md`` is generated from this file.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from tqctl_runtime.core.needs import KNOWN_NEEDS


def setting(default: Any, help_text: str, *, kind: str, secret: bool = False) -> Any:
    """A field of :class:`Settings`. *kind* names the grammar of its text: see ``tqctl_runtime.config``."""
    extra = {"help": help_text, "kind": kind, "secret": secret}
    if isinstance(default, list | dict):
        raise TypeError("settings are frozen: use a tuple")
    return field(default=default, metadata=extra)


@dataclass(frozen=True, slots=True)
class Settings:
    """Values that were resolved; durations are milliseconds, sizes bytes."""

    context: str = setting("default", "named set of settings", kind="name")
    namespace: str = setting("default", "separates installations on one Redis", kind="name")
    home: Path = setting(Path(), "folder of everything a context owns", kind="path")
    redis_url: str | None = setting(None, "Redis or Valkey; none: a private Valkey", kind="url", secret=True)
    database_url: str | None = setting(None, "PostgreSQL or SQLite; none: SQLite in home", kind="url", secret=True)
    smtp_url: str | None = setting(None, "mail server, for handlers that need smtp", kind="url", secret=True)
    app: tuple[str, ...] = setting((), "modules or files with handlers", kind="list")
    queues: tuple[str, ...] = setting(
        (), "queues a worker serves; none: default and those of its handlers", kind="list"
    )
    concurrency: int = setting(5, "tasks a worker runs at once, 1 to 1000", kind="int")
    processes: int = setting(0, "executor processes of a worker at most; 0: as many as concurrency", kind="int")
    workers: int = setting(1, "workers started by up", kind="int")
    lease: int = setting(30_000, "how long a worker may be silent before its tasks go to others", kind="duration")
    grace: int = setting(5_000, "time between the request to stop and the kill of an attempt", kind="duration")
    drain: int = setting(30_000, "time running tasks get to end when a worker stops", kind="duration")
    max_tasks: int = setting(0, "tasks an executor runs before it is replaced; 0: no limit", kind="int")
    max_memory: int = setting(0, "resident bytes of an executor before it is replaced; 0: no limit", kind="size")
    payload_limit: int = setting(1_048_576, "largest payload or batch line", kind="size")
    result_limit: int = setting(1_048_576, "largest result", kind="size")
    log_limit: int = setting(65_536, "log kept of an attempt, head and tail", kind="size")
    allow_shell: bool = setting(False, "offer the shell handler on a Redis that is not the private one", kind="bool")
    dead_letter_retention: int = setting(30 * 86_400_000, "how long dead letters are kept", kind="duration")
    task_retention: int = setting(0, "how long finished tasks stay in the record; 0: for ever", kind="duration")
    busy_rows: int = setting(1_000_000, "journal rows not yet recorded at which submits answer busy", kind="int")
    busy_bytes: int = setting(
        512 * 1_048_576, "journal bytes not yet recorded at which submits answer busy", kind="size"
    )
    stop_rows: int = setting(2_000_000, "journal rows not yet recorded at which claims stop", kind="int")
    stop_bytes: int = setting(1024 * 1_048_576, "journal bytes not yet recorded at which claims stop", kind="size")
    log_format: str = setting("text", "log lines of processes: text or json", kind="text")
    log_level: str = setting("info", "debug, info, warning or error", kind="text")

    @property
    def is_embedded_broker(self) -> bool:
        """Whether the broker is the private Valkey of this context."""
        return self.redis_url is None

    @property
    def context_home(self) -> Path:
        """The folder of this context: Valkey's files, SQLite, logs, crash files, the socket's address."""
        return self.home / self.context

    @property
    def record_url(self) -> str:
        """Where the record is: ``database_url``, or the URL of the SQLite file of this context."""
        return self.database_url or f"sqlite:///{self.context_home / 'record.db'}"

    def need(self, name: str) -> str | None:
        """The value behind ``needs=`` *name* of a handler, None where nothing is set."""
        value: str | None = self.record_url if name == "db" else getattr(self, KNOWN_NEEDS[name])
        return value or None

    @property
    def trust_ms(self) -> int:
        """How long after a renewal's start its lease may be relied on: lease − min(2 s, lease/5)."""
        return self.lease - min(2_000, self.lease // 5)

    @property
    def fence_ms(self) -> int:
        """How long after a renewal's start a worker's nursery kills what its supervisor has not: midway to the end."""
        return (self.trust_ms + self.lease) // 2

    @property
    def heartbeat_ms(self) -> int:
        """Time between two renewals: a third of the lease."""
        return self.lease // 3


SETTING_FIELDS = {item.name: item for item in fields(Settings)}
