"""The rows by which built-in handlers can be submitted before a worker runs."""

from __future__ import annotations

from tqctl_runtime.core.builtins import BUILTINS, GUARDED, builtin_row, builtin_rows
from tqctl_runtime.worker.apps import builtin_spec


def test_the_row_of_each_builtin_is_what_a_worker_would_register() -> None:
    registered = {name: builtin_spec(name, target).to_row() for name, target in BUILTINS.items() if name not in GUARDED}

    assert builtin_rows() == registered


def test_a_guarded_builtin_has_no_row_until_a_worker_offers_it() -> None:
    assert [builtin_row(name) for name in GUARDED] == [None]
