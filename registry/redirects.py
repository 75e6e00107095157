"""Which pulls are sent to the object store itself, by a presigned URL.

Bytes then go from the store to the client and cost the registry nothing. A client that cannot reach the
store (another network, a proxy in between) is served through the registry instead.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

LIFETIME: Final = 1200
"""Seconds in which a client must begin to follow the URL; a download that has begun goes on."""


class Redirects:
    """`networks` (`10.0.0.0/8`) are those of clients that are never redirected; `agents`, parts of the
    User-Agent of such clients, compared without case. Raises ValueError for what is not a network.
    """

    def __init__(
        self, *, enabled: bool = True, networks: Sequence[str] = (), agents: Sequence[str] = ()
    ) -> None:
        self._enabled = enabled
        self._networks = tuple(ipaddress.ip_network(network) for network in networks)
        self._agents = tuple(agent.lower() for agent in agents)
        self._is_excepted = lru_cache(maxsize=4096)(self._contains)

    def allowed(self, client: str, agent: str | None) -> bool:
        """Whether this client may be redirected; `client` is an address, or "" if it has none."""
        if not self._enabled or (client and self._is_excepted(client)):
            return False
        lowered = (agent or "").lower()
        return not any(part in lowered for part in self._agents)

    def _contains(self, client: str) -> bool:
        try:
            address = ipaddress.ip_address(client)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self._networks)
