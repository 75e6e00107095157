"""The section `tracing`: where OpenTelemetry traces go. Nothing is traced unless it, or OTEL_*, says so."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from registry.config.section import Section
from registry.config.values import BaseUrl, Secret, whole


class Tracing(Section):
    endpoint: BaseUrl = ""
    share: Annotated[int, whole(1, 100)] | None = None
    headers: dict[str, Secret] = Field(default_factory=dict, repr=False)
