"""What one run tells the nodes, publication by publication."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import replace

from registry_gc.outcome import TakenOver
from storage import layout
from storage.collection.publication import Publication
from storage.driver import Driver
from storage.driver_errors import ObjectNotFound


def new_run() -> str:
    """Names sort by when they began, for people; nothing relies on that."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"


class Publisher:
    """Of one run. Every method raises the driver's errors, TakenOver if another run took its place."""

    def __init__(self, driver: Driver, run: str) -> None:
        self._driver = driver
        self.current = Publication(run, 0)

    @property
    def run(self) -> str:
        return self.current.run

    def publish(
        self,
        *,
        filters: Sequence[str] | None = None,
        lists: Sequence[str] | None = None,
        doomed: Sequence[str] = (),
        idle: bool = False,
        look: str | None = None,
    ) -> float:
        """The time of the publication by the store's clock. What is not given stays as it was."""
        self.require()
        old = self.current
        new = replace(
            old,
            sequence=old.sequence + 1,
            filters=old.filters if filters is None else tuple(filters),
            lists=old.lists if lists is None else tuple(lists),
            doomed=tuple(doomed),
            idle=idle,
            look=old.look if look is None else look,
        )
        # The number is used up even if this fails: the write may land all the same.
        self.current = new
        self._driver.write(new.key, new.encode())
        try:
            published = self._driver.stat(new.key).modified
        except ObjectNotFound:
            raise self._taken_over() from None
        if old.sequence:
            self._driver.delete_many([old.key])
        return published

    def require(self) -> None:
        """Raises TakenOver. A run that was held up for long learns here that it is no longer wanted."""
        try:
            self._driver.stat(layout.fenced(self.run))
        except ObjectNotFound:
            return
        raise self._taken_over()

    def _taken_over(self) -> TakenOver:
        return TakenOver(
            f"The run {self.run} was held up for so long that another run has taken its place. It has "
            "stopped; nothing is lost, and the other goes on."
        )
