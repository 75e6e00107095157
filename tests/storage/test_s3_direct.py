"""The short way of asking for an object: signed as botocore does it, and left to botocore when in doubt."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import botocore.auth
import pytest
import urllib3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import HTTPClientError

from storage.driver_errors import ObjectNotFound, Unavailable
from storage.drivers.s3 import direct
from storage.drivers.s3.client import make_client, make_session
from storage.drivers.s3.direct import PAUSE, Direct
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from storage.drivers.s3.signing import Place
from tests.support.s3proxy import Answer, CutAnswer, Fault, ResetRequest, S3Proxy

SIGNED = ("Authorization", "X-Amz-Date", "X-Amz-Content-SHA256", "X-Amz-Security-Token")

KEY = "blobs/0a/0a1-_.x/data"


@pytest.fixture
def driver(proxy: S3Proxy, bucket: str) -> Iterator[S3Driver]:
    driver = S3Driver(S3Settings(**proxy.store.parameters(bucket)))
    driver.write("key", b"data")
    proxy.forget()
    yield driver
    driver.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Of the short way alone."""
    clock = SimpleNamespace(now=1000.0)
    times = SimpleNamespace(time=lambda: 1795951353.0, monotonic=lambda: clock.now)
    monkeypatch.setattr(direct, "time", times)
    return clock


def ways(proxy: S3Proxy) -> list[str]:
    """By which way each GET and HEAD came since the last time: botocore numbers its attempts."""
    calls = proxy.calls
    proxy.forget()
    return [
        "botocore" if "amz-sdk-request" in call.headers else "direct"
        for call in calls
        if call.operation in ("GetObject", "HeadObject")
    ]


def sent_by_botocore(settings: S3Settings, method: str) -> AWSPreparedRequest:
    client = make_client(settings)
    seen: list[AWSPreparedRequest] = []

    def catch(request: AWSPreparedRequest, **_: object) -> None:
        seen.append(request)
        raise HTTPClientError(error=Exception("nothing is sent here"))

    client.meta.events.register("before-send.s3", catch)
    ask = client.get_object if method == "GET" else client.head_object
    with pytest.raises(HTTPClientError):
        ask(Bucket=settings.bucket, Key=settings.root + KEY)
    return seen[0]


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"forcepathstyle": True, "region": "cn-north-1", "useragent": "ours/1"},
        {"accelerate": True, "rootdirectory": "/a root/ä~+"},
        {"regionendpoint": "http://10.0.0.1:9000", "bucket": "a.b"},
        {"bucket": "arn:aws:s3:eu-west-3:123456789012:accesspoint/images"},
        {"redirectendpoint": "https://cdn.example"},
        {"accesskey": "", "secretkey": ""},
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_request_is_signed_as_botocore_does_it(
    given: dict[str, Any], method: direct.Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: datetime(2026, 1, 2, 3, 4))
    for name, value in [
        ("ACCESS_KEY_ID", "a/b"),
        ("SECRET_ACCESS_KEY", "s"),
        ("SESSION_TOKEN", "t/"),
    ]:
        monkeypatch.setenv(f"AWS_{name}", value)
    usual: dict[str, Any] = {"bucket": "images", "region": "eu-central-1", "attempts": 1}
    settings = S3Settings(**usual | {"accesskey": "a", "secretkey": "s"} | given)
    expected = sent_by_botocore(settings, method)
    session = make_session(settings)
    short = Direct.of(
        make_client(settings, session), session.get_credentials(), settings.bucket, settings.root
    )
    assert short is not None
    sent: list[AWSPreparedRequest] = []

    def catch(request: AWSPreparedRequest) -> AWSResponse:
        sent.append(request)
        raise HTTPClientError(error=Exception("nothing is sent here"))

    monkeypatch.setattr(short, "_send", catch)
    assert short.ask(method, KEY, {}) is None
    assert sent[0].method == expected.method
    assert sent[0].url == expected.url
    ours, theirs = (
        {name: _text(request.headers.get(name)) for name in SIGNED}
        for request in (sent[0], expected)
    )
    assert ours == theirs
    assert settings.useragent in sent[0].headers["User-Agent"]


