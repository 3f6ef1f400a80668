# ruff: noqa: S608  statements are put together from our own column names; values are always parameters
"""The recorder's statements, made from the column lists. Both databases speak the same upserts.

A value that is NULL never replaces one that is there; a row replaces another only with a greater version.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tqctl_runtime.record.columns import DEAD_LETTERS, TASK_CHANGES, TASK_HOT, TASK_RESETS, TASK_SUCCESS, WINDOWS


def insert(table: str, columns: Iterable[str], source: str = "") -> str:
    """``INSERT`` of all *columns* from *source*, by default one row of parameters."""
    names = list(columns)
    values = source or f"VALUES ({', '.join('?' * len(names))})"
    return f"INSERT INTO {table} ({', '.join(names)}) {values}"


def on_conflict(table: str, keys: Iterable[str], columns: Iterable[str], guard: str = "") -> str:
    """``ON CONFLICT`` that takes over what is told and keeps the rest."""
    key_names = list(keys)
    changes = ", ".join(f"{c} = COALESCE(excluded.{c}, {table}.{c})" for c in columns if c not in key_names)
    where = f" WHERE {guard}" if guard else ""
    return f" ON CONFLICT ({', '.join(key_names)}) DO UPDATE SET {changes}{where}"


def tasks_conflict(columns: Iterable[str]) -> str:
    """``ON CONFLICT`` of tasks: only a greater version counts."""
    return on_conflict("tasks", ["id"], columns, "excluded.version > tasks.version")


def attempts_conflict(columns: Iterable[str]) -> str:
    """``ON CONFLICT`` of attempts: a start is completed by its end."""
    return on_conflict("attempts", ["task_id", "number"], columns, "excluded.version > attempts.version")


DO_NOTHING = " ON CONFLICT DO NOTHING"


def replacing(keys: Iterable[str], columns: Mapping[str, str]) -> str:
    """``ON CONFLICT`` that takes over the new row whole."""
    key_names = list(keys)
    changes = ", ".join(f"{c} = excluded.{c}" for c in columns if c not in key_names)
    return f" ON CONFLICT ({', '.join(key_names)}) DO UPDATE SET {changes}"


#: Parameters: the columns of TASK_CHANGES, id, version.
CHANGE_TASK = (
    "UPDATE tasks SET "
    + ", ".join(f"{c} = ?" if c == "version" else f"{c} = COALESCE(?, {c})" for c in TASK_CHANGES)
    + " WHERE id = ? AND version < ?"
)
#: Parameters: TASK_HOT.
HOT_TASK = insert("tasks", (*TASK_HOT, "failures", "deaths"), f"VALUES ({'?, ' * len(TASK_HOT)}0, 0)")
#: What a plain success sets beside its parameters.
SUCCESS_SETS = (
    "state = 'succeeded', reason = '', "
    "error_type = NULL, error_message = NULL, error_fingerprint = NULL, error_traceback = NULL"
)
#: Parameters: TASK_SUCCESS, version.
SUCCEED_TASK = (
    f"UPDATE tasks SET {', '.join(f'{c} = ?' for c in TASK_SUCCESS[:-1])}, {SUCCESS_SETS} WHERE id = ? AND version < ?"
)
#: Parameters: id, version.
RESET_TASK = f"UPDATE tasks SET {', '.join(f'{c} = NULL' for c in TASK_RESETS)} WHERE id = ? AND version < ?"
#: Parameters: closed_at, closed_as, closed_by, task, closed_at.
CLOSE_LETTER = (
    "UPDATE dead_letters SET closed_at = ?, closed_as = ?, closed_by = ? "
    "WHERE task_id = ? AND closed_at IS NULL AND died_at <= ?"
)
#: Parameters: died_at, reason, error type, error message, fingerprint, task.
ADD_LETTER = (
    insert("dead_letters", list(DEAD_LETTERS)[:8], "SELECT id, ?, handler, queue, ?, ?, ?, ? FROM tasks WHERE id = ?")
    + DO_NOTHING
)
#: The window of a task that was submitted later ends later: its fingerprint was free again.
WINDOWS_CONFLICT = replacing(["fingerprint"], WINDOWS) + " WHERE excluded.ends_at > windows.ends_at"
#: Parameters: section, key / id, state, changed_at.
DELETE_SETTING = "DELETE FROM settings WHERE section = ? AND key = ?"
WORKERS_CONFLICT = (
    " ON CONFLICT (id) DO UPDATE SET state = excluded.state, changed_at = excluded.changed_at, "
    + ", ".join(f"{c} = COALESCE(excluded.{c}, workers.{c})" for c in ("name", "host", "started_at", "info"))
)
