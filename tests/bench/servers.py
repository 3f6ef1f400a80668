"""Private servers on loopback: a Redis of its own for each session, a database of its own on PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from psycopg import sql

from tests.bench.processes import BenchError, Processes, wait_for
from tqctl_runtime.broker import embedded

DEFAULT_DATABASE_URL = "postgresql://postgres@127.0.0.1:5432/postgres"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """A running private server and a connection to it. *url* is as redis-py takes it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = redis.Redis.from_url(url, protocol=2, socket_timeout=10)

    def answers(self) -> bool:
        """Whether it serves."""
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def used_bytes(self) -> int:
        """What all keys occupy, every element counted; buffers of connections, which come and go, are left out."""
        return sum(self.client.memory_usage(key, samples=0) or 0 for key in self.client.scan_iter(count=1000))


def redis_binary() -> str:
    """``redis-server`` from PATH, else the Valkey binary that tqctl brings."""
    return shutil.which("redis-server") or embedded.server_binary()


@contextlib.contextmanager
def redis_server(processes: Processes) -> Iterator[RedisServer]:
    """A new server on a free port of loopback, stopped at the end; nothing is persisted.

    Raises:
        BenchError: it did not start.
    """
    port = _free_port()
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    argv = [redis_binary(), *options, "--maxmemory-policy", "noeviction", "--dir", str(processes.folder)]
    process = processes.start(argv, os.environ)
    server = RedisServer(f"redis://127.0.0.1:{port}/0")
    try:
        wait_for(server.answers, "redis-server answers", 10)
        yield server
    finally:
        server.client.close()
        processes.stop(process)


def admin_url() -> str:
    """Where databases are created: ``TQCTL_TEST_DATABASE_URL``, else a local server's ``postgres``."""
    return os.environ.get("TQCTL_TEST_DATABASE_URL", DEFAULT_DATABASE_URL)


class Database:
    """A database that lives as long as its session."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.connection = psycopg.connect(url, autocommit=True, connect_timeout=5)

    def number(self, query: str) -> int:
        """The one number that *query* selects."""
        row = self.connection.execute(query.encode()).fetchone()
        return int(row[0]) if row and row[0] is not None else 0

    def used_bytes(self) -> int:
        """Tables with their indexes and rows not vacuumed yet."""
        return self.number(
            "SELECT sum(pg_total_relation_size(oid)) FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace NOT IN"
            " (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg_%' OR nspname = 'information_schema')"
        )


@contextlib.contextmanager
def database() -> Iterator[Database]:
    """A new database, dropped at the end.

    Raises:
        BenchError: no PostgreSQL answers.
    """
    name = f"tqctl_bench_{secrets.token_hex(6)}"
    try:
        admin = psycopg.connect(admin_url(), autocommit=True, connect_timeout=5)
    except psycopg.OperationalError as error:
        raise BenchError(f"PostgreSQL: {str(error).strip()}") from None
    with admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        opened: Database | None = None
        try:
            opened = Database(urlunsplit(urlsplit(admin_url())._replace(path=f"/{name}")))
            yield opened
        finally:
            if opened is not None:
                opened.connection.close()
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def scratch(parent: Path) -> Iterator[Path]:
    """A new folder below *parent*, removed at the end."""
    folder = parent / secrets.token_hex(4)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
