"""What a storage driver raises: these and no others, and from its immediate view WouldBlock.

    DriverError
    ├── ObjectNotFound   positively not there; never used for "could not tell"
    ├── InvalidKey       the caller's mistake
    ├── Conflict         swap() found another value than expected
    ├── Busy             another writer holds the object
    ├── NoSpace          full, over quota, or over a size limit
    └── Unavailable      anything else; worth trying again
        ├── Overloaded   more is being written at once than the driver has memory for
        └── Void         discard() came too late: the object stays

Their text is for the log: it may name keys and causes, so it is never sent to a client.
"""

from __future__ import annotations


class DriverError(Exception):
    """Base of every error of a driver."""


class ObjectNotFound(DriverError):
    pass


class InvalidKey(DriverError):
    pass


class Conflict(DriverError):
    pass


class Busy(DriverError):
    pass


class NoSpace(DriverError):
    pass


class Unavailable(DriverError):
    pass


class Overloaded(Unavailable):
    """Too much is being written at once; nothing is wrong with the store."""


class Void(Unavailable):
    """The batch is over: this removal did nothing and never will."""


class WouldBlock(Exception):
    """What was asked of an immediate view cannot be answered without waiting. Not an error."""
