"""`registry serve` with a storage that fails on purpose: `python -m tests.faults.serve CONFIG`.

What fails is JSON in the environment: HOLDFAST_TEST_PLAN, a `Plan`. A process that is to die is killed
by SIGKILL, all its workers with it.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from registry import cli, wiring
from registry.config import Settings
from registry.drivers import make_driver
from storage import driver_errors as errors
from storage.driver import Driver
from storage.driver_errors import DriverError
from tests.faults.driver import Fault, FaultyDriver, Moment
from tests.faults.system import SystemFault, install

PLAN = "HOLDFAST_TEST_PLAN"


@dataclass(frozen=True, slots=True)
class Plan:
    """`limits` are of resource.setrlimit, by name (NOFILE, FSIZE)."""

    driver: tuple[Fault, ...] = ()
    system: tuple[SystemFault, ...] = ()
    zero_copy: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)

    def environ(self) -> dict[str, str]:
        return {PLAN: json.dumps(dataclasses.asdict(self), default=_encoded)}

    @classmethod
    def parse(cls, text: str) -> Self:
        value = json.loads(text)
        return cls(
            tuple(_fault(each) for each in value["driver"]),
            tuple(SystemFault(**each) for each in value["system"]),
            value["zero_copy"],
            value["limits"],
        )


def _encoded(value: object) -> str:
    if isinstance(value, Moment):
        return value.value
    if isinstance(value, DriverError):
        return type(value).__name__
    raise TypeError(f"{value!r} cannot be handed to another process")


def _fault(value: dict[str, Any]) -> Fault:
    error = value["error"] and getattr(errors, value["error"])("a planned failure")
    return Fault(**{**value, "moment": Moment(value["moment"]), "error": error})


def _die(status: int = 0) -> None:
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> None:
    plan = Plan.parse(os.environ[PLAN])
    for name, limit in plan.limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit))
    real = make_driver

    def faulty(settings: Settings, *, readonly: bool = False) -> Driver:
        sound = real(settings, readonly=readonly)
        driver = FaultyDriver(sound, plan.driver, zero_copy=plan.zero_copy, exit_process=_die)
        install(plan.system, _die)
        return driver

    if plan.driver or plan.system:
        vars(wiring)["make_driver"] = faulty  # where the program itself takes it from
    sys.argv[1:] = ["serve", *sys.argv[1:]]
    cli.main()


if __name__ == "__main__":
    main()
