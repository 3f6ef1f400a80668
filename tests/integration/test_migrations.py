"""Schema and migrations on both databases."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.support.postgres import Postgres
from tqctl_runtime.core.errors import ConfigError, RecordUnavailable
from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record import columns, open_store
from tqctl_runtime.record.schema import VERSION_TABLE
from tqctl_runtime.record.tables import Record

POSTGRES_SHAPE = (
    """SELECT table_name, ordinal_position, column_name, data_type, is_nullable, column_default, collation_name
    FROM information_schema.columns WHERE table_schema = 'public'""",
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE conrelid <> 0 AND connamespace = 'public'::regnamespace""",
)


def shape(engine: Engine) -> list[tuple[str, ...]]:
    """Everything that the database knows of the schema, as text."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            rows: list[Any] = [row for query in POSTGRES_SHAPE for row in connection.execute(text(query))]
        else:
            rows = list(connection.execute(text("SELECT type, name, tbl_name, sql FROM sqlite_master")))
    found = [tuple(" ".join(str(part).split()) for part in row) for row in rows]
    return sorted(row for row in found if VERSION_TABLE not in " ".join(row))


def test_a_migrated_schema_equals_a_fresh_one(
    empty_store_url: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    with open_store(Settings(database_url=empty_store_url)) as store:
        store.upgrade()
        migrated = shape(store.database.engine())
        is_postgres = store.kind == "postgresql"
    server: Postgres | None = request.getfixturevalue("postgres") if is_postgres else None
    fresh_url = server.create() if server else f"sqlite:///{tmp_path / 'fresh.db'}"
    try:
        with open_store(Settings(database_url=fresh_url)) as store:
            Record.metadata.create_all(store.database.engine())
            fresh = shape(store.database.engine())
    finally:
        if server:
            server.drop(fresh_url)

    assert migrated == fresh


def test_the_column_lists_are_those_of_the_tables() -> None:
    tables = {name: [column.name for column in table.columns] for name, table in Record.metadata.tables.items()}

    assert tables == {name: list(found) for name, found in columns.TABLES.items()}
    assert sorted(columns.TASK_ORDER) == sorted(columns.TASKS)


def test_an_empty_database_is_migrated_by_the_first_coordinator(empty_store_url: str) -> None:
    with open_store(Settings(database_url=empty_store_url)) as store:
        empty, pending = store.is_empty(), store.check_schema()
        done = store.prepare()

        assert (empty, done) == (True, pending)
        assert done
        assert (store.is_empty(), store.check_schema(), store.prepare()) == (False, [], [])


def test_an_older_postgresql_waits_for_db_upgrade(postgres_url: str) -> None:
    with open_store(Settings(database_url=postgres_url)) as store:
        store.database.execute(f"DELETE FROM {VERSION_TABLE}")

        with pytest.raises(ConfigError) as caught:
            store.prepare()

        assert caught.value.hint == "tqctl db upgrade"


def test_a_record_of_a_newer_version_is_refused(store_url: str) -> None:
    with open_store(Settings(database_url=store_url)) as store:
        store.database.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")

        with pytest.raises(ConfigError, match="newer version"):
            store.prepare()


def test_a_migration_that_fails_changes_nothing(empty_store_url: str) -> None:
    with open_store(Settings(database_url=empty_store_url)) as store:
        # In the way of the last table that the first migration makes.
        store.database.execute("CREATE TABLE quarantine (id INTEGER)")

        with pytest.raises(Exception, match="quarantine"):
            store.upgrade()

        assert [row for row in shape(store.database.engine()) if "tasks" in row] == []
        store.database.execute("DROP TABLE quarantine")
        assert store.upgrade()


def test_two_first_coordinators_migrate_once(empty_store_url: str) -> None:
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def start() -> None:
        try:
            with open_store(Settings(database_url=empty_store_url)) as store:
                barrier.wait(10)
                store.prepare()
                assert store.check_schema() == []
        except BaseException as error:  # noqa: BLE001  told by the test
            failures.append(error)

    threads = [threading.Thread(target=start) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert failures == []


def test_the_embedded_record_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    old = os.umask(0)
    try:
        with open_store(settings) as store:
            store.prepare()
            store.next_term("coordinator", "test")
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in settings.context_home.iterdir()}
            folder = stat.S_IMODE(settings.context_home.stat().st_mode)
    finally:
        os.umask(old)

    assert modes == {"record.db": 0o600, "record.db-wal": 0o600, "record.db-shm": 0o600}
    assert folder == 0o700


def test_a_reader_creates_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")

    with open_store(settings, read_only=True) as store:
        for read in (store.checkpoint, store.queries.tasks, lambda: store.lookup.candidates("ABCD")):
            with pytest.raises(RecordUnavailable, match="no record yet"):
                read()
        assert store.is_empty()

    assert list(tmp_path.iterdir()) == []


def test_the_embedded_record_survives_power_loss_by_its_settings(tmp_path: Path) -> None:
    with open_store(Settings(home=tmp_path)) as store:
        store.prepare()

        found = [store.database.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous")]

    assert found == ["wal", 2]


def test_a_url_of_another_database_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither"):
        open_store(Settings(database_url="mysql://localhost/x"))


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with (
        open_store(Settings(database_url="postgresql://nobody:secret@127.0.0.1:1/x")) as store,
        pytest.raises(RecordUnavailable) as caught,
    ):
        store.checkpoint()

    assert "secret" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("work", "forbidden"),
    [
        (
            "store.lookup.task('tsk_x'); store.lookup.candidates('ABCD')",
            ["sqlalchemy", "sqlmodel", "alembic", "psycopg"],
        ),
        ("store.queries.tasks(); store.queries.dead_letters()", ["sqlmodel", "alembic", "pydantic", "psycopg"]),
        ("assert store.prepare() == []", ["sqlalchemy", "sqlmodel", "alembic", "psycopg"]),
        ("store.next_term('a', 'b')", ["sqlalchemy", "sqlmodel", "alembic", "psycopg"]),
    ],
)
def test_a_reader_loads_only_what_it_needs(sqlite_url: str, work: str, forbidden: list[str]) -> None:
    script = (
        "import sys\nfrom tqctl_runtime.core.settings import Settings\nfrom tqctl_runtime.record import open_store\n"
        f"store = open_store(Settings(database_url={sqlite_url!r}))\n{work}\n"
        f"print([name for name in {forbidden!r} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)

    assert (done.stdout.strip(), done.stderr) == ("[]", "")
