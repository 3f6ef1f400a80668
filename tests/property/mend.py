"""Repair of the model and of the broker beside it: everything was recorded, and the record is what the model knows."""

from __future__ import annotations

from typing import Any

from tests.property.model import Model
from tests.property.records import ModelTask
from tests.scripts.rig import DAY, HOUR, Rig
from tqctl_runtime.broker import leader_calls, repair_calls
from tqctl_runtime.core.states import STATE_CODES, Outcome, State

REASON = "put back"
_WAITING = {State.SCHEDULED, State.RETRYING}


def _worker(task: ModelTask) -> str:
    return task.token.split("-")[2] if task.state is State.RUNNING else ""


def row_of(task: ModelTask) -> list[Any]:
    """What the record tells of a task that has not ended."""
    counts = [task.failures, task.deaths, task.attempts]
    scheduled = task.due if task.state in _WAITING else task.base
    times = [task.created, scheduled, task.expires, task.started]
    asked = [_worker(task), int(task.cancel), task.cancel_reason]
    head = [task.id, str(task.state), task.queue, task.priority, task.max]
    return [*head, *counts, *times, *asked, task.idem, task.fingerprint, task.envelope]


def repair_broker(rig: Rig, model: Model, term: int) -> None:
    """All calls of a repair, for what *model* knows before its own."""
    keys, do, now = rig.keys, rig.do, rig.now
    seen = do(repair_calls.survey(keys, now=now))
    epoch = model.epoch + 1
    assert do(
        repair_calls.close_gate(keys, term=term, epoch=epoch, seen=seen.epoch, pairing="pair", by="rep_x", now=now)
    )
    cursor, is_last = 0, False
    while not is_last:
        cursor, names = do(repair_calls.scan_names(keys, cursor))
        is_last = cursor == 0
        do(repair_calls.wipe(keys, names, term=term, is_last=is_last, now=now))
    living = [task for task in model.tasks.values() if not task.is_final]
    ended = [task for task in [*model.tasks.values(), *model.tombs.values()] if task.is_final]
    for _ in range(2 if living else 0):
        # Once more, as after a lost reply: nothing is put back twice.
        do(repair_calls.rebuild(keys, [row_of(task) for task in living], term=term, reason=REASON, now=now))
    pauses = [(queue, until, "{}") for queue, until in model.pauses.items() if until == 0 or until > now]
    held = [(key, holder, mark, DAY) for key, (holder, mark) in model.keys.items()]
    # The windows, which a wipe leaves, are gone too, as after a flush.
    for mark in model.windows:
        rig.raw("DEL", keys.build("unique", mark))
    windows = [(mark, task_id, HOUR) for mark, task_id in model.windows.items()]
    tombs = [(task.id, task.epoch, task.v, STATE_CODES[task.state], HOUR) for task in ended]
    do(repair_calls.restore(keys, term=term, pauses=pauses, held=held, windows=windows, tombs=tombs, now=now))
    assert do(leader_calls.open_gate(keys, epoch=epoch, pairing="pair", repair_term=term)).is_new


def repair_model(model: Model) -> None:
    """The same for *model*: ended tasks are known, open ones begin at version 1, nobody holds anything."""
    model.epoch += 1
    model.recorded_rows = model.rows_before_repair = len(model.rows)
    for task in list(model.tasks.values()):
        if task.is_final:
            model.tombs[task.id] = model.tasks.pop(task.id)
    for tomb in model.tombs.values():
        tomb.token = ""
    for task in model.tasks.values():
        _put_back(model, task)
    model.pauses = {queue: until for queue, until in model.pauses.items() if until == 0 or until > model.now}
    model.rows += [("K", model.now, "pause", queue) for queue in model.pauses]
    model.workers, model.slots, model.progress = {}, {}, set()
    model.leader, model.last_tick, model.reap_from, model.fence = ("", 0, 0), None, 0, 0
    model.busy_rows = model.stop_rows = 10**9


def _put_back(model: Model, task: ModelTask) -> None:
    was, worker, started, reason = task.state, _worker(task), task.started, REASON
    task.base = max(task.created, task.due if was in _WAITING else task.base)
    task.epoch, task.v, task.place, task.started = model.epoch, 1, 0, 0
    task.held, task.token, task.watched, task.suspect = False, "", 0, task.deaths > 0
    if task.cancel:
        task.state, task.due, reason = State.CANCELLED, 0, task.cancel_reason
        task.cancel, task.cancel_reason = False, ""
    elif was not in _WAITING:
        task.state, task.due = State.QUEUED, 0
    if was is State.RUNNING:
        words = (task.attempts, worker, started, task.failures, task.deaths, 0, reason, b"")
        model._tell("F", task, str(Outcome.INTERRUPTED), task.state, *words)
    else:
        model._tell("T", task, task.state, task.due, reason, "")
