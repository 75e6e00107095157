"""Requests that the server refused by itself, as the access log and the metrics tell of them."""

from __future__ import annotations

import logging

import pytest

from registry.server.lifecycle import Lifecycle, Unserved
from registry.telemetry.metrics import Metrics
from registry.unserved import observer

REFUSED = Unserved(431, "UNKNOWN", "192.0.2.7", "PUT", b"/v2/a/?n=5&token=hush\r\n\xff", 90)


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [
        record.__dict__["fields"] for record in caplog.records if record.name == "holdfast.access"
    ]


def test_a_line_with_the_fields_of_every_other_and_no_secret(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        observer(Metrics(), access_log=True)(REFUSED)
    (line,) = lines(caplog)
    assert len(str(line.pop("request_id"))) == 16
    assert line == {
        "method": "PUT",
        "path": "/v2/a/?n=5&token=[redacted]",
        "route": "unserved",
        "repository": "",
        "user": "",
        "status": 431,
        "bytes_in": 0,
        "bytes_out": 90,
        "client": "192.0.2.7",
        "user_agent": "",
        "error_code": "UNKNOWN",
    }


@pytest.mark.parametrize(("access_log", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_no_line_where_there_is_no_access_log_but_a_count(
    caplog: pytest.LogCaptureFixture, access_log: bool, level: int
) -> None:
    metrics = Metrics()
    with caplog.at_level(level):
        observer(metrics, access_log=access_log)(REFUSED)
    assert lines(caplog) == []
    assert requests(metrics) == {'method="PUT",route="unserved",status="431"': "1.0"}


def test_a_method_that_is_none_adds_no_series() -> None:
    metrics = Metrics()
    for method in ("PROPFIND", "", "\x16\x03"):
        observer(metrics, access_log=False)(
            Unserved(400, "UNKNOWN", "", method, b"\x00\xff" * 5000, 90)
        )
    assert requests(metrics) == {'method="OTHER",route="unserved",status="400"': "3.0"}


def test_it_is_what_the_server_calls() -> None:
    lifecycle = Lifecycle(0)
    lifecycle.on_unserved = observer(Metrics(), access_log=False)
    lifecycle.on_unserved(REFUSED)


def requests(metrics: Metrics) -> dict[str, str]:
    """The value of each series of the counter."""
    found = {}
    for line in metrics.exposition().decode().splitlines():
        if line.startswith("holdfast_requests_total{"):
            labels, _, value = line.removeprefix("holdfast_requests_total{").partition("} ")
            found[labels] = value
    return found
