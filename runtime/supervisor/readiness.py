"""Tells systemd how far we are: `sd_notify(3)` is one datagram of `KEY=VALUE` lines.

Without `NOTIFY_SOCKET` nobody asked, and nothing is sent.
"""

import socket
import time
from collections.abc import Mapping
from typing import Final

VARIABLE: Final = "NOTIFY_SOCKET"


class Readiness:
    """The state of this service in the eyes of its manager."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get(VARIABLE, "")
        # An "@" stands for the zero byte of an abstract address.
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def ready(self, status: str) -> None:
        self._notify("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        # Type=notify-reload wants to know when, to tell this reload from an earlier one.
        self._notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str) -> None:
        self._notify("STOPPING=1", f"STATUS={status}")

    def _notify(self, *lines: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.setblocking(False)  # noqa: FBT003 - the socket's own signature
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                pass  # a manager that does not listen any more is no reason to stop serving
