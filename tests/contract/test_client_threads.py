"""Threads of a fresh program whose first calls of the client come at the same time."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.environment import Environment

BEGIN = """
import sys, threading, traceback
sys.setswitchinterval(1e-6)
"""
#: Every thread does STEP at once; what is no error of our own is printed.
TOGETHER = """
gate = threading.Barrier(THREADS)

def work(number):
    gate.wait()
    try:
        step(number)
    except Exception as error:
        if not isinstance(error, tqctl.TqctlError):
            traceback.print_exc(file=sys.stdout)

threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
SUBMIT = """
from tqctl import Client
def step(number):
    with Client() as client:
        client.submit("work", {"n": 1}, durability="accepted")
"""
ALL_VERBS = """
import asyncio
from tqctl import Client
client = Client()
steps = [
    lambda: client.submit("work", {"n": 1}),
    lambda: client.submit_many([("work", {"n": n}) for n in range(2000)], unchecked=True),
    lambda: client.submit("work", {"n": 1}, durability="recorded", unchecked=True),
    lambda: client.wait("tsk_" + "0" * 26, timeout=1),
    lambda: client.result("tsk_" + "0" * 26),
    lambda: client.cancel("tsk_" + "0" * 26),
    lambda: asyncio.run(client.submit_async("work", {"n": 1})),
]
def step(number):
    steps[number % len(steps)]()
"""
NAMES = """
names = sorted(tqctl.__all__)
def step(number):
    for name in names[number:] + names[:number]:
        getattr(tqctl, name)
"""


@pytest.mark.parametrize(
    ("step", "times"), [(SUBMIT, 3), (ALL_VERBS, 1), (NAMES, 1)], ids=["submit", "all verbs", "names"]
)
def test_threads_of_a_fresh_program_meet_no_half_imported_module(step: str, times: int, pair: Environment) -> None:
    code = BEGIN + "import tqctl\n" + step + TOGETHER.replace("THREADS", "14")
    for _ in range(times):
        done = subprocess.run(
            [sys.executable, "-c", code], env=pair.env, cwd=pair.home, capture_output=True, text=True, timeout=50
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
