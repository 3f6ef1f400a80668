"""The table for people and the JSON for programs."""

from __future__ import annotations

from typing import Any

from tests.bench.goals import REFERENCE_BARE_MS, Verdict, judge
from tests.bench.results import ROWS, Results, Row
from tests.bench.systems.base import Role, System


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


class Report:
    """One run's results with the systems that took part."""

    def __init__(self, systems: list[System], results: Results, about: dict[str, Any]) -> None:
        self.systems = systems
        self.results = results
        self.about = about
        self.peers = [system.name for system in systems if system.role is Role.PEER]
        self.verdicts, self.missing = judge(results, self.peers)

    def text(self) -> str:
        """The whole report as plain text."""
        lines = ["tqctl bench: " + ", ".join(f"{key} {value}" for key, value in self.about.items())]
        lines += [f"  {self._machine(seen)}" for seen in self.results.machine]
        measured = {row for row, _ in self.results.samples} | {row for row, _ in self.results.remarks}
        for row in ROWS.values():
            if row.name in measured:
                lines += ["", *self._row(row)]
        lines += ["", "What each keeps, and how it was run", *self._keeps()]
        lines += ["", "Goals", *self._scale(), *(self._verdict(verdict) for verdict in self.verdicts)]
        lines += [f"  not judged: {text}" for text in self.missing]
        return "\n".join(lines) + "\n"

    def _machine(self, seen: dict[str, Any]) -> str:
        loop, stolen = f"fixed Python loop {seen['loop_ms']:.0f} ms", f"{seen['stolen']:.0%} of the CPU stolen"
        return f"{seen['phase']}: load {seen['load']:.2f}, {stolen}, {loop}"

    def _row(self, row: Row) -> list[str]:
        lines = [f"{row.name}: {row.unit}; {row.what}"]
        without: dict[str, list[str]] = {}
        for system in self.systems:
            value = self.results.median(row.name, system.name)
            remark = self.results.remarks.get((row.name, system.name), "")
            if value is None:
                without.setdefault(remark, []).append(system.name)
                continue
            found = self.results.samples[row.name, system.name]
            span = f"({_number(min(found))} – {_number(max(found))})"
            ratios = self._ratios(row, system, value)
            lines.append(
                f"  {system.name:<13}{_number(value):>10}  {span:<22}{ratios:<38}{self._extra(row, system)}{remark}"
            )
        lines += [f"  {'–':>23}  {', '.join(names)}: {remark}" for remark, names in without.items() if remark]
        return lines

    def _ratios(self, row: Row, system: System, value: float) -> str:
        """How it compares with the best peer and with the floor."""
        parts: list[str] = []
        best = self.results.best(row.name, self.peers)
        floor = self.results.median(row.name, row.floor) if row.floor else None
        if best is not None and best[1] > 0 and system.name != best[0]:
            parts.append(f"{value / best[1]:.2f} × {best[0]}")
        if floor is not None and floor > 0 and system.name != row.floor:
            parts.append(f"{value / floor:.2f} × floor")
        return "  ".join(parts)

    def _extra(self, row: Row, system: System) -> str:
        details = self.results.details.get((row.name, system.name), {})
        shown = {name: max(figures) for name, figures in details.items()}
        if shown.get("doubled") == 0:
            del shown["doubled"]
        return " ".join(f"{name}={_number(value)}" for name, value in shown.items()) + ("  " if shown else "")

    def _keeps(self) -> list[str]:
        return [f"  {system.name:<13}keeps {system.keeps}\n{'':<15}{system.settings}" for system in self.systems]

    def _scale(self) -> list[str]:
        bare = self.results.median("cli_version", "floor-shell")
        if bare is None:
            return []
        here = f"the bare interpreter takes {bare:.0f} ms here"
        return [f"  ({here}; the ms bounds were set where it takes {REFERENCE_BARE_MS})"]

    def _verdict(self, verdict: Verdict) -> str:
        word = "reached" if verdict.is_reached else "MISSED "
        figures = f"{_number(verdict.value)} against {_number(verdict.bound)}"
        line = f"  {word} {verdict.row:<15}{verdict.system:<10}{verdict.goal:<52}{figures:<26}{verdict.distance:+7.0%}"
        return f"{line}  {verdict.note}".rstrip()

    def json(self) -> dict[str, Any]:
        """Everything, rounds included."""
        return {
            "about": self.about,
            "machine": self.results.machine,
            "systems": {s.name: {"role": s.role, "keeps": s.keeps, "settings": s.settings} for s in self.systems},
            "rows": {row.name: self._row_json(row) for row in ROWS.values()},
            "goals": [{**vars(verdict), "reached": verdict.is_reached} for verdict in self.verdicts],
            "not_judged": self.missing,
        }

    def _row_json(self, row: Row) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for system in self.systems:
            key = (row.name, system.name)
            if key in self.results.samples or key in self.results.remarks:
                found[system.name] = {
                    "median": self.results.median(*key),
                    "rounds": self.results.samples.get(key, []),
                    "details": self.results.details.get(key, {}),
                    "remark": self.results.remarks.get(key),
                }
        return {"unit": row.unit, "what": row.what, "higher_is_better": row.higher_is_better, "systems": found}
