"""``compute``: work for a processor, that can be stopped at any time."""

from __future__ import annotations

import time

#: Numbers above would need more memory than a demonstration may take.
_PRIMES_LIMIT = 50_000_000
_FIBONACCI_LIMIT = 200_000


def compute(what: str = "primes", n: int = 10_000) -> dict[str, int | float | str]:
    """Count the primes up to n, or compute the n-th Fibonacci number.

    Raises:
        ValueError: *what* is neither ``primes`` nor ``fibonacci``, or *n* is out of range.
    """
    begin = time.perf_counter()
    if what == "primes":
        _check(n, _PRIMES_LIMIT)
        found: dict[str, int | float | str] = {"what": what, "n": n, "count": count_primes(n)}
    elif what == "fibonacci":
        _check(n, _FIBONACCI_LIMIT)
        # Text, since other readers of JSON round whole numbers above 2**53.
        found = {"what": what, "n": n, "value": decimal_text(fibonacci(n))}
    else:
        raise ValueError(f"compute knows primes and fibonacci, not {what!r}")
    return {**found, "seconds": round(time.perf_counter() - begin, 6)}


def _check(n: int, limit: int) -> None:
    if not 0 <= n <= limit:
        raise ValueError(f"n must be 0 to {limit:,}, not {n:,}")


def count_primes(n: int) -> int:
    """How many primes there are up to *n*."""
    if n < 2:
        return 0
    is_prime = bytearray([1]) * (n + 1)
    is_prime[:2] = b"\0\0"
    for number in range(2, int(n**0.5) + 1):
        if is_prime[number]:
            is_prime[number * number :: number] = bytes(len(range(number * number, n + 1, number)))
    return sum(is_prime)


def fibonacci(n: int) -> int:
    """The *n*-th Fibonacci number, 0 for 0."""
    low, high = 0, 1
    for _ in range(n):
        low, high = high, low + high
    return low


def decimal_text(number: int) -> str:
    """*number* in decimal digits, also beyond the length that ``str`` accepts."""
    digits: list[str] = []
    chunk = 10**4000
    while number >= chunk:
        number, rest = divmod(number, chunk)
        digits.append(str(rest).zfill(4000))
    digits.append(str(number))
    return "".join(reversed(digits))
