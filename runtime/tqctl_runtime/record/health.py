"""What the checks found over time, and what the system recovered from.

Results are kept as stretches: one row as long as a check's level stays the same, begun anew at each full hour so that
the success rate of a window of hours can be counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from tqctl_runtime.core.attempt import clean_text
from tqctl_runtime.core.clock import iso, now_ms
from tqctl_runtime.core.ids import new_id
from tqctl_runtime.record import statements
from tqctl_runtime.record.columns import HEALTH, RECOVERIES
from tqctl_runtime.record.database import Database
from tqctl_runtime.record.prune import check_term

#: Recovery events that are kept.
KEPT_EVENTS = 1_000
_HOUR_MS = 3_600_000
_TEXT_LIMIT = 2_000
_LEVELS = ("ok", "problem")
_INSERT = statements.insert("health", HEALTH) + statements.DO_NOTHING
_CONTINUE = "UPDATE health SET seen_at = ?, runs = runs + 1, message = ?, hint = ? WHERE name = ? AND at = ?"
_LAST = (
    "SELECT h.name, h.at, h.since, h.level, h.seen_at, h.message, h.hint FROM health h "
    "JOIN (SELECT name, MAX(at) AS at FROM health WHERE seen_at >= ? GROUP BY name) m "
    "ON m.name = h.name AND m.at = h.at ORDER BY h.name"
)
_RUNS = "SELECT name, level, SUM(runs) FROM health WHERE seen_at >= ? GROUP BY name, level"
_STRETCHES = (
    "SELECT name, level, since, MAX(seen_at), SUM(runs), MAX(at) FROM health WHERE seen_at >= ? {} "
    "GROUP BY name, since, level ORDER BY since DESC, name LIMIT ?"
)
_TEXTS = "SELECT message, hint FROM health WHERE name = ? AND at = ?"
_PRUNE = "DELETE FROM health WHERE seen_at < ?"
_NOTE = statements.insert("recoveries", RECOVERIES) + statements.DO_NOTHING
_EVENTS = "SELECT at, kind, subject, message, length_ms FROM recoveries WHERE at >= ? ORDER BY at DESC, id DESC LIMIT ?"
_PRUNE_EVENTS = (
    "DELETE FROM recoveries WHERE at < (SELECT at FROM recoveries ORDER BY at DESC, id DESC LIMIT 1 OFFSET ?)"
)


class Result(NamedTuple):
    """What one check found in one run; *level* is ``ok``, ``problem`` or ``skipped``."""

    name: str
    level: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class CheckState:
    """A check as of its last run. *success_rate* is 0 to 1 over the window asked for, None where it never looked."""

    check: str
    level: str
    since: str | None
    seen_at: str | None
    success_rate: float | None
    message: str
    hint: str | None

    def to_json(self) -> dict[str, Any]:
        """These names, in this order."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Stretch:
    """How long a check stayed at one level, with the last message of that time. Instants are RFC 3339 text."""

    check: str
    level: str
    since: str | None
    until: str | None
    runs: int
    message: str
    hint: str | None

    def to_json(self) -> dict[str, Any]:
        """These names, in this order."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Recovery:
    """Something that the system recovered from by itself; *length_s* is how long it lasted, where that is known."""

    at: str | None
    kind: str
    subject: str
    message: str
    length_s: float | None

    def to_json(self) -> dict[str, Any]:
        """These names, in this order."""
        return asdict(self)


class Health:
    """Reads and writes them. Every method raises RecordUnavailable where the database does not answer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- recovery events

    def note(self, kind: str, subject: str, message: str, *, length_ms: int | None = None, at: int = 0) -> None:
        """Keep a recovery event: *kind* is a word such as ``repair``, *subject* what recovered, *at* ms (0: now).

        It only adds, so it needs no term: what happened is true whoever tells it.
        """
        self.note_all([RecoveryNote(kind, subject, message, length_ms, at or now_ms())])

    def note_all(self, notes: Iterable[RecoveryNote]) -> None:
        """Keep several recovery events; the same notes again add nothing."""
        for item in notes:
            text = clean_text(item.message, _TEXT_LIMIT)
            self._database.execute(_NOTE, (item.id, item.at, item.kind, item.subject, text, item.length_ms))

    def events(self, *, since: int = 0, limit: int = KEPT_EVENTS) -> list[Recovery]:
        """Recovery events from *since* (ms) on, the latest first."""
        rows = self._database.rows(_EVENTS, (since, limit))
        return [
            Recovery(iso(at), kind, subject, message, None if length is None else length / 1000)
            for at, kind, subject, message, length in rows
        ]

    # -- results of checks

    def save(self, at: int, results: Sequence[Result], *, term: int, gap_ms: int) -> None:
        """Keep one run of the checks; a check that was not seen for *gap_ms* begins a new stretch.

        Raises:
            LeaseLost: *term* is over; nothing was written.
        """
        with self._database.transaction():
            check_term(self._database, term)
            last = {row[0]: row for row in self._database.rows(_LAST, (at - gap_ms,))}
            for name, level, message, hint in results:
                text, step = clean_text(message, _TEXT_LIMIT), clean_text(hint, _TEXT_LIMIT)
                _, began, since, old_level, _, _, _ = last.get(name, (name, 0, at, "", 0, "", ""))
                is_same = old_level == level
                if is_same and began // _HOUR_MS == at // _HOUR_MS:
                    self._database.execute(_CONTINUE, (at, text, step, name, began))
                else:
                    row = (name, at, since if is_same else at, level, at, 1, text, step)
                    self._database.execute(_INSERT, row)

    def checks(self, *, window_ms: int, now: int = 0) -> list[CheckState]:
        """Each check that was seen in the last *window_ms*, with its success rate in them (to the hour)."""
        begin = (now or now_ms()) - window_ms
        runs: dict[str, dict[str, int]] = {}
        for name, level, count in self._database.rows(_RUNS, (begin,)):
            runs.setdefault(name, {})[level] = int(count)
        return [
            CheckState(name, level, iso(since), iso(seen), _rate(runs.get(name, {})), message, hint or None)
            for name, _, since, level, seen, message, hint in self._database.rows(_LAST, (begin,))
        ]

    def history(self, check: str | None = None, *, since: int = 0, limit: int = 100) -> list[Stretch]:
        """Stretches that reach beyond *since* (ms), the one that began last first; of one *check* or of all."""
        statement = _STRETCHES.format("AND name = ?" if check else "")
        found = []
        for name, level, began, until, runs, at in self._database.rows(
            statement, (since, *([check] if check else []), limit)
        ):
            message, hint = self._database.rows(_TEXTS, (name, at))[0]
            found.append(Stretch(name, level, iso(began), iso(until), int(runs), message, hint or None))
        return found

    def prune(self, before: int, *, term: int) -> int:
        """Delete stretches that ended before (ms) and all but the last :data:`KEPT_EVENTS` events; returns rows.

        Raises:
            LeaseLost: *term* is over; nothing was deleted.
        """
        with self._database.transaction():
            check_term(self._database, term)
            rows = self._database.execute(_PRUNE, (before,))
            return rows + self._database.execute(_PRUNE_EVENTS, (KEPT_EVENTS - 1,))


@dataclass(frozen=True, slots=True)
class RecoveryNote:
    """A recovery event on its way to the record; its *id* keeps it from being written twice."""

    kind: str
    subject: str
    message: str
    length_ms: int | None
    at: int
    id: str = ""

    def __post_init__(self) -> None:
        """Give it an id."""
        if not self.id:
            object.__setattr__(self, "id", new_id("rec"))


def _rate(runs: dict[str, int]) -> float | None:
    looked = sum(runs.get(level, 0) for level in _LEVELS)
    return round(runs.get("ok", 0) / looked, 4) if looked else None
