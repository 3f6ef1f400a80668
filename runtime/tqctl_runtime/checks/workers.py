"""Somebody runs what is queued."""

from __future__ import annotations

from collections.abc import Iterator

from tqctl_runtime.checks.finding import Finding, ok, problem, skipped
from tqctl_runtime.checks.scene import Scene
from tqctl_runtime.observe import registry


def check(scene: Scene) -> Iterator[Finding]:
    """Live workers, and queues with tasks that none of them serves."""
    overview = scene.overview
    if overview is None:
        yield skipped("no open namespace")
        return
    live = [worker for worker in overview.workers if worker.lease_until > overview.now]
    for info in registry.living(scene.settings):
        if info.role == "worker" and info.is_suspended:
            yield problem(f"{info.name} (pid {info.pid}) is suspended by a signal", f"kill -CONT {info.pid}")
    if not live:
        stopped = [info.name for info in registry.stopped(scene.settings) if info.role == "worker"]
        if stopped:
            told = f"no worker: {', '.join(stopped)} stopped by hand and stays stopped"
            yield problem(told, registry.COMES_BACK)
        else:
            yield problem("no worker", "tqctl worker start --app MODULE")
        return
    yield ok(f"{len(live)} live")
    for worker in live:
        if worker.is_deaf:
            seconds = worker.figures["claim_silence_ms"] // 1000
            yield problem(
                f"{worker.info.get('name', worker.id)} renews its lease and has claimed nothing for {seconds} s",
                f"its log tells why; restart it: kill {worker.info.get('pid')} on {worker.info.get('host')}",
            )
    served = {queue for worker in live for queue in worker.info.get("queues", [])}
    for queue in overview.queues:
        waiting = queue.ready + queue.suspects
        if waiting and queue.name not in served:
            yield problem(
                f"{waiting:,} tasks wait in {queue.name}, which no worker serves",
                f"tqctl worker start --queues {queue.name} --app MODULE",
            )
