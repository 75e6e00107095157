"""No access control: whoever reaches the port may do everything. Meant for a loopback address."""

from __future__ import annotations

from collections.abc import Sequence

from auth.model import Access, Identity

_NOBODY = Identity()


class AllowAll:
    reads_everything = True

    async def authorize(self, credentials: str | None, wanted: Sequence[Access]) -> Identity:
        del credentials, wanted
        return _NOBODY
