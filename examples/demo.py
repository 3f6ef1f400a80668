"""One thousand real tasks on the embedded stack, from ``tqctl up`` to ``tqctl down``: ``make demo``.

Uses only the command line of the tqctl that is installed beside this Python. Everything lies in a temporary folder.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TASKS = 1000
UNFINISHED = ("scheduled", "queued", "running", "retrying")
PATIENCE_S = 300.0


def lines() -> Iterator[dict[str, Any]]:
    """The batch: mostly echo, compute and shell, some that fail and are retried, one that kills its process."""
    for number in range(TASKS):
        if number == 500:
            yield {"handler": "fail", "payload": {"mode": "segv"}, "tag": ["demo=poison"]}
        elif number % 20 == 7:
            yield {"handler": "fail", "payload": {"times": 1 + number % 2}, "queue": "flaky"}
        elif number % 10 == 3:
            yield {"handler": "shell", "argv": ["sh", "-c", f"echo task {number}; expr {number} + 1"], "queue": "shell"}
        elif number % 3 == 0:
            what = "primes" if number % 2 else "fibonacci"
            yield {"handler": "compute", "payload": {"what": what, "n": 1000 + number}, "priority": "high"}
        else:
            yield {"handler": "echo", "payload": {"message": f"hello {number}"}}


class Demo:
    """A private tqctl: its own home and an environment without anybody's settings."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {key: value for key, value in os.environ.items() if not key.startswith("TQCTL_")}
        program = Path(sys.executable).parent
        self.env = kept | {"TQCTL_HOME": str(home / "tqctl"), "PATH": f"{program}{os.pathsep}{kept.get('PATH', '')}"}

    def show(self, *words: str, good: tuple[int, ...] = (0,)) -> None:
        """Run ``tqctl WORDS`` for a person to see.

        Raises:
            SystemExit: its exit code is none of *good*.
        """
        print(f"\n$ tqctl {shlex.join(words)}", flush=True)
        code = subprocess.run(["tqctl", *words], env=self.env, cwd=self.home, check=False).returncode
        if code not in good:
            raise SystemExit(f"demo: tqctl {words[0]} ended with {code}")

    def read(self, *words: str) -> Any:
        """The JSON that ``tqctl WORDS -o json`` prints."""
        command = ["tqctl", *words, "-q", "-o", "json"]
        done = subprocess.run(command, env=self.env, cwd=self.home, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def wait(self) -> float:
        """Show progress until nothing is left to do; returns the seconds it took."""
        began = time.monotonic()
        filters = [word for state in UNFINISHED for word in ("--state", state)]
        print()
        while True:
            left = len(self.read("task", "list", *filters, "--limit", str(TASKS), "--fields", "id"))
            spent = time.monotonic() - began
            ended = "\r" if sys.stderr.isatty() and left else "\n"
            bar = "#" * (40 * (TASKS - left) // TASKS)
            print(
                f"[{bar:40}] {TASKS - left:5} of {TASKS} ended, {spent:4.0f} s", end=ended, file=sys.stderr, flush=True
            )
            if left == 0:
                return spent
            if spent > PATIENCE_S:
                raise SystemExit(f"demo: {left} tasks are not finished after {PATIENCE_S:.0f} s")
            time.sleep(0.5)


def run(demo: Demo) -> None:
    """The whole story; what it shows is also checked."""
    batch = demo.home / "tasks.ndjson"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines()), encoding="utf-8")
    print(f"{TASKS} tasks in {batch}, among them:")
    for line in batch.read_text(encoding="utf-8").splitlines()[3:8]:
        print(f"  {line}")
    demo.show("submit", "--batch", str(batch))
    seconds = demo.wait()
    demo.show("task", "list", "--limit", "12")
    demo.show("queue", "list")
    demo.show("dlq", "list")
    demo.show("worker", "list")
    demo.show("status")
    dead = demo.read("dlq", "list")
    done = demo.read("task", "list", "--state", "succeeded", "--limit", str(TASKS), "--fields", "id")
    print(f"\n{len(done)} tasks succeeded and {len(dead)} died as poison, {seconds:.0f} s after the submit.")
    if len(done) != TASKS - 1 or len(dead) != 1:
        raise SystemExit("demo: expected all but the poisonous task to succeed")


def main() -> int:
    """Run the demo in a temporary folder; nothing of it stays, also when it is told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="tqctl-demo-") as folder:
        demo = Demo(Path(folder))
        demo.show("--version")
        try:
            demo.show("up", "--detach", "--concurrency", "8", "--queues", "default,flaky,shell")
            run(demo)
        finally:
            demo.show("down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
