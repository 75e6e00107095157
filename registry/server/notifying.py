"""What systemd is told of the server (sd_notify): it is ready, or it stops, and how long that may take."""

from __future__ import annotations

import logging
import os
import socket

logger = logging.getLogger("holdfast.server")


def tell_service_manager(state: str) -> None:
    """Send assignments such as `READY=1`, one a line. Does nothing where no service manager listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # in the abstract namespace
        address = f"\0{address[1:]}"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), address)
    except OSError as error:
        logger.warning("the service manager was not told %s: %s", state.split("\n")[0], error)
