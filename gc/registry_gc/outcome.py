"""How a run can end without having done all of its work. In each case nothing was lost.

CollectionStopped
├── Braked       something looks wrong, so nothing was condemned or removed
├── Busy         another run is at work
├── TakenOver    this run was held up for so long that another one took its place
├── Undecodable  a manifest cannot be read, so what it needs is not known
├── StoreUnfit   the storage does not keep what collecting beside pushes rests on
└── OutOfTime    the time that the run was given is over; the next one goes on
"""

from __future__ import annotations


class CollectionStopped(Exception):
    """Its text is a sentence for the operator."""


class Braked(CollectionStopped):
    pass


class Busy(CollectionStopped):
    pass


class TakenOver(CollectionStopped):
    pass


class Undecodable(CollectionStopped):
    pass


class StoreUnfit(CollectionStopped):
    pass


class OutOfTime(CollectionStopped):
    pass
