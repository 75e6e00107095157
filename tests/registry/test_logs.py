"""Log lines: whole, escaped, and without secrets, whoever logs what."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from registry.telemetry import logs
from registry.telemetry.lines import LineFormatter, timestamp
from registry.telemetry.scrub import LIMIT, REDACTED, scrub, without_secrets

SECRET = "hunter2SECRET"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"

log = logs.get_logger("holdfast.test")


class Output:
    """What has been written to descriptor 1."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def text(self) -> str:
        return self._capfd.readouterr().out

    def lines(self) -> list[str]:
        text = self.text()
        assert text == "" or text.endswith("\n")
        return text.split("\n")[:-1]

    def json(self) -> dict[str, Any]:
        (line,) = self.lines()
        decoded = json.loads(line)
        assert isinstance(decoded, dict)
        return decoded


@pytest.fixture
def output(capfd: pytest.CaptureFixture[str]) -> Iterator[Output]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    uvicorn = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access")]
    before = [(logger.handlers[:], logger.propagate) for logger in uvicorn]
    yield Output(capfd)
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger, (its, propagate) in zip(uvicorn, before, strict=True):
        logger.handlers[:] = its
        logger.propagate = propagate
    logging.captureWarnings(False)
    structlog.contextvars.clear_contextvars()


def configure(formatter: str = "json", level: str = "debug", **fields: str) -> None:
    logs.configure(level=level, formatter=formatter, fields=fields)


def test_a_line_in_json(output: Output) -> None:
    configure(environment="production")
    log.info("swept", blobs=3, took=0.5, dry=True, tag=None, kinds=["a", {"b": 1}])
    line = output.json()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {
        "level": "info",
        "msg": "swept",
        "logger": "holdfast.test",
        "environment": "production",
        "blobs": 3,
        "took": 0.5,
        "dry": True,
        "tag": None,
        "kinds": ["a", {"b": 1}],
    }


def test_a_line_in_text(output: Output) -> None:
    configure("text", environment="production")
    log.warning("took a while", seconds=1.5, path="/v2/a/b", agent='say "x"', none=None, empty="")
    (line,) = output.lines()
    stamp, _, rest = line.partition(" ")
    assert re.fullmatch(r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert rest == (
        'level=warning msg="took a while" logger=holdfast.test environment=production seconds=1.5 '
        'path=/v2/a/b agent="say \\"x\\"" none=null empty=""'
    )


def test_a_line_for_logstash(output: Output) -> None:
    configure("logstash")
    log.error("failed")
    line = output.json()
    assert line.pop("@timestamp").endswith("Z")
    assert line == {
        "@version": "1",
        "level": "error",
        "message": "failed",
        "logger_name": "holdfast.test",
    }


def test_timestamps_are_utc_with_milliseconds() -> None:
    assert timestamp(0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1755507045.9999) == "2025-08-18T08:50:45.999Z"


@pytest.mark.parametrize("name", ["uvicorn", "uvicorn.error", "asyncio", "some.library", "root"])
def test_every_logger_of_the_process_comes_out(output: Output, name: str) -> None:
    library = logging.getLogger(name)
    if name.startswith("uvicorn"):
        library.addHandler(logging.StreamHandler())
    configure()
    library.warning("%d of %s", 3, "them", extra={"fields": {"blobs": 3}})
    line = output.json()
    assert (line["msg"], line["logger"], line["blobs"]) == ("3 of them", name, 3)


def test_access_lines_of_uvicorn_do_not(output: Output) -> None:
    configure()
    access = logging.getLogger("uvicorn.access")
    assert not access.hasHandlers()
    access.info("GET /v2/?_state=x")
    assert output.text() == ""


def test_configuring_again_replaces(output: Output) -> None:
    configure("text")
    configure("json", level="error")
    log.warning("not said")
    log.error("said")
    assert output.json()["msg"] == "said"


@pytest.mark.parametrize(
    ("level", "said"),
    [("error", 1), ("warn", 2), ("warning", 2), ("info", 3), ("INFO", 3), ("debug", 4)],
)
def test_levels(output: Output, level: str, said: int) -> None:
    configure(level=level)
    for say in (log.error, log.warning, log.info, log.debug):
        say("x")
    library = logging.getLogger("some.library")
    for name in ("error", "warning", "info", "debug"):
        getattr(library, name)("x")
    assert len(output.lines()) == 2 * said


def test_unknown_settings_are_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"^The log level 'loud' is unknown; use .*\.$"):
        configure(level="loud")
    with pytest.raises(ValueError, match=r"^The log formatter 'xml' is unknown; use .*\.$"):
        configure("xml")


