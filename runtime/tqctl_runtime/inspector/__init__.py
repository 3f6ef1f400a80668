"""Read models and operator verbs over both stores: Redis first for what is alive, SQL for everything else."""

from __future__ import annotations

from tqctl_runtime.inspector.inspector import Inspector
from tqctl_runtime.inspector.models import Change, CoordinatorInfo, Pause, QueueInfo, RecordLag, WorkerInfo
from tqctl_runtime.record.filters import LetterFilter, Sort, TaskFilter
from tqctl_runtime.record.read import DeadLetter

__all__ = [
    "Change",
    "CoordinatorInfo",
    "DeadLetter",
    "Inspector",
    "LetterFilter",
    "Pause",
    "QueueInfo",
    "RecordLag",
    "Sort",
    "TaskFilter",
    "WorkerInfo",
]
