"""Accepts connections that begin with something before HTTP: a PROXY header, a TLS handshake, or both.

Each has its deadline. A balancer's PROXY header comes before everything else, the handshake too. So it
is read from the bare socket, to its last byte and not one further, and only then does the event loop
get the connection. A peer that is no trusted proxy speaks for itself: whatever header it sends is a
malformed request.

`close` and `wait_closed` are those of an asyncio.Server, among which uvicorn keeps this.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final

from .proxy_header import Announced, NotAnnounced, ProxyHeader

logger = logging.getLogger("holdfast.server")

Connect = Callable[[Announced | None], asyncio.BaseProtocol]

_AT_ONCE: Final = 64
"""Connections accepted before those that are open get their turn."""
_PEEK: Final = 4096
_PAUSE: Final = 1.0
_SETTLE: Final = 1.0


class Doorway:
    """`trusted` are the networks of proxies that announce their clients, or "unix" for peers on a unix
    socket; `patience` is in seconds, for the header and then for the handshake. `connect` makes the
    protocol of a connection.
    """

    def __init__(
        self,
        listener: socket.socket,
        trusted: Sequence[str],
        tls: ssl.SSLContext | None,
        connect: Connect,
        patience: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._unix = "unix" in trusted
        self._networks = tuple(ipaddress.ip_network(text) for text in trusted if text != "unix")
        self._tls = tls
        self._connect = connect
        self._patience = patience
        self._entering: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        listener.setblocking(False)
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept those who have come, and no more. Idempotent."""
        if self._listener.fileno() >= 0:
            self._accept()
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()
        if self._resume is not None:
            self._resume.cancel()

    async def settled(self) -> None:
        """Until everybody who has come is a connection, or has had a moment to become one."""
        if self._entering:
            await asyncio.wait(self._entering, timeout=_SETTLE)

    async def wait_closed(self) -> None:
        for task in self._entering:
            task.cancel()
        if self._entering:
            await asyncio.wait(self._entering)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            try:
                peer, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptors or memory left, as a rule
                logger.error("cannot accept connections: %s; trying again", error.strerror)
                self._loop.remove_reader(self._listener.fileno())
                self._resume = self._loop.call_later(_PAUSE, self._listen_again)
                return
            peer.setblocking(False)
            task = self._loop.create_task(self._enter(peer, address))
            self._entering.add(task)
            task.add_done_callback(self._entering.discard)

    def _listen_again(self) -> None:
        self._resume = None
        self._loop.add_reader(self._listener.fileno(), self._accept)

    async def _enter(self, peer: socket.socket, address: Any) -> None:
        client: Announced | None = None
        announced = False
        try:
            if self._trusts(address):
                async with asyncio.timeout(self._patience):
                    client = await self._announced(peer)
            announced = True
        except NotAnnounced as error:
            logger.warning("ended a connection of the trusted proxy %s: %s", _name(address), error)
        except TimeoutError:
            logger.info("ended a connection of the trusted proxy %s: no header", _name(address))
        except OSError as error:
            logger.info("ended a connection of the trusted proxy %s: %s", _name(address), error)
        finally:
            if not announced:
                peer.close()
        if announced:
            await self._hand_over(peer, client)

    async def _hand_over(self, peer: socket.socket, client: Announced | None) -> None:
        """From here on the socket is the transport's."""
        patience = None if self._tls is None else self._patience
        try:
            await self._loop.connect_accepted_socket(
                lambda: self._connect(client), peer, ssl=self._tls, ssl_handshake_timeout=patience
            )
        except (OSError, TimeoutError) as error:  # ssl.SSLError is an OSError
            logger.debug("a connection ended in its handshake: %s", error)

    def _trusts(self, address: Any) -> bool:
        if not isinstance(address, tuple):
            return self._unix
        peer = ipaddress.ip_address(address[0].partition("%")[0])
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return any(peer in network for network in self._networks)

    async def _announced(self, peer: socket.socket) -> Announced | None:
        header = ProxyHeader()
        while not header.done:
            try:
                data = peer.recv(_PEEK, socket.MSG_PEEK)
            except BlockingIOError:
                await self._readable(peer)
                continue
            if not data:
                raise ConnectionResetError("it ended before its PROXY header did")
            taken = header.take(data)
            peer.recv(taken)
        return header.client

    async def _readable(self, peer: socket.socket) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(peer.fileno(), _settle, waiter)
        try:
            await waiter
        finally:
            self._loop.remove_reader(peer.fileno())


def _settle(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def _name(address: Any) -> str:
    return str(address[0]) if isinstance(address, tuple) else "on the unix socket"
