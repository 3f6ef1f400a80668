"""The one judge of every scenario: O1 to O7, held against the record, the journal, the broker and the effects file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from tests.chaos.stage import Stage
from tests.chaos.tap import Seen
from tests.property.history import History
from tests.scripts.rig import Row
from tests.support.leaks import find_leaks
from tqctl_runtime.core.states import FINAL, Outcome, State

#: An attempt's start is computed back from the worker's stopwatch and may lie a rounding before the claim, ms.
_ROUNDING_MS = 5
_AGAIN = {Outcome.FAILED, Outcome.TIMED_OUT}
_TAKEN_BACK = {Outcome.DIED, Outcome.INTERRUPTED, Outcome.RELEASED}
_LIVE_HASHES = ("st", "env", "prog", "cancel")
_LIVE_SETS = ("sched", "exp")


@dataclass
class Figures:
    """What was measured while the world was judged."""

    tasks: int = 0
    effects: int = 0
    repeated: int = 0
    taken_back: int = 0
    retried: int = 0
    deaths: int = 0
    stale: int = 0
    workers_lost: int = 0
    entries: int = 0
    epochs: int = 0
    extra: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        values = {key: value for key, value in asdict(self).items() if key != "extra"}
        return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in (values | self.extra).items())


def assert_world(
    stage: Stage,
    acknowledged: Sequence[str],
    *,
    ends: Mapping[str, State] | None = None,
    open_across_repair: int = 0,
    has_whole_journal: bool = True,
    quarantined: int = 0,
    healthy_deaths: bool = False,
) -> Figures:
    """Judge the world after :meth:`Stage.drain`.

    *ends* are the tasks that do not end succeeded. *open_across_repair* is how many effects a lost broker may have
    repeated. *has_whole_journal* is False where the journal itself was destroyed, so that only its last epoch is held
    to be whole. *healthy_deaths*: whether a task that succeeded may have been charged a death (its worker was killed).
    """
    stage.wait_told()
    figures = Figures(tasks=len(set(acknowledged)))
    _check_record(stage, set(acknowledged), ends or {}, figures)
    _check_attempts(stage)
    _check_journal(stage, figures, has_whole_journal=has_whole_journal)
    _check_fences(stage, figures, has_whole_journal=has_whole_journal)
    _check_effects(stage, figures, open_across_repair)
    _check_live(stage, figures)
    found = stage.sql("SELECT count(*) FROM quarantine")[0][0]
    assert found == quarantined, f"{found} entries in quarantine, {quarantined} expected"
    if not healthy_deaths:
        assert figures.deaths == 0, f"{figures.deaths} deaths were charged to healthy tasks"
    return figures


def _check_record(stage: Stage, acknowledged: set[str], ends: Mapping[str, State], figures: Figures) -> None:
    rows = {row[0]: row[1:] for row in stage.sql("SELECT id, state, deaths, version FROM tasks")}
    lost = acknowledged - rows.keys()
    assert not lost, f"O1: {len(lost)} acknowledged tasks are not in the record: {sorted(lost)[:5]}"
    wrong = {
        task_id: row[0]
        for task_id, row in rows.items()
        if row[0] != ends.get(task_id, State.SUCCEEDED) or row[0] not in FINAL
    }
    assert not wrong, f"O2: {len(wrong)} tasks ended otherwise than they must: {list(wrong.items())[:5]}"
    figures.deaths = sum(row[1] for task_id, row in rows.items() if task_id not in ends)


def _check_attempts(stage: Stage) -> None:
    attempts: defaultdict[str, list[tuple[int, int | None, int | None, str]]] = defaultdict(list)
    for task_id, number, started, finished, outcome in stage.sql(
        "SELECT task_id, number, started_at, finished_at, outcome FROM attempts ORDER BY task_id, number"
    ):
        attempts[task_id].append((number, started, finished, outcome))
    for task_id, done in attempts.items():
        assert [item[0] for item in done] == list(range(1, len(done) + 1)), f"O3: attempts of {task_id}: {done}"
        assert all(item[2] is not None and item[3] for item in done), f"O2: an attempt of {task_id} is open: {done}"
        assert [item[3] for item in done].count(Outcome.SUCCEEDED) <= 1, f"O2: {task_id} succeeded twice: {done}"
        for before, after in pairwise(done):
            if before[2] is not None and after[1] is not None:
                is_after = after[1] >= before[2] - _ROUNDING_MS
                assert is_after, f"O4: attempts of {task_id} overlap: {before}, {after}"


def _check_journal(stage: Stage, figures: Figures, *, has_whole_journal: bool) -> None:
    epochs = stage.tap.epochs()
    assert epochs, "the journal was never read"
    last = max(epochs)
    figures.epochs = len(epochs)
    figures.entries = sum(map(len, epochs.values()))
    for epoch, entries in epochs.items():
        if epoch == last or has_whole_journal:
            numbers = [entry.seq for entry in entries]
            assert numbers == list(range(1, len(numbers) + 1)), f"O3: epoch {epoch} has a gap in its sequence"
            _check_versions(epoch, entries)
    if len(epochs) == 1:
        # The whole set of invariants of the property tests, row by row.
        history = History()
        for entry in epochs[last]:
            history.append(entry.rows, [entry.seq])
    versions = {row[0]: row[1] for row in stage.sql("SELECT id, version FROM tasks")}
    final: Counter[str] = Counter()
    told: dict[str, int] = {}
    for epoch, entries in epochs.items():
        if epoch != last and not has_whole_journal:
            continue
        for row in (row for entry in entries for row in entry.rows if row[0] in "SRFTOC"):
            told[row[2]] = epoch << 32 | row[3]
            final[row[2]] += _state_of(row) in FINAL
            final[row[2]] -= row[0] == "O"
    behind = {
        task_id: (version, versions.get(task_id))
        for task_id, version in told.items()
        if versions.get(task_id) != version and task_id in versions
    }
    assert not behind, f"O3: the record is not what the journal told: {list(behind.items())[:5]}"
    twice = {task_id: count for task_id, count in final.items() if count > 1}
    assert not twice, f"O2: more than one final event: {list(twice.items())[:5]}"
    if has_whole_journal:
        never = [task_id for task_id in versions if final[task_id] != 1]
        assert not never, f"O2: {len(never)} tasks without their one final event: {never[:5]}"
    checkpoint = stage.sql("SELECT epoch, sequence FROM checkpoint")[0]
    # Workers come and go after the last task too: rows may follow what was looked at.
    assert checkpoint >= (last, epochs[last][-1].seq), f"O3: the checkpoint {checkpoint} is not the journal's end"


def _state_of(row: Row) -> str:
    at = {"S": 4, "F": 5, "T": 4, "O": 4}.get(row[0])
    return row[at] if at is not None else State.RUNNING


def _check_versions(epoch: int, entries: Sequence[Seen]) -> None:
    versions: dict[str, int] = {}
    for entry in entries:
        for row in entry.rows:
            if row[0] in "SRFTOC":
                before = versions.get(row[2], 0)
                assert row[3] == before + 1, f"O3: in epoch {epoch} {row} follows version {before}"
                versions[row[2]] = row[3]


def _check_fences(stage: Stage, figures: Figures, *, has_whole_journal: bool) -> None:
    """O7: nobody writes for an attempt of another worker, and a worker that was taken for dead writes nothing more."""
    epochs = stage.tap.epochs()
    for epoch, entries in epochs.items():
        if epoch != max(epochs) and not has_whole_journal:
            # A broker that went back decides anew under numbers it had used: two histories lie over each other here.
            continue
        over: set[str] = set()
        runs: dict[tuple[str, int], str] = {}
        for row in (row for entry in entries for row in entry.rows if row[0] in "RFW"):
            if row[0] == "W":
                if row[3] in {"lost", "gone"}:
                    over.add(row[2])
                figures.workers_lost += row[3] == "lost"
                continue
            task_id, number, worker = row[2], *((row[4], row[5]) if row[0] == "R" else (row[6], row[7]))
            assert worker not in over, f"O7: {worker} was taken for dead and wrote {row[:8]}"
            assert runs.setdefault((task_id, number), worker) == worker, f"O7: {worker} wrote for another: {row}"


def _check_effects(stage: Stage, figures: Figures, open_across_repair: int) -> None:
    """O5: each repeated effect has a taken back or failed attempt that explains it."""
    runs = stage.effects()
    may: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for row in stage.tap.rows("F", "T", "O"):
        if row[0] == "O":
            may[row[2]] += 1
        elif row[0] == "T":
            # Handed out and taken back without a start that was told: the handler may have begun.
            is_back = row[4] in {State.QUEUED, State.SCHEDULED} and row[6] != "due"
            may[row[2]] += is_back
            figures.taken_back += is_back
        elif row[6] and row[5] in FINAL and row[4] == Outcome.SUCCEEDED:
            ended[row[2]] += 1
        elif row[4] in _AGAIN:
            may[row[2]] += 1
            figures.retried += 1
        elif row[4] in _TAKEN_BACK:
            may[row[2]] += 1
            figures.taken_back += 1
    # An end that the broker lost before it was recorded, and that came once more.
    lost = {task_id: count - 1 for task_id, count in ended.items() if count > 1}
    may.update(lost)
    if lost:
        figures.extra["ends_lost"] = sum(lost.values())
    figures.effects = sum(runs.values())
    figures.repeated = sum(runs.values()) - len(runs)
    unexplained = {task_id: count - 1 - may[task_id] for task_id, count in runs.items() if count > 1 + may[task_id]}
    too_many = sum(unexplained.values())
    assert too_many <= open_across_repair, (
        f"O5: {too_many} effects repeated without a reason, {open_across_repair} allowed: {list(unexplained)[:5]}"
    )


def _check_live(stage: Stage, figures: Figures) -> None:
    seen = stage.overview()
    figures.stale = seen.counters.get("stale", 0)
    for name in _LIVE_HASHES:
        assert stage.server_count("HLEN", name) == 0, f"O6: {name} is not empty"
    for name in _LIVE_SETS:
        assert stage.server_count("ZCARD", name) == 0, f"O6: {name} is not empty"
    standing = {queue.name: (queue.ready, queue.suspects) for queue in seen.queues if queue.ready or queue.suspects}
    assert not standing, f"O6: tasks stand in line: {standing}"
    assert not [worker.id for worker in seen.workers if worker.held], "O6: a worker holds something"
    import redis

    url = stage.environment.redis_url
    if url is not None:
        with redis.Redis.from_url(url, protocol=2, socket_timeout=10) as client:
            leaks = find_leaks(client, stage.environment.namespace)
        assert not leaks, "O6: keys are left that nothing bounds:\n" + "\n".join(leaks)
