"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """Sizes and bounds of one run of the bench; *work* is where stages are built."""

    work: Path
    rows: frozenset[str]
    rounds: int = 3
    tasks: int = 20_000
    samples: int = 100
    stored: int = 2_000
    shell_runs: int = 20
    kill_bound: float = 120.0
    drain_bound: float = 120.0

    def wants(self, *rows: str) -> bool:
        """Whether any of *rows* was asked for."""
        return bool(self.rows.intersection(rows))
