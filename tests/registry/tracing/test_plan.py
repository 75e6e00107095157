"""When there are traces, when there are none, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from registry.config.tracing import Tracing
from registry.tracing.plan import CannotTrace, Plan, plan

BY_VARIABLES = Plan(None, None, None)


@pytest.mark.parametrize(
    ("section", "environ", "expected"),
    [
        (Tracing(), {}, None),
        (Tracing(), {"OTEL_TRACES_EXPORTER": "none"}, None),
        (Tracing(), {"OTEL_SERVICE_NAME": "registry", "OTEL_TRACES_SAMPLER": "always_on"}, None),
        (Tracing(), {"OTEL_TRACES_EXPORTER": "otlp"}, BY_VARIABLES),
        (Tracing(), {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, BY_VARIABLES),
        (Tracing(), {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:4318/x"}, BY_VARIABLES),
        (
            Tracing(),
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
            None,
        ),
        (Tracing(), {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "TRUE"}, None),
        (Tracing(share=10), {}, None),
        (Tracing(share=10), {"OTEL_TRACES_EXPORTER": "otlp"}, Plan(None, None, 0.1)),
        (Tracing(endpoint="http://c:4318"), {}, Plan("http://c:4318/v1/traces", None, None)),
        (Tracing(endpoint="http://c/v1/traces/"), {}, Plan("http://c/v1/traces", None, None)),
        (
            Tracing(endpoint="https://c/otlp/", headers={"Authorization": "Basic x"}, share=50),
            {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            Plan("https://c/otlp/v1/traces", {"Authorization": "Basic x"}, 0.5),
        ),
        (Tracing(endpoint="http://c:4318"), {"OTEL_SDK_DISABLED": "true"}, None),
        (
            Tracing(),
            {
                "OTEL_TRACES_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
            },
            BY_VARIABLES,
        ),
    ],
)
def test_whether_there_are_traces(
    section: Tracing, environ: Mapping[str, str], expected: Plan | None
) -> None:
    assert plan(section, environ) == expected


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER=zipkin is no way to send traces",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp,console"}, "set it to otlp or to none."),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL=grpc is no way to send traces",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json",
            },
            "set it to http/protobuf, which collectors take on port 4318.",
        ),
    ],
)
def test_what_cannot_be_is_a_sentence(environ: Mapping[str, str], sentence: str) -> None:
    with pytest.raises(CannotTrace, match=re.escape(sentence)):
        plan(Tracing(), environ)


def test_passwords_of_a_collector_are_not_shown() -> None:
    secret = {"Authorization": "Basic x7f3"}
    section = Tracing(endpoint="http://c", headers=secret)
    assert "x7f3" not in repr(section)
    assert "x7f3" not in repr(plan(section, {}))
