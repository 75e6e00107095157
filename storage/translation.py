"""Where the driver's errors become the domain's.

Every public operation of the store goes through `translated`, so nothing above it sees a driver's
error. A backend that failed is never reported as "does not exist": only a positive ObjectNotFound is,
and the operations handle that one themselves. What happened in detail is the `__cause__`, for the log.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from storage import driver_errors
from storage.model import errors

P = ParamSpec("P")
R = TypeVar("R")


def translate(error: driver_errors.DriverError) -> errors.RegistryError:
    if isinstance(error, driver_errors.NoSpace):
        return errors.StorageFull()
    if isinstance(error, driver_errors.Overloaded):
        return errors.TooManyRequests(
            "The registry takes in as many uploads as its memory allows. Try again in a few seconds; "
            "an upload that was begun can go on.",
            retry_after=5,
        )
    return errors.Unavailable(
        "The registry's storage did not answer as it should. Nothing that was stored is lost; "
        "try again in a few seconds."
    )


def translated(operation: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(operation)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return operation(*args, **kwargs)
        except driver_errors.DriverError as error:
            raise translate(error) from error

    return wrapper
