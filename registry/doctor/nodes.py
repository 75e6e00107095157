"""What a client meets at the addresses of a registry, and whether they are one registry."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Final

from registry.doctor.client import Node
from registry.doctor.probe import REPOSITORY, push
from storage.examination import Observation, Verdict, problem, well

_SKEW: Final = 30.0


def examine_nodes(nodes: Sequence[Node]) -> Iterator[Observation]:
    """What clients meet at each address, and whether the addresses are one registry."""
    living: list[Node] = []
    for node in nodes:
        found = list(_greet(node))
        yield from found
        if all(observation.verdict is not Verdict.PROBLEM for observation in found):
            living.append(node)
    for number, node in enumerate(living):
        yield from push(node, living[(number + 1) % len(living)], living)


def _greet(node: Node) -> Iterator[Observation]:
    try:
        answer = node.ask("GET", "v2/")
    except OSError as error:
        yield problem(
            node.url,
            f"It does not answer: {getattr(error, 'reason', error)}.",
            "Check address, firewall and certificate; --ca names the CA of a private one.",
        )
        return
    if answer.status == 401:
        yield problem(
            node.url,
            "It refuses these credentials.",
            "Give --user, and the password in REGISTRY_DOCTOR_PASSWORD, of one who may push to "
            f"{REPOSITORY}.",
        )
        return
    if answer.status != 200 or not answer.header("docker-distribution-api-version"):
        yield problem(
            node.url,
            f"GET /v2/ is answered {answer.status}, and not by a registry.",
            "Let the balancer pass /v2/ to the registry unchanged.",
        )
        return
    yield well(node.url, "It answers as a registry.")
    try:
        skew = time.time() - parsedate_to_datetime(answer.header("date")).timestamp()
    except ValueError:
        return
    if abs(skew) > _SKEW:
        yield problem(
            node.url,
            f"Its clock differs from this machine's by {skew:.0f} seconds.",
            "Run an NTP client on both: tokens and presigned URLs go by the clock.",
        )
