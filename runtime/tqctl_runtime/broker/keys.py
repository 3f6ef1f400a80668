"""Every key of the broker: one builder each, with type, owner and what bounds it.

All keys of a namespace share one hash tag, so that every script stays in one slot. The keys in Lua are written
from this table; no script and no other module spells a key.
"""

import re
from typing import NamedTuple

#: What two releases must share to work side by side on one namespace: keys, lines, envelopes and journal rows. It is
#: raised by a change that an earlier release would misread.
PROTOCOL = 2


class KeySpec(NamedTuple):
    """One kind of key. *pattern* has at most one ``{}``; *bound* says why it cannot grow or stay for ever."""

    name: str
    pattern: str
    type: str
    owner: str
    bound: str


SPECS = (
    KeySpec("meta", "meta", "hash", "coordinator", "a fixed set of fields"),
    KeySpec("st", "st", "hash", "tasks", "a line for each live task; dropped when recorded"),
    KeySpec("env", "env", "hash", "tasks", "an envelope for each live task; dropped when recorded"),
    KeySpec("res", "res", "hash", "tasks", "results of watched tasks; dropped when recorded and waited for"),
    KeySpec("prog", "prog", "hash", "tasks", "last progress of running tasks; dropped with the attempt"),
    KeySpec("cancel", "cancel", "hash", "tasks", "reasons of cancel requests; dropped with the attempt"),
    KeySpec("ready", "q:{}", "zset", "tasks", "queued tasks of a queue"),
    KeySpec("suspects", "s:{}", "zset", "tasks", "queued tasks of a queue that must run alone"),
    KeySpec("bell", "b:{}", "list", "queues", "at most one element"),
    KeySpec("sched", "sched", "zset", "tasks", "scheduled and retrying tasks by due time"),
    KeySpec("exp", "exp", "zset", "tasks", "tasks with an expiry; swept by the promoter"),
    KeySpec("queues", "queues", "set", "queues", "names of queues with tasks in line; swept by coordinators"),
    KeySpec("pause", "pause", "hash", "queues", "paused queues"),
    KeySpec("pausewhy", "pausewhy", "hash", "queues", "why, by whom and until when; one for each paused queue"),
    KeySpec("leases", "leases", "zset", "workers", "live workers by the end of their lease; reaped"),
    KeySpec("workers", "workers", "hash", "workers", "registrations of live workers; reaped"),
    KeySpec("wlive", "wlive", "hash", "workers", "last heartbeat's figures of live workers; reaped"),
    KeySpec("own", "own:{}", "hash", "workers", "tasks a worker holds; drained by finish or reaped"),
    KeySpec("slot", "slot:{}", "string", "workers", "TTL: an hour after the last round"),
    KeySpec("catalogue", "catalogue", "hash", "handlers", "a row for each handler ever registered"),
    KeySpec("journal", "j", "stream", "recorder", "drained: trimmed behind the checkpoint"),
    KeySpec("wm", "wm", "hash", "recorder", "a fixed set of fields"),
    KeySpec("lead", "lead", "hash", "coordinator", "a row for each role"),
    KeySpec("stat", "stat", "hash", "coordinator", "a fixed set of counters"),
    KeySpec("coordinators", "coordinators", "hash", "coordinator", "live coordinators; swept by the leader"),
    KeySpec("idem", "i:{}", "string", "tasks", "TTL: a day after its task is final"),
    KeySpec("unique", "u:{}", "string", "tasks", "TTL: the window asked for"),
    KeySpec("tomb", "t:{}", "string", "tasks", "TTL: an hour after the task was forgotten"),
    KeySpec("log", "log:{}", "stream", "tasks", "capped; TTL: a minute, or the lease, after its attempt's last beat"),
)

BY_NAME = {spec.name: spec for spec in SPECS}
_USED = re.compile(r"\bk_([a-z]+)\b")
_BUILT = re.compile(r"\bk_([a-z]+)\(([^()]*)\)")


class Keys:
    """The keys and channels of one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.prefix = f"{{tq:{namespace}}}:"
        self.meta = self.build("meta")

    def build(self, name: str, part: str = "") -> str:
        """The key of kind *name*; *part* fills its pattern (a queue, a worker, a task id)."""
        return self.prefix + BY_NAME[name].pattern.format(part)

    def done_channel(self, task_id: str) -> str:
        """Where the end of a watched task is told."""
        return f"{self.prefix}done:{task_id}"

    def control_channel(self, worker: str) -> str:
        """Where a worker hears of cancel requests at once."""
        return f"{self.prefix}ctl:{worker}"

    @property
    def watermark_channel(self) -> str:
        """Where the recorder tells each commit."""
        return f"{self.prefix}wm"


def write_keys(source: str) -> str:
    """Lua *source* with its keys spelt out: ``k_st`` is a local, ``k_ready(queue)`` becomes an expression.

    ``KEYS[1]`` is always the namespace's meta key. Functions would be made anew in every call of the script.
    """
    body = _BUILT.sub(lambda match: f"(PREFIX .. '{BY_NAME[match[1]].pattern[:-2]}' .. {match[2]})", source)
    lines = ["local PREFIX = string.sub(KEYS[1], 1, -5)"]
    for name in sorted(set(_USED.findall(body))):
        pattern = BY_NAME[name].pattern
        if "{}" in pattern:
            raise ValueError(f"k_{name} is called with parentheses in its argument: give that a name first")
        lines.append(f"local k_{name} = PREFIX .. '{pattern}'")
    return "\n".join([*lines, body])
