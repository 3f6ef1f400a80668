"""What SQL remembers: every task that ever was, its attempts, and how far the journal is written down.

``open_store`` loads no SQL library; the store loads each part when it is used.
"""

from __future__ import annotations

from tqctl_runtime.record.store import Store, open_store

__all__ = ["Store", "open_store"]