def test_context_is_added(output: Output) -> None:
    configure()
    with structlog.contextvars.bound_contextvars(request_id="abc"):
        log.info("ours")
        logging.getLogger("some.library").info("theirs")
    log.info("later")
    lines = [json.loads(line) for line in output.lines()]
    assert [line.get("request_id") for line in lines] == ["abc", "abc", None]


def test_fields_do_not_replace_what_a_line_says(output: Output) -> None:
    logs.configure(level="info", formatter="json", fields={"level": "forged"})
    log.info("true", msg="forged", time="forged", traceback="forged", logger="forged")
    line = output.json()
    assert (line["msg"], line["level"], line["logger"]) == ("true", "info", "holdfast.test")
    assert line["fields.msg"] == line["fields.traceback"] == line["fields.level"] == "forged"
    assert "traceback" not in line


FORGERIES = [
    'x\n{"level":"error","msg":"forged"}',
    "x\r\ntime=2025-01-01T00:00:00.000Z level=error msg=forged",
    "x\x1b[2K\x1b[1Gforged",
    "x\x9b2Jforged",
    "x\u2028forged\u2029forged\x85forged\x0bforged\x0cforged\x1cforged",
    "x\x00\x07\x08\x7fforged",
    "x\u202eforged",
    'x" level=error msg="forged',
    "x\\\n",
    "\ud800\udfff\udc80",
]


@pytest.mark.parametrize("formatter", ["json", "text", "logstash"])
@pytest.mark.parametrize("value", FORGERIES, ids=range(len(FORGERIES)))
def test_no_value_forges_a_line(output: Output, formatter: str, value: str) -> None:
    configure(formatter, constant=value)
    log.info(value, field=value, nested=[{value: value}], data=value.encode("utf-8", "replace"))
    log.info("key", **{value: "x"})
    logging.getLogger("library").error("%s", value, extra={"fields": {value: value}})
    logging.getLogger(value.replace(".", "")).error(value)
    with structlog.contextvars.bound_contextvars(request_id=value):
        log.info("context")
    lines = output.lines()
    assert len(lines) == 5
    for line in lines:
        assert re.fullmatch(r"[\x20-\x7e]+", line.replace("\x7f", ""))
        if formatter == "text":
            assert re.fullmatch(r'(?:[\w.@-]+=(?:[^\s"=]+|"(?:[^"\\]|\\.)*")(?: |$))+', line)
        else:
            assert json.loads(line)


