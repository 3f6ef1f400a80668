"""The goals: ratios to a peer or to a floor of the same run, and how far away each is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.bench.results import ROWS, Results


@dataclass(frozen=True)
class Verdict:
    """One goal for one of our systems. *distance* is value ÷ bound − 1, signed so that negative means missing."""

    row: str
    system: str
    goal: str
    value: float
    bound: float
    distance: float
    note: str = ""

    @property
    def is_reached(self) -> bool:
        """Whether the goal is met."""
        return self.distance >= 0


#: What the bare interpreter took on the machine where the bounds in ms were set: the scale of those bounds.
REFERENCE_BARE_MS = 6

Bound = Callable[[Results, list[str]], float | None]


@dataclass(frozen=True)
class Goal:
    """A bound for a row; *systems* limits it to some of ours."""

    row: str
    text: str
    bound: Bound
    systems: tuple[str, ...] = ("tqctl", "tqctl-pg")
    over_bare: bool = False


def _times_best(factor: float, row: str, without: tuple[str, ...] = ()) -> Bound:
    def bound(results: Results, peers: list[str]) -> float | None:
        best = results.best(row, [peer for peer in peers if peer not in without])
        return None if best is None else factor * best[1]

    return bound


def _times_system(factor: float, row: str, system: str) -> Bound:
    def bound(results: Results, _peers: list[str]) -> float | None:
        value = results.median(row, system)
        return None if value is None else factor * value

    return bound


def _exactly(value: float) -> Bound:
    def bound(_results: Results, _peers: list[str]) -> float | None:
        return value

    return bound


GOALS = (
    Goal("enqueue_1", "≥ 0.6 × floor (LPUSH)", _times_system(0.6, "enqueue_1", "floor-single")),
    Goal("enqueue_1", "ahead of every peer but a bare push (huey)", _times_best(1.0, "enqueue_1", ("huey",))),
    Goal("enqueue_bulk", "≥ 2 × best peer", _times_best(2.0, "enqueue_bulk")),
    Goal("drain_1", "≥ 1.5 × best peer", _times_best(1.5, "drain_1")),
    Goal("drain_recorded", "≥ 1 × pgqueuer's drain_1", _times_system(1.0, "drain_1", "pgqueuer"), ("tqctl-pg",)),
    Goal("drain_recorded", "≥ 1.3 × pgqueuer's drain_1", _times_system(1.3, "drain_1", "pgqueuer"), ("tqctl",)),
    Goal("drain_2", "≥ 1.2 × best peer", _times_best(1.2, "drain_2")),
    Goal("latency_idle", "≤ 0.9 × best peer (ours: handler in another process)", _times_best(0.9, "latency_idle")),
    Goal("cli_submit", "≤ 0.6 × fastest peer", _times_best(0.6, "cli_submit")),
    Goal("cli_version", "≤ 50 ms over the bare interpreter", _exactly(50), over_bare=True),
    Goal("cli_tab", "≤ 120 ms over the bare interpreter", _exactly(120), over_bare=True),
    Goal("cli_task_show", "≤ 150 ms over the bare interpreter", _exactly(150), over_bare=True),
    Goal("cli_status", "≤ 150 ms over the bare interpreter", _exactly(150), over_bare=True),
    Goal("cli_task_list", "≤ 300 ms over the bare interpreter", _exactly(300), over_bare=True),
    Goal("worker_pss", "≤ 60 MB", _exactly(60)),
    Goal("bytes_waiting", "≤ 550 bytes, journal apart", _exactly(550)),
    Goal("bytes_finished", "0 after the window (≤ 4: registrations, counters)", _exactly(4)),
    Goal("kill9", "≤ 30 s by default", _exactly(30)),
)


def judge(results: Results, peers: list[str]) -> tuple[list[Verdict], list[str]]:
    """Verdicts, and for each goal that could not be judged one line that says which figure is missing."""
    verdicts: list[Verdict] = []
    missing: list[str] = []
    for goal in GOALS:
        for system in goal.systems:
            value = results.median(goal.row, system)
            bare = results.median(goal.row, "floor-shell") if goal.over_bare else 0.0
            bound = goal.bound(results, peers)
            if value is None or bound is None or bare is None:
                if goal.row in {row for row, _ in results.samples} | {row for row, _ in results.remarks}:
                    lacking = "its own figure" if value is None else "the figure to compare with"
                    missing.append(f"{goal.row} {system}: {goal.text}: {lacking} is missing")
                continue
            value -= bare
            sign = 1 if ROWS[goal.row].higher_is_better else -1
            distance = sign * (value / bound - 1)
            note = f"at a bare start of {REFERENCE_BARE_MS} ms: {value * REFERENCE_BARE_MS / bare:.0f}" if bare else ""
            verdicts.append(Verdict(goal.row, system, goal.text, value, bound, distance, note))
    return verdicts, missing
