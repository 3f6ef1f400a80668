"""What systemd is told: ready, alive, stopping. One datagram each; there is nothing to tell where nobody listens.

The protocol is a line of text to a socket (``man sd_notify``). The libraries for it wait for a full socket, fail where
systemd was restarted, and leave the variables to children; the loop that holds a lease may do neither.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

READY, STOPPING, WATCHDOG = "READY=1", "STOPPING=1", "WATCHDOG=1"
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """The way to the service manager. *address* '' is nobody; *watchdog* is its time-out in seconds, 0 for none."""

    def __init__(self, address: str = "", watchdog: float = 0.0) -> None:
        self._address = address
        self.watchdog = watchdog if address else 0.0

    @classmethod
    def take(cls, environ: MutableMapping[str, str] | None = None) -> Notifier:
        """The service manager that started this process; taken out of *environ*, so that no child speaks for us."""
        environ = os.environ if environ is None else environ
        address, usec, pid = (environ.pop(name, "") for name in _VARIABLES)
        is_ours = not pid or pid == str(os.getpid())
        watchdog = int(usec) / 1e6 if usec.isdigit() and is_ours else 0.0
        return cls(address if address[:1] in ("/", "@") else "", watchdog)

    def send(self, *lines: str) -> bool:
        """Tell *lines*; False where nobody listens. Never waits and never fails."""
        if not self._address:
            return False
        # A leading @ stands for the NUL of an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.setblocking(False)
                end.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
        return True
