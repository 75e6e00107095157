"""No access control: whoever reaches the port may do everything. Meant for a loopback address."""

from __future__ import annotations

from collections.abc import Sequence

from auth.model import Access, Asking, Identity

_NOBODY = Identity()


class AllowAll:
    reads_everything = True

    async def authorize(self, asking: Asking, wanted: Sequence[Access]) -> Identity:
        del asking, wanted
        return _NOBODY

    def permits(self, identity: Identity, access: Access) -> bool:
        del identity, access
        return True
