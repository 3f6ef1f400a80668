"""``python -m tests.bench.apps.driver APP COMMAND [N...]``: drive one system's client and print what it took as JSON.

Commands: ``each COUNT`` and ``bulk COUNT`` (seconds), ``latency SAMPLES`` (ms from submit to the body's first line),
``one NUMBER``, ``slow NUMBER SECONDS``. The first task of ``each`` and ``bulk`` connects and is not timed.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.bench.apps.marks import Marks
from tests.bench.apps.producer import Producer

_SAMPLE_TIMEOUT = 30.0
_PAUSE = (0.02, 0.08)


def _timed(submit: Callable[[range], None], producer: Producer, count: int) -> dict[str, Any]:
    producer.one(0)
    began = time.perf_counter()
    submit(range(1, count))
    return {"tasks": count - 1, "seconds": time.perf_counter() - began}


def _wait(marks: Marks, number: int) -> float:
    deadline = time.monotonic() + _SAMPLE_TIMEOUT
    while not marks.hits(number):
        if time.monotonic() > deadline:
            raise TimeoutError(f"task {number} did not run within {_SAMPLE_TIMEOUT:.0f} s")
        time.sleep(0.001)
    return marks.instant(number)


def _latency(producer: Producer, samples: int) -> dict[str, Any]:
    """One task at a time, with uneven pauses so that no poll interval can hide; the first three warm the way."""
    marks = Marks.from_environment()
    pauses = random.Random(20_000)
    found: list[float] = []
    for number in range(samples + 3):
        time.sleep(pauses.uniform(*_PAUSE))
        began = time.monotonic()
        producer.one(number)
        found.append((_wait(marks, number) - began) * 1000)
    return {"ms": found[3:]}


def run(producer: Producer, command: str, words: list[str]) -> dict[str, Any]:
    """Carry out *command*.

    Raises:
        ValueError: there is no such command.
    """
    match command:
        case "each":
            return _timed(producer.each, producer, int(words[0]))
        case "bulk":
            return _timed(producer.bulk, producer, int(words[0]))
        case "latency":
            return _latency(producer, int(words[0]))
        case "one":
            producer.one(int(words[0]))
        case "slow":
            producer.slow(int(words[0]), float(words[1]))
        case _:
            raise ValueError(f"no command {command!r}")
    return {}


def main(arguments: list[str]) -> None:
    """Connect the client of the named app, run one command, print its JSON."""
    producer: Producer = importlib.import_module(arguments[0]).connect()
    try:
        print(json.dumps(run(producer, arguments[1], arguments[2:])))
    finally:
        producer.close()


if __name__ == "__main__":
    main(sys.argv[1:])