def fail_with(text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        log.exception("failed", field=1)


def test_a_traceback_in_json_is_a_field(output: Output) -> None:
    configure()
    fail_with("first\nsecond")
    line = output.json()
    assert line["msg"] == "failed"
    assert line["traceback"].startswith("Traceback (most recent call last):\n")
    assert line["traceback"].endswith("ValueError: first\nsecond")


@pytest.mark.parametrize("value", FORGERIES, ids=range(len(FORGERIES)))
def test_a_traceback_in_text_is_indented(output: Output, value: str) -> None:
    configure("text")
    fail_with(value)
    first, *rest = output.lines()
    assert first.endswith("msg=failed logger=holdfast.test field=1")
    assert len(rest) >= 4
    assert all(re.fullmatch(r"    \| [\x20-\x7e]*", row) for row in rest)


def test_exceptions_of_libraries_have_a_traceback_too(output: Output) -> None:
    configure()
    logging.getLogger("uvicorn.error").error("bug\n", exc_info=KeyError("k"))
    assert output.json()["traceback"] == "KeyError: 'k'"


def test_a_long_traceback_keeps_its_end(output: Output) -> None:
    configure()
    fail_with("x" * 3 * LIMIT + "the end")
    traceback = output.json()["traceback"]
    assert traceback.endswith("the end")
    assert len(traceback) < LIMIT + 100


# Each is logged as it stands; SECRET, JWT and their like must be gone, `kept` must not.
NASTY: list[tuple[str, str]] = [
    (f"Authorization: Bearer {SECRET}", "Authorization"),
    (f"authorization: basic {SECRET}==", "authorization"),
    (f"AUTHORIZATION:{SECRET}", "AUTHORIZATION"),
    (f"Proxy-Authorization: Negotiate {SECRET}", "Proxy"),
    (f"authorization=Digest username={SECRET}, response={SECRET}", "authorization"),
    (f'"Authorization": "Bearer {SECRET}", "Host": "kept"', '"Host": "kept"'),
    (f"[(b'host', b'kept'), (b'authorization', b'Basic {SECRET}')]", "kept"),
    (f"{{'authorization': 'Bearer {SECRET}', 'a': 'kept'}}", "kept"),
    (f"Cookie: session={SECRET}; other={SECRET}", "Cookie"),
    (f"sent Bearer {SECRET} to it", "to it"),
    (f"sent bearer\t{SECRET}", "sent"),
    (f"header=Basic%20{SECRET}", "header"),
    (f"token {JWT} was refused", "was refused"),
    (f"%22{JWT}%22", ""),
    (f"/v2/a/blobs/uploads/1?_state={SECRET}&digest=sha256:ab", "digest=sha256:ab"),
    (f"/v2/a/blobs/uploads/1?%5fstate={SECRET}", "/v2/a/blobs/uploads/1"),
    (f"_state%3D{SECRET}", ""),
    (
        f"https://b.s3.amazonaws.com/k?X-Amz-Algorithm=A&X-Amz-Credential={SECRET}%2F20250101"
        f"&X-Amz-Security-Token={SECRET}&X-Amz-Signature={SECRET}&X-Amz-Expires=1200",
        "X-Amz-Expires=1200",
    ),
    (f"https://b.s3.amazonaws.com/k?AWSAccessKeyId={SECRET}&Signature={SECRET}&Expires=1", "Exp"),
    (f"https://a.blob.core.windows.net/k?sv=1&sig={SECRET}&se=2", "se=2"),
    (
        f"AWS4-HMAC-SHA256 Credential={SECRET}/20250101, SignedHeaders=host, Signature={SECRET}",
        "SignedHeaders=host",
    ),
    (f"https://user:{SECRET}@registry.example.com/v2/", "registry.example.com/v2/"),
    (f"https://{SECRET}@github.com/x", "github.com/x"),
    (f"redis://:{SECRET}@cache:6379/0", "cache:6379/0"),
    (f"redis://user:{SECRET}@{SECRET}@cache:6379/0", "cache:6379/0"),
    (f"postgres://user:a/{SECRET}@db/x", "db/x"),
    (f"password={SECRET}", "password"),
    (f'PASSWORD = "{SECRET} {SECRET}"', "PASSWORD"),
    (f'{{"password": "a\\"{SECRET}", "user": "kept"}}', "kept"),
    (f"  secretkey: {SECRET}\n  region: kept", "region: kept"),
    (f"AWS_SECRET_ACCESS_KEY={SECRET}", "AWS_SECRET"),
    (f"REGISTRY_STORAGE_S3_ACCESSKEY={SECRET}", "REGISTRY"),
    (f"grant_type=password&refresh_token={SECRET}&scope=kept", "scope=kept"),
    (f"client_secret={SECRET}", "client_secret"),
    (f'{{"access_token":"{SECRET}","expires_in":300}}', '"expires_in":300'),
    (f'{{"auths":{{"r":{{"auth":"{SECRET}"}}}}}}', "auths"),
    (f'"identitytoken" : "{SECRET}"', "identitytoken"),
    (f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----\nkept", "kept"),
    (f"-----BEGIN PRIVATE KEY-----\n{SECRET}", ""),
]


@pytest.mark.parametrize(("text", "kept"), NASTY, ids=range(len(NASTY)))
@pytest.mark.parametrize("formatter", ["json", "text"])
def test_no_secret_comes_out(output: Output, formatter: str, text: str, kept: str) -> None:
    configure(formatter)
    padded = f"{text}\n{'.' * 500}"
    log.info(text, field=text, nested={"a": [text]}, data=text.encode(), error=ValueError(text))
    log.info(padded, field=padded)
    logging.getLogger("library").error("said: %s", text)
    fail_with(text)
    written = output.text()
    assert "SECRET" not in written.replace("AWS_SECRET", "")
    assert JWT not in written
    assert JWT.rpartition(".")[2] not in written
    assert kept in scrub(text)


@pytest.mark.parametrize(
    "name",
    [
        "authorization",
        "Proxy-Authorization",
        "cookie",
        "password",
        "http.secret",
        "clientSecret",
        "token",
        "refresh_token",
        "_state",
        "x-amz-signature",
        "secretkey",
        "accesskey",
        "api_key",
        "credentials",
    ],
)
def test_a_field_that_is_named_after_a_secret_has_no_value(output: Output, name: str) -> None:
    configure()
    log.info("x", **{name: SECRET, "nested": {name: [SECRET], "deep": [{name: {"a": SECRET}}]}})
    log.info("x", **{name: 12345678})
    written = output.text()
    assert SECRET not in written
    assert "12345678" not in written
    assert REDACTED in written


@pytest.mark.parametrize(
    "text",
    [
        "GET /v2/team/app/manifests/sha256:9f86d081884c7d659a2feaa0c55ad015",
        "docker/27.3.1 go/go1.22.7 (linux) UpstreamClient(Docker-Client/27.3.1)",
        'Bearer realm="https://auth.example.com/token",service="registry",scope="repository:a:pull"',
        'Basic realm="Registry"',
        "basic authentication is off; bearer tokens are on",
        "https://registry.example.com:5000/v2/a/blobs/sha256:abc?n=10&last=b",
        "the upload token is stale",
        "application/vnd.oci.image.manifest.v1+json; charset=utf-8",
        "author=alice status=200",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert scrub(text) == text


HOSTILE_TEXTS = ["eyJ", "://", "password", "basic ", "authorization:\n", 'password="\\', "a:", "_"]


@pytest.mark.parametrize("piece", [*HOSTILE_TEXTS, "-----BEGIN PRIVATE KEY-----x", "token='"])
def test_scrubbing_hostile_text_takes_bounded_time(piece: str) -> None:
    begun = time.process_time()
    assert len(scrub(piece * 100_000)) < LIMIT + 100
    assert time.process_time() - begun < 1


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_whatever_is_logged_there_is_a_line(output: Output) -> None:
    logging.getLogger().handlers.clear()  # pytest's raise
    configure()
    deep: list[object] = []
    deep.append(deep)
    log.info(
        "odd",
        nan=float("nan"),
        infinite=float("inf"),
        huge=10**5000,
        unshowable=Unshowable(),
        deep=deep,
        data=b"\xff\x00",
        unordered={1},
        long="x" * 100_000,
    )
    line = output.json()
    assert (line["nan"], line["infinite"], line["unordered"]) == ("nan", "inf", [1])
    assert line["data"] == "\xff\x00"
    assert "cannot be shown" in line["unshowable"]
    assert len(line["long"]) < LIMIT + 100
    logging.getLogger("library").error("%d", "x", Unshowable())
    assert output.json()["msg"].startswith("%d (")


def test_warnings_are_lines(output: Output) -> None:
    configure()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    line = output.json()
    assert line["logger"] == "py.warnings"
    assert "DeprecationWarning: old" in line["msg"]


def test_a_line_is_one_write(output: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    configure()
    writes: list[bytes] = []

    def write(_descriptor: int, data: bytes) -> int:
        writes.append(bytes(data))
        return len(data)

    monkeypatch.setattr(os, "write", write)
    log.info("x", long="y" * 10_000)
    assert len(writes) == 1
    assert writes[0].endswith(b"\n")


def test_when_stdout_fails_stderr_says_so_once_and_nobody_is_hurt(
    capfd: pytest.CaptureFixture[str], output: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure()
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if descriptor == 1:
            raise OSError(28, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    log.info(SECRET)
    log.info(SECRET)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == "Log lines cannot be written to stdout: No space left on device.\n"
    monkeypatch.undo()
    log.info("again")
    assert output.json()["msg"] == "again"


NAMES = ("path", "status", "time", "we ird", "we_ird", "token", "x%s", "fields.time", "@version")
VALUES: tuple[object, ...] = (
    *("", "GET", "/v2/a/b?x=%20%s", 'agent "x"\n', f"Bearer {JWT}", f"password={SECRET}", "\xe9"),
    *("x" * 300, "a b" * LIMIT, 0, -1, 2**63, 2**64, 2**70, 1.5, 1e-7, 1e30, math.inf, math.nan),
    *(True, False, None, {"token": SECRET, "a": 1}, [1, "x y"], b"bytes"),
)


@pytest.mark.parametrize("formatter", ["text", "json", "logstash"])
@pytest.mark.parametrize("constant", [{}, {"env": "50% %s"}, {"path": "x", "status": "y"}])
def test_a_request_line_is_what_its_record_would_be(
    formatter: str, constant: dict[str, str]
) -> None:
    lines = LineFormatter(formatter, constant)
    for number in range(len(VALUES) * 3):
        turned = VALUES[number % len(VALUES) :] + VALUES
        fields = dict(zip(NAMES[number % 4 :], turned, strict=False))
        record = logging.makeLogRecord(
            {"name": "holdfast.access", "msg": "request", "levelname": "INFO", "created": 12.5}
            | {"fields": fields}
        )
        line = lines.render(12.5, "info", "request", "holdfast.access", fields)
        assert line == lines.format(record)
        assert SECRET not in line


@given(st.text("abcdefgijkopstuwyEYJ0123456789", max_size=300))
def test_a_word_without_signs_is_never_a_secret(word: str) -> None:
    """What scrub() takes for granted."""
    assert without_secrets(word) == word
