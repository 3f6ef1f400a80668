"""SQLite's locks belong to the process: what one part of it opens and closes must not unlock what another holds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tqctl_runtime.core.settings import Settings
from tqctl_runtime.record import open_store

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
print(connection.execute("select count(*) from kept").fetchone()[0])
connection.close()
"""


def read(path: Path) -> int:
    """The rows that another process sees; it is the last to leave unless our locks hold."""
    done = subprocess.run([sys.executable, "-c", READER, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_a_second_connection_of_the_process_never_lets_a_reader_delete_the_log_of_the_first(sqlite_url: str) -> None:
    path = Path(sqlite_url.removeprefix("sqlite:///"))
    settings = Settings(database_url=sqlite_url)
    first, second = open_store(settings), open_store(settings)
    connection = first.database.connection
    connection.execute("create table kept (x int)")
    # It opens the file again; where that happened beside SQLite, closing it dropped the locks of the first.
    second.database.connection.execute("select 1").fetchone()
    assert read(path) == 0
    connection.execute("insert into kept values (1)")
    assert path.with_name(f"{path.name}-wal").exists()
    assert read(path) == 1
    second.close()
    first.close()
