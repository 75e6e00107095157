"""Whether requests are traced and where the traces go, by the configuration and the OTEL_* variables.

The section `tracing` outweighs the variables of the exporter; what it does not say is left to them, as is
everything about batches, limits, propagators and the resource. OTEL_SDK_DISABLED outweighs both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Final

from registry.config.tracing import Tracing

EXPORTER: Final = "OTEL_TRACES_EXPORTER"
DISABLED: Final = "OTEL_SDK_DISABLED"
ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
PROTOCOL: Final = "http/protobuf"
PATH: Final = "/v1/traces"


class CannotTrace(Exception):
    """A sentence for whoever starts the registry."""


@dataclass(frozen=True, slots=True)
class Plan:
    endpoint: str | None
    """The whole URL that spans are posted to; None leaves it to the variables."""
    headers: Mapping[str, str] | None = field(repr=False)
    share: float | None
    """Of the traces that begin here, those that are kept, 0 to 1; None leaves it to the variables."""


def plan(section: Tracing, environ: Mapping[str, str]) -> Plan | None:
    """None if nothing is traced. Raises CannotTrace if something is to be, and cannot."""
    if environ.get(DISABLED, "").strip().casefold() == "true":
        return None
    asked = "tracing.endpoint" if section.endpoint else _asked(environ)
    if asked is None:
        return None
    try:
        import_module("registry.tracing.spans")
    except ImportError as error:
        raise CannotTrace(
            f"{asked} asks for traces, and what sends them is not installed ({error.name} is "
            f"missing): pip install 'holdfast[tracing]', or set {EXPORTER}=none and take the section "
            "tracing out of the configuration."
        ) from error
    return Plan(
        section.endpoint.rstrip("/").removesuffix(PATH) + PATH if section.endpoint else None,
        section.headers or None,
        section.share and section.share / 100,
    )


def _asked(environ: Mapping[str, str]) -> str | None:
    """The variable that asks for traces. Raises CannotTrace for a way to send them that there is not."""
    named = environ.get(EXPORTER, "").strip()
    if named.casefold() == "none":
        return None
    asked = [EXPORTER] if named else [name for name in ENDPOINTS if environ.get(name)]
    if not asked:
        return None
    if named.casefold() not in {"", "otlp"}:
        raise CannotTrace(
            f"{EXPORTER}={named} is no way to send traces that there is here; set it to otlp or to none."
        )
    for variable in PROTOCOLS:
        wanted = environ.get(variable, "").strip().casefold()
        if wanted and wanted != PROTOCOL:
            raise CannotTrace(
                f"{variable}={wanted} is no way to send traces that there is here; set it to "
                f"{PROTOCOL}, which collectors take on port 4318."
            )
        if wanted:
            break  # the first outweighs the second
    return asked[0]
