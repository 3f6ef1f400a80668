"""The key-leak check: every key that is left has a TTL, a cap or a named owner that bounds it (INV-5)."""

from __future__ import annotations

import re
from typing import Any

import redis

from tqctl_runtime.broker.keys import SPECS, Keys, KeySpec


def _pattern(spec: KeySpec) -> re.Pattern[str]:
    head, hole, tail = spec.pattern.partition("{}")
    return re.compile(re.escape(head) + (".+" if hole else "") + re.escape(tail) + r"\Z")


_PATTERNS = [(_pattern(spec), spec) for spec in SPECS]


def find_leaks(client: redis.Redis, namespace: str) -> list[str]:
    """What is wrong with the keys of *namespace*, one line each; empty where nothing is."""
    prefix = Keys(namespace).prefix
    problems = []
    for raw in client.scan_iter(match=f"{prefix}*", count=1000):
        name = raw.decode()
        part = name.removeprefix(prefix)
        spec = next((spec for pattern, spec in _PATTERNS if pattern.match(part)), None)
        if spec is None:
            problems.append(f"{part}: no key builder makes it")
            continue
        problems += [f"{part}: {text}" for text in _problems(client, name, spec)]
    return sorted(problems)


def _problems(client: redis.Redis, name: str, spec: KeySpec) -> list[str]:
    reply = client.type(name)
    kind = reply.decode() if isinstance(reply, bytes) else reply
    if kind == "none":
        return []
    found = []
    if kind != spec.type:
        found.append(f"is a {kind}, its builder says {spec.type}")
    if spec.bound.startswith("TTL") and client.pttl(name) == -1 and not _has_live_task(client, name, spec):
        found.append(f"has no TTL ({spec.bound})")
    if spec.name == "bell" and int(client.llen(name)) > 1:
        found.append("holds more than one element")
    return found


def _has_live_task(client: redis.Redis, name: str, spec: KeySpec) -> bool:
    # Only an idempotency key may do without a TTL: until its task is final.
    if spec.name != "idem":
        return False
    value: Any = client.get(name)
    return bool(client.hexists(name.partition("}:")[0] + "}:st", value.decode().partition(" ")[0]))
