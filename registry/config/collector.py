"""The section `gc`: how garbage is collected, and what nodes and collector must agree on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.config.section import Section
from registry.config.values import Seconds, Timeout, whole
from storage.collection.timing import Timing

HOUR = 3600.0


class CollectionTiming(Section):
    """The same on all nodes and for the collector, or what they agree on does not hold."""

    view: Timeout = 20.0
    section: Timeout = 20.0
    lag: Seconds = 5.0
    margin: Seconds = 20.0
    send: Timeout = 30.0

    def build(self) -> Timing:
        return Timing(
            view=self.view,
            section=self.section,
            lag=self.lag,
            margin=self.margin,
            send=self.send,
        )


class Gc(Section):
    minimumage: Seconds = 24 * HOUR
    undo: Seconds = 7 * 24 * HOUR
    uploads: Timeout = 7 * 24 * HOUR
    trash: Seconds = 24 * HOUR
    share: Annotated[int, whole(1, 100)] = 30
    threads: Annotated[int, whole(1, 1000)] = 32
    timing: CollectionTiming = Field(default_factory=CollectionTiming)
