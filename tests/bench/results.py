"""What was measured: samples by row and system, and the rows themselves."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """One line of the comparison."""

    name: str
    unit: str
    what: str
    higher_is_better: bool = False
    floor: str = ""
    for_information: bool = False


_LONE = "one client, one task a call, each acknowledged"
_DRAIN = "queue filled before, rate over the bodies that ran, from the first body's mark to the last"
_START = "wall time of one command, start to exit"

ROWS = {
    row.name: row
    for row in (
        Row("enqueue_1", "tasks/s", _LONE, True, "floor-single"),
        Row("enqueue_bulk", "tasks/s", "all tasks through the bulk call, where there is one", True, "floor-single"),
        Row("drain_1", "tasks/s", f"one worker; {_DRAIN}", True, "floor-lua"),
        Row("drain_recorded", "tasks/s", "drain_1 until the last finished task is committed in SQL", True),
        Row("drain_2", "tasks/s", f"two workers started together; {_DRAIN}", True, "floor-lua"),
        Row("latency_idle", "ms", "submit call to the body's first line, idle worker, median", False, "floor-single"),
        Row("latency_idle_p95", "ms", "the same, 95th percentile", False, "floor-single", True),
        Row(
            "worker_pss",
            "MB",
            "idle worker after that, all its processes, proportional set size",
            False,
            "floor-single",
        ),
        Row("bytes_waiting", "bytes", "growth of the store for a waiting task, journal apart", False, "floor-single"),
        Row(
            "bytes_finished",
            "bytes",
            "the same for a finished task, keys with a time to live gone",
            False,
            "floor-single",
        ),
        Row(
            "cli_submit", "ms", f"submit from the shell; {_START}; floor: LPUSH over a raw socket", False, "floor-shell"
        ),
        Row("script_submit", "ms", f"a Python script that submits one; {_START}", False, "floor-single", True),
        Row("cli_help", "ms", f"--help; {_START}", False, "floor-shell"),
        Row("cli_version", "ms", f"--version; {_START}", False, "floor-shell"),
        Row("cli_tab", "ms", f"one TAB on a live name (handlers); {_START}", False, "floor-shell"),
        Row("cli_task_show", "ms", f"task show ID; {_START}", False, "floor-shell"),
        Row("cli_status", "ms", f"status; {_START}", False, "floor-shell"),
        Row("cli_task_list", "ms", f"task list of 50 rows; {_START}", False, "floor-shell"),
        Row("kill9", "s", "worker tree killed 1.5 s into a 5 s task, default settings: kill to second start"),
    )
}


@dataclass
class Results:
    """Samples, details and remarks by (row, system); a remark stands where there is no figure."""

    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    details: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)
    remarks: dict[tuple[str, str], str] = field(default_factory=dict)
    machine: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: str, system: str, value: float, **details: float) -> None:
        """One sample of a round, and whatever else was seen in it."""
        self.samples.setdefault((row, system), []).append(value)
        for name, figure in details.items():
            self.details.setdefault((row, system), {}).setdefault(name, []).append(figure)

    def remark(self, row: str, system: str, text: str) -> None:
        """Say why there is no figure, or what is special about it."""
        self.remarks[row, system] = text

    def median(self, row: str, system: str) -> float | None:
        """The median of the rounds; None: not measured."""
        found = self.samples.get((row, system))
        return statistics.median(found) if found else None

    def best(self, row: str, systems: list[str]) -> tuple[str, float] | None:
        """The best of *systems* at *row* with its median; None: none of them has it."""
        found = [(name, value) for name in systems if (value := self.median(row, name)) is not None]
        if not found:
            return None
        choose = max if ROWS[row].higher_is_better else min
        return choose(found, key=lambda item: item[1])
