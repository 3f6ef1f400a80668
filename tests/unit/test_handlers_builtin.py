"""The built-in handlers as plain functions, and how they are offered."""

from __future__ import annotations

import pytest

from tqctl_runtime.core.builtins import BUILTINS, GUARDED
from tqctl_runtime.handlers.compute import compute, count_primes, decimal_text, fibonacci
from tqctl_runtime.handlers.echo import echo
from tqctl_runtime.handlers.shell import how_it_ended, shell
from tqctl_runtime.handlers.testing import MODES, DemonstrationError, fail, sleep
from tqctl_runtime.worker.apps import builtin_spec


@pytest.mark.parametrize("name", sorted(BUILTINS))
def test_every_builtin_has_a_row_with_a_line_of_help(name: str) -> None:
    spec = builtin_spec(name, BUILTINS[name])
    assert spec.to_row()["name"] == name
    assert spec.doc
    assert spec.argv is (name == "shell")


def test_only_shell_is_guarded() -> None:
    assert sorted(GUARDED) == ["shell"]


def test_echo_returns_whatever_it_gets() -> None:
    assert echo(message="hi", n=1) == {"message": "hi", "n": 1}


@pytest.mark.parametrize(("n", "count"), [(0, 0), (1, 0), (2, 1), (10, 4), (100, 25), (7919, 1000)])
def test_primes_are_counted(n: int, count: int) -> None:
    assert count_primes(n) == count
    assert compute("primes", n)["count"] == count


@pytest.mark.parametrize(("n", "value"), [(0, 0), (1, 1), (2, 1), (10, 55), (90, 2880067194370816120)])
def test_fibonacci_numbers(n: int, value: int) -> None:
    assert fibonacci(n) == value
    assert compute("fibonacci", n)["value"] == str(value)


def test_numbers_of_any_length_become_text() -> None:
    assert decimal_text(10**9000 + 7) == "1" + "0" * 8999 + "7"


@pytest.mark.parametrize(("what", "n"), [("digits", 1), ("primes", -1), ("primes", 10**9), ("fibonacci", 10**6)])
def test_compute_refuses_what_it_cannot_do(what: str, n: int) -> None:
    with pytest.raises(ValueError, match=r"compute knows|n must be"):
        compute(what, n)


def test_fail_fails_as_often_as_asked() -> None:
    with pytest.raises(DemonstrationError, match=r"attempt 1"):
        fail(times=1)
    with pytest.raises(ValueError, match=", ".join(MODES)):
        fail(mode="nosuch")


def test_sleep_takes_no_negative_time() -> None:
    assert sleep(0) == {"slept": 0}
    with pytest.raises(ValueError, match="0 or more"):
        sleep(-1)


@pytest.mark.parametrize("argv", [[], ["echo", 1]])
def test_shell_takes_a_list_of_texts(argv: list[object]) -> None:
    with pytest.raises(ValueError, match="argv"):
        shell(argv)


@pytest.mark.parametrize(
    ("code", "text"), [(3, "exit code 3"), (-15, "killed by SIGTERM"), (-99, "killed by signal 99")]
)
def test_how_a_command_ended_is_told(code: int, text: str) -> None:
    assert how_it_ended(code) == text
