"""Where credentials come from when the configuration has none: each of the places that docs/s3.md lists.

What hands them out is imitated, for the real ones are in Amazon's data centres. The keys are real, and a
real gateway takes them or does not.
"""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest

from storage.driver_errors import Unavailable, WouldBlock
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from tests.support.s3 import S3Store
from tests.support.servers import free_port

MINUTES_THAT_FORCE_RENEWAL = 5
"""botocore asks anew for what ends within ten."""


class Issuer:
    """Hands out the keys of `store`, in each of the three ways in which AWS does it."""

    def __init__(self, store: S3Store) -> None:
        self.keys = (store.access_key, store.secret_key)
        self.lasting = timedelta(hours=6)
        self.asked: list[str] = []
        self.tokens: list[str] = []

    def as_json(self) -> dict[str, str]:
        access, secret = self.keys
        ends = (datetime.now(UTC) + self.lasting).strftime("%Y-%m-%dT%H:%M:%SZ")
        names = {"AccessKeyId": access, "SecretAccessKey": secret, "Token": ""}
        return {"Code": "Success", "Type": "AWS-HMAC", **names, "Expiration": ends}

    def as_xml(self) -> str:
        parts = {**self.as_json(), "SessionToken": ""}
        wanted = ("AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration")
        credentials = "".join(f"<{name}>{parts[name]}</{name}>" for name in wanted)
        return (
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            f"<AssumeRoleWithWebIdentityResult><Credentials>{credentials}</Credentials>"
            "</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"
        )

    def answer(self, method: str, path: str, body: bytes) -> str:
        self.asked.append(f"{method} {path}")
        if method == "PUT":
            return "a session of the metadata service"
        if method == "POST":
            form = parse_qs(body.decode())
            self.tokens += form["WebIdentityToken"]
            return self.as_xml()
        if path.endswith("/security-credentials/"):
            return "the-role"
        return json.dumps(self.as_json())


@contextmanager
def listening(issuer: Issuer) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            said = issuer.answer(self.command, self.path, body).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.send_header("X-aws-ec2-metadata-token-ttl-seconds", "21600")
            self.end_headers()
            self.wfile.write(said)

    for method in ("GET", "PUT", "POST"):
        setattr(Handler, f"do_{method}", Handler.answer)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", nowhere)
    monkeypatch.setenv("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "1")


@pytest.fixture
def bucket(rgw: S3Store) -> Iterator[str]:
    with rgw.fresh() as bucket:
        yield bucket


@pytest.fixture
def issuer(rgw: S3Store) -> Issuer:
    return Issuer(rgw)


def without_keys(store: S3Store, bucket: str, **more: object) -> S3Settings:
    return S3Settings(**store.parameters(bucket, accesskey="", secretkey="", **more))


def works(settings: S3Settings) -> bool:
    driver = S3Driver(settings)
    driver.write("key", b"data")
    read = driver.read("key")
    driver.close()
    return read == b"data"


def test_the_environment(rgw: S3Store, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rgw.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rgw.secret_key)
    assert works(without_keys(rgw, bucket))


def test_a_profile(rgw: S3Store, bucket: str, tmp_path: Path) -> None:
    lines = ["[images]", f"aws_access_key_id = {rgw.access_key}"]
    lines.append(f"aws_secret_access_key = {rgw.secret_key}")
    (tmp_path / "credentials").write_text("\n".join(lines))
    assert works(without_keys(rgw, bucket, profile="images"))


def test_a_web_identity(
    rgw: S3Store, bucket: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """IRSA: the token of a Kubernetes service account, exchanged at STS. It is read anew each time."""
    token = tmp_path / "token"
    token.write_text("the first")
    with listening(issuer) as url:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
        monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/registry")
        monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(token))
        assert works(without_keys(rgw, bucket))
        token.write_text("the second")
        assert works(without_keys(rgw, bucket))
    assert issuer.tokens == ["the first", "the second"]


def test_the_role_of_a_machine(
    rgw: S3Store, bucket: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(issuer) as url:
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)
        assert works(without_keys(rgw, bucket))
    assert [each.split()[0] for each in issuer.asked] == ["PUT", "GET", "GET"]


def test_the_role_of_a_container_is_renewed_in_time(
    rgw: S3Store, bucket: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the registry runs: what it had at the start is good for nothing by then."""
    with listening(issuer) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")
        good, issuer.lasting = issuer.keys, timedelta(minutes=MINUTES_THAT_FORCE_RENEWAL)
        driver = S3Driver(without_keys(rgw, bucket))
        driver.write("key", b"data")
        issuer.keys = ("of-nobody", "nothing")
        with pytest.raises(Unavailable, match="InvalidAccessKeyId"):
            driver.read("key")
        issuer.keys, issuer.lasting = good, timedelta(hours=6)
        assert driver.read("key") == b"data"
        asked = len(issuer.asked)
        assert driver.read("key") == b"data"
        assert len(issuer.asked) == asked, "what lasts for hours was asked for again"
        driver.close()


def test_urls_are_signed_with_what_was_renewed_and_no_event_loop_waits_for_that(
    rgw: S3Store, bucket: str, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(issuer) as url:
        monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/role")
        issuer.lasting = timedelta(minutes=MINUTES_THAT_FORCE_RENEWAL)
        driver = S3Driver(without_keys(rgw, bucket))
        driver.presign("key", lifetime=60)
        issuer.keys, issuer.lasting = ("another", "key"), timedelta(hours=6)
        with pytest.raises(WouldBlock):
            driver.presign("key", lifetime=60, patient=False)
        for patient in (True, False):
            signed = driver.presign("key", lifetime=60, patient=patient)
            assert signed is not None
            assert "X-Amz-Credential=another%2F" in signed
        driver.close()


def test_the_configuration_outweighs_the_environment(
    rgw: S3Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    assert works(S3Settings(**rgw.parameters(bucket)))


def test_none_at_all_is_said(rgw: S3Store, bucket: str) -> None:
    driver = S3Driver(without_keys(rgw, bucket))
    with pytest.raises(Unavailable, match="credentials"):
        driver.read("key")
    driver.close()
