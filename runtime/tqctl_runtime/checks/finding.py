"""What a check says."""

from __future__ import annotations

from dataclasses import dataclass, replace

OK, PROBLEM, SKIPPED = "ok", "problem", "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; *hint* is the step that mends it, empty where nothing is to be mended."""

    check: str
    level: str
    message: str
    hint: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether somebody must do something."""
        return self.level == PROBLEM

    def named(self, check: str) -> Finding:
        """The same, said by *check*."""
        return replace(self, check=check)


def ok(message: str) -> Finding:
    """All is well."""
    return Finding("", OK, message)


def problem(message: str, hint: str) -> Finding:
    """Something must be mended."""
    return Finding("", PROBLEM, message, hint)


def skipped(message: str) -> Finding:
    """It could not be looked at, for a reason that another check tells."""
    return Finding("", SKIPPED, message)
