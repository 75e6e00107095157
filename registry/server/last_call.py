"""How a socket stops to listen without hurting whoever is connecting.

Closing it resets the connections that the kernel has made and nobody has accepted. A balancer that has
sent a push on one of them cannot know whether it was seen, and must fail it. So for a moment the kernel
drops requests for further connections, while those that there are come in: what is then closed is empty.
Whoever was dropped asks again after a second, and is refused, which a balancer answers with the next node.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import socket
import struct
from collections.abc import Sequence
from typing import Final

logger = logging.getLogger("holdfast.server")

DURATION: Final = 0.2
"""Seconds. A handshake that has begun takes a round trip."""

_SO_ATTACH_FILTER: Final = 26
# A packet that asks for a connection (SYN, in the 14th byte of the TCP header) is dropped: socket(7).
_PROGRAM: Final = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # load the byte
        (0x45, 0, 1, 0x02),  # without SYN, skip one
        (0x06, 0, 0, 0),  # drop
        (0x06, 0, 0, 0xFFFFFFFF),  # take
    )
)


async def last_call(listeners: Sequence[socket.socket]) -> None:
    """Returns when nobody connects any more; until then who serves the listeners must go on to."""
    for listener in listeners:
        if listener.family != socket.AF_UNIX:
            _refuse_newcomers(listener)
    await asyncio.sleep(DURATION)


def _refuse_newcomers(listener: socket.socket) -> None:
    program = ctypes.create_string_buffer(_PROGRAM, len(_PROGRAM))
    described = struct.pack("HP", len(_PROGRAM) // 8, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)
    except OSError as error:
        logger.warning(
            "who connects while the server stops may be cut off, because the kernel lets only root turn "
            "connections away (%s); give http.draindelay longer than the balancer takes to notice",
            error,
        )
