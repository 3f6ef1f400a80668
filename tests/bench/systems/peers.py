"""The peers, each with its best documented settings and pinned versions."""

from __future__ import annotations

from pathlib import Path

from tests.bench.environments import ensure
from tests.bench.processes import run
from tests.bench.systems.base import Role, Shell, Stage, System, Use

_REDIS = ("redis==8.1.0", "hiredis==3.5.0")


class Peer(System):
    """A peer from PyPI in an environment of its own."""

    role = Role.PEER
    requirements: tuple[str, ...]
    bin: Path

    def prepare(self, cache: Path) -> None:
        """Install the pinned versions."""
        self.bin = ensure(cache, self.name, self.requirements)
        self.python = str(self.bin / "python")

    def program(self, name: str) -> str:
        """A program of the peer's environment."""
        return str(self.bin / name)


class Huey(Peer):
    """huey: LPUSH and BRPOP, no acknowledgement."""

    name = "huey"
    app = "tests.bench.apps.huey_app"
    keeps = "nothing (None is not stored); loses the running task at kill -9"
    settings = "RedisHuey, thread x 1, drain_2: two with thread x 4, quiet, no periodic scheduler"
    requirements = ("huey==3.5.4", *_REDIS)
    needs_redis = True

    def workers(self, stage: Stage, use: Use) -> list[list[str]]:
        """One consumer with one thread; two with four threads for two workers."""
        options = ["-k", "thread", "-w", "4" if use is Use.DRAIN_2 else "1"]
        if use is not Use.DEFAULTS:
            options += ["-q", "-n"]
        command = [self.program("huey_consumer"), f"{self.app}.huey", *options]
        return [command] * (2 if use is Use.DRAIN_2 else 1)

    def pending(self, stage: Stage) -> int:
        """The length of its list; what runs is in no store."""
        return stage.require_redis().client.llen("huey.redis.bench")

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """Its consumer's help; it cannot submit."""
        match what:
            case Shell.HELP:
                return [self.program("huey_consumer"), "--help"]
            case Shell.SCRIPT:
                return self.driver_command("one", "0")
        return None


class Dramatiq(Peer):
    """dramatiq on Redis, no result backend (its default)."""

    name = "dramatiq"
    app = "tests.bench.apps.dramatiq_app"
    keeps = "nothing (the message is deleted when acknowledged)"
    settings = "RedisBroker, dramatiq_queue_prefetch=100, 1 process x 2 threads, drain_2: 2 x 8"
    requirements = ("dramatiq==2.2.1", *_REDIS)
    needs_redis = True

    def workers(self, stage: Stage, use: Use) -> list[list[str]]:
        """One master; its processes are the workers."""
        shape = {Use.DRAIN_1: ["1", "2"], Use.DRAIN_2: ["2", "8"]}.get(use, ["1", "8"])
        return [[self.program("dramatiq"), self.app, "-p", shape[0], "-t", shape[1]]]

    def worker_env(self, use: Use) -> dict[str, str]:
        """A long prefetch, without which it drains at a fifth of its speed; the default when defaults are asked."""
        return {} if use is Use.DEFAULTS else {"dramatiq_queue_prefetch": "100"}

    def pending(self, stage: Stage) -> int:
        """Messages not acknowledged."""
        client = stage.require_redis().client
        return client.hlen("dramatiq:default.msgs")

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """Help and version; it cannot submit."""
        match what:
            case Shell.HELP | Shell.VERSION:
                return [self.program("dramatiq"), "--help" if what is Shell.HELP else "--version"]
            case Shell.SCRIPT:
                return self.driver_command("one", "0")
        return None


class Pgqueuer(Peer):
    """pgqueuer on PostgreSQL, durable (its default)."""

    name = "pgqueuer"
    app = "tests.bench.apps.pgqueuer_app"
    keeps = "a log row for queued, picked and done in PostgreSQL; neither payload nor result"
    settings = "asyncpg, uvloop, batch 1000 (30 s heartbeat by default), typer pinned: `pgq run` breaks with 0.29"
    requirements = ("pgqueuer==1.6.0", "asyncpg==0.32.0", "uvloop==0.23.0", "typer==0.25.0")
    needs_database = True
    has_bulk = True

    def up(self, stage: Stage) -> None:
        """Create its tables."""
        run(self._pgq(stage, "install"), stage.env, 60)

    def _pgq(self, stage: Stage, *words: str) -> list[str]:
        return [self.program("pgq"), "--pg-dsn", stage.require_database().url, *words]

    def workers(self, stage: Stage, use: Use) -> list[list[str]]:
        """``pgq run``, batches of 1000 except by default."""
        options = [] if use is Use.DEFAULTS else ["--batch-size", "1000"]
        command = [*self._pgq(stage, "run"), f"{self.app}:create", "--log-level", "WARNING", *options]
        return [command] * (2 if use is Use.DRAIN_2 else 1)

    def pending(self, stage: Stage) -> int:
        """Job rows; they are deleted when they end."""
        return stage.require_database().number("SELECT count(*) FROM pgqueuer")

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """``pgq queue`` submits."""
        match what:
            case Shell.HELP:
                return [self.program("pgq"), "--help"]
            case Shell.SUBMIT:
                return self._pgq(stage, "queue", "noop", "0")
            case Shell.SCRIPT:
                return self.driver_command("one", "0")
        return None


class Rq(Peer):
    """rq, for the shell rows only: it has the fastest submit of the peers that have one."""

    name = "rq"
    app = "tests.bench.apps.rq_app"
    keeps = "a hash a task and a stream of its runs, 500 s"
    settings = "as installed; shell rows only"
    requirements = ("rq==3.0.0", *_REDIS)
    needs_redis = True
    has_worker = False

    def shell(self, stage: Stage, what: Shell) -> list[str] | None:
        """``rq enqueue`` submits."""
        match what:
            case Shell.HELP | Shell.VERSION:
                return [self.program("rq"), "--help" if what is Shell.HELP else "--version"]
            case Shell.SUBMIT:
                return [self.program("rq"), "enqueue", "--url", stage.require_redis().url, f"{self.app}.noop", "0"]
        return None