def test_a_request_is_signed_for_the_second_in_which_it_is_sent(
    driver: S3Driver, proxy: S3Proxy
) -> None:
    """The store checks it, and refuses what is a quarter of an hour old."""
    driver.stat("key")
    (call,) = proxy.calls
    sent = datetime.strptime(call.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert abs((datetime.now(UTC) - sent).total_seconds()) < 60


def test_renewed_credentials_are_used_at_once(clock: SimpleNamespace) -> None:
    sent: list[AWSPreparedRequest] = []
    keys = [ReadOnlyCredentials("a", "s", token) for token in ("first", "second", "second")]
    credentials: Any = SimpleNamespace(get_frozen_credentials=lambda: keys[len(sent)])

    def send(request: AWSPreparedRequest) -> AWSResponse:
        sent.append(request)
        none: Any = {}
        return AWSResponse(request.url, 404, none, urllib3.HTTPResponse(status=404))

    place = Place("https://store/images/", "eu-central-1", "s3")
    config = SimpleNamespace(user_agent="ours", s3={})
    short = Direct(send, place, credentials, config)
    for key in ("a", "b", "c"):
        with pytest.raises(ObjectNotFound):
            short.ask("HEAD", key, {})
    tokens = [request.headers["X-Amz-Security-Token"] for request in sent]
    assert tokens == ["first", "second", "second"]
    signatures = {request.headers["Authorization"].rpartition("=")[2] for request in sent}
    assert len(signatures) == 3


def test_signatures_of_another_kind_are_left_to_botocore() -> None:
    settings = S3Settings("images", "eu-central-1", accesskey="a", secretkey="s")
    session = make_session(settings)
    client: Any = make_client(settings, session)
    url = "https://images.example/x?X-Amz-Algorithm=AWS4-ECDSA-P256-SHA256&X-Amz-Credential=a"
    client.generate_presigned_url = lambda *_, **__: url
    assert Direct.of(client, session.get_credentials(), "images", "") is None


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "4"},
        {"Last-Modified": "Sun, 29 Nov 2026 11:22:33 GMT"},
        {"Content-Length": "4", "Last-Modified": "lately"},
    ],
)
def test_an_answer_that_does_not_say_all_is_left_to_botocore(headers: Any) -> None:
    raw = urllib3.HTTPResponse(io.BytesIO(b"data"), headers, 200, preload_content=False)
    settings = S3Settings("images", "eu-central-1", accesskey="a", secretkey="s")
    session = make_session(settings)
    short = Direct.of(make_client(settings, session), session.get_credentials(), "images", "")
    assert short is not None
    short._send = lambda request: AWSResponse(request.url, 200, headers, raw)
    assert short.ask("GET", "key", {}) is None
    assert raw.closed


def test_objects_are_asked_for_by_the_short_way(driver: S3Driver, proxy: S3Proxy) -> None:
    assert driver.stat("key").size == 4
    assert driver.read("key") == b"data"
    assert driver.read("key", offset=1, length=2) == b"at"
    with pytest.raises(ObjectNotFound):
        driver.stat("absent")
    with pytest.raises(ObjectNotFound):
        driver.read("absent")
    assert ways(proxy) == ["direct"] * 5


def test_what_is_no_plain_answer_is_asked_of_botocore(driver: S3Driver, proxy: S3Proxy) -> None:
    assert driver.read("key", offset=9) == b""
    assert ways(proxy) == ["direct", "botocore"]
    assert driver.read("key") == b"data"
    assert ways(proxy) == ["direct"]


@pytest.mark.parametrize(
    "fault", [Answer(503, "SlowDown"), Answer(429, "TooManyRequests"), ResetRequest()]
)
@pytest.mark.parametrize(
    "use", [lambda driver: driver.stat("key"), lambda driver: driver.read("key")]
)
def test_a_store_that_fails_is_left_to_botocore_for_a_while(
    driver: S3Driver,
    proxy: S3Proxy,
    clock: SimpleNamespace,
    fault: Fault,
    use: Callable[[S3Driver], object],
) -> None:
    proxy.inject(fault)
    use(driver)
    assert ways(proxy) == ["direct", "botocore"]
    clock.now += PAUSE - 0.1
    use(driver)
    assert ways(proxy) == ["botocore"]
    clock.now += 0.2
    use(driver)
    assert ways(proxy) == ["direct"]


def test_an_error_that_breaks_off_is_no_proof_of_absence(
    driver: S3Driver, proxy: S3Proxy, clock: SimpleNamespace
) -> None:
    proxy.inject(CutAnswer(20), operation="GetObject", key="absent")
    with pytest.raises(ObjectNotFound):
        driver.read("absent")
    assert ways(proxy) == ["direct", "botocore"]


def test_connections_are_used_again(driver: S3Driver, proxy: S3Proxy) -> None:
    for _ in range(5):
        driver.stat("key")
        driver.read("key")
        for use in (driver.stat, driver.read):
            with pytest.raises(ObjectNotFound):
                use("absent")
    assert proxy.connections == 1


def test_a_redirect_to_another_place_is_botocores(driver: S3Driver, proxy: S3Proxy) -> None:
    proxy.inject(Answer(301, "PermanentRedirect"), operation="GetObject", times=None)
    with pytest.raises(Unavailable, match="another region"):
        driver.read("key")
    assert ways(proxy)[:2] == ["direct", "botocore"]


def test_without_botocores_connections_all_goes_its_way(
    monkeypatch: pytest.MonkeyPatch, driver: S3Driver, proxy: S3Proxy
) -> None:
    monkeypatch.setattr(Direct, "of", lambda *_: None)
    assert driver.read("key") == b"data"
    assert driver.stat("key").size == 4
    assert ways(proxy) == ["botocore"] * 2
