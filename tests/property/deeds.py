"""What operators, waiting clients and the recorder do now and then; *pick* chooses among what is there."""

from __future__ import annotations

from tests.property.mend import repair_broker, repair_model
from tests.property.twin import DAY, Twin
from tests.property.world import QUEUES
from tqctl_runtime.broker import calls, leader_calls, worker_calls
from tqctl_runtime.core.states import State

_NEVER = 10**9


class Deeds(Twin):
    """One method for each deed; what there is nothing for does nothing."""

    def _some(self, pick: int) -> list[str]:
        ids = self.ids()
        return [ids[(pick + step) % len(ids)] for step in (0, 1, 7)[: pick % 3 + 1]] if ids else []

    def cancel(self, pick: int) -> None:
        """Some tasks, live or not, are cancelled."""
        chosen = self._some(pick)
        wanted = [self.model.cancel(task_id) for task_id in chosen]
        assert self.rig.cancel(*chosen) == wanted

    def retry(self, pick: int) -> None:
        """Some tasks are to run again."""
        chosen = self._some(pick)
        wanted = [self.model.retry(task_id, None) for task_id in chosen]
        assert self.rig.retry(*chosen).codes == wanted

    def revive(self, pick: int) -> None:
        """A forgotten task is to run again; the record tells its end, or sometimes one version before."""
        tombs = [tomb for tomb in self.model.tombs.values() if tomb.state is not State.SUCCEEDED]
        if not tombs:
            return
        task = tombs[pick % len(tombs)]
        v = task.v - (pick % 3 == 2)
        known = calls.Recorded(
            envelope=task.envelope,
            version=task.epoch << 32 | v,
            attempts=task.attempts,
            queue=task.queue,
            priority=task.priority,
            max_retries=task.max,
            idempotency_key=task.idem,
            fingerprint=task.fingerprint,
            created_at=task.created,
        )
        wanted = self.model.retry(task.id, v)
        assert self.rig.retry(task.id, known=known).codes == [wanted], "INV-3"

    def forget(self, pick: int) -> None:
        """All that is final is recorded; now and then the recorder is a version behind, then nothing may be dropped."""
        wait, behind, term = (0, 60_000)[pick % 2], int(pick % 5 == 4), self.term
        final = [(task.id, task.v - behind) for task in self.model.tasks.values() if task.is_final]

        def kept() -> list[str]:
            self.model.check_term(term)
            return [task_id for task_id, v in final if not self.model.forget(task_id, v, wait)]

        if final:
            answers = self.as_leader(kept, lambda: self.rig.forget(*final, wait_ms=wait, term=term))
            assert answers is None or answers[0] == answers[1]

    def ask_for_a_term(self, pick: int) -> None:
        """Somebody wants to lead."""
        self.elect(pick % 4 - 1, (DAY, 15_000, 15_000, DAY, 0)[pick % 5])

    def note(self, pick: int) -> None:
        """Progress under a token, perhaps an old one."""
        if not self.handed_out:
            return
        task_id, token = self.handed_out[pick % len(self.handed_out)]
        task = self.model.tasks.get(task_id)
        if task is not None and task.held and task.token == token:
            self.model.progress.add(task_id)
        self.rig.do(worker_calls.note(self.rig.keys, [(task_id, token, '{"percent":1}', b"")], now=self.rig.now))

    def watch(self, pick: int) -> None:
        """A client begins to wait."""
        if not self.model.tasks:
            return
        task = list(self.model.tasks.values())[pick % len(self.model.tasks)]
        (seen,) = self.rig.watch(task.id)
        if not task.is_final and not task.watched:
            task.watched = 1
        assert (seen.state, seen.v, seen.detail) == (task.state, task.v, task.detail or b"")

    def pause(self, pick: int) -> None:
        """A queue is paused, for ever or a while."""
        queue, for_ms = QUEUES[pick % 2], (0, 1_000, 30_000)[pick % 3]
        until = self.rig.now + for_ms if for_ms else 0
        self.model.pauses[queue] = until
        assert self.rig.pause(queue, for_ms) == until
        self.model.rows.append(("K", self.rig.now, "pause", queue))
        self._sweep_pauses()

    def _sweep_pauses(self) -> None:
        """Pauses that ran out go with the next word about a queue."""
        for queue, until in list(self.model.pauses.items()):
            if 0 < until <= self.rig.now:
                del self.model.pauses[queue]
                self.model.rows.append(("K", self.rig.now, "pause", queue))

    def resume(self, pick: int) -> None:
        """A paused queue is resumed."""
        if not self.model.pauses:
            return
        queue = list(self.model.pauses)[pick % len(self.model.pauses)]
        del self.model.pauses[queue]
        self.rig.resume(queue)
        self.model.rows.append(("K", self.rig.now, "pause", queue))
        self._sweep_pauses()

    def purge(self, pick: int) -> None:
        """What stands in a queue is cancelled."""
        queue = QUEUES[pick % 2]
        call = calls.purge(self.rig.keys, queue, reason="why", who="me", now=self.rig.now)
        assert self.rig.do(call) == (self.model.purge(queue), 0)

    def set_marks(self, pick: int) -> None:
        """The leader moves the marks of back-pressure."""
        busy, stop = ((_NEVER, _NEVER), (0, _NEVER), (0, 0), (5, 10))[pick % 4]
        term = self.term

        def write() -> None:
            self.model.check_term(term)
            self.model.busy_rows, self.model.stop_rows = busy, stop

        self.as_leader(write, lambda: self.rig.marks(busy, stop, term=term))

    def lose_and_repair(self, pick: int) -> None:
        """Redis loses everything, or is built anew as it is; all of it was recorded."""
        if pick % 2:
            for name in self.rig.names():
                self.rig.raw("DEL", self.rig.keys.prefix + name)
            self.model.windows.clear()
            self.model.stale = 0
        self.term += 1
        repair_broker(self.rig, self.model, self.term)
        repair_model(self.model)
        self.reader.start_anew()
        self.history.begin_epoch()
        # Whoever worked is unknown now and joins under another id, if at all.
        self.alive.clear()
        self.elect(1, DAY)

    def publish(self, pick: int) -> None:
        """The recorder has committed all but perhaps the last rows."""
        term, rows = self.term, max(len(self.model.rows) - pick % 3, self.model.recorded_rows)

        def write() -> None:
            self.model.check_term(term)
            self.model.recorded_rows = rows

        call = leader_calls.publish(
            self.rig.keys,
            term=term,
            epoch=self.model.epoch,
            seq=self.history.last_seq,
            stream_id=self.rig.do(leader_calls.journal_last(self.rig.keys)) or "0-0",
            rows=rows - self.model.rows_before_repair,
            size=0,
            now=self.rig.now,
        )
        self.as_leader(write, lambda: self.rig.do(call))
