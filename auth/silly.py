"""The `silly` mode, for development: whoever shows any credentials may do everything."""

from __future__ import annotations

from collections.abc import Sequence

from auth.bearer import Challenge
from auth.model import Access, Asking, Identity, Refused


class Silly:
    """Keeps nobody out. Raises ValueError if the realm or the service cannot stand in a header."""

    reads_everything = True

    def __init__(self, realm: str, service: str) -> None:
        self._challenge = Challenge(service, realm)

    async def authorize(self, asking: Asking, wanted: Sequence[Access]) -> Identity:
        if not asking.authorization:
            raise Refused(
                "Show any credentials: this registry is set up for development.",
                challenge=self._challenge.header(asking, wanted),
            )
        return Identity("silly", "silly")

    def permits(self, identity: Identity, access: Access) -> bool:
        return True
