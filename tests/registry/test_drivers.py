"""A storage that cannot be used is one line at the start, and says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.config import Settings
from registry.config.s3 import S3
from registry.config.storage import InMemory, Storage
from registry.drivers import make_driver
from storage.driver_errors import Unavailable
from tests.support.ceph import Gateway
from tests.support.s3 import S3Store
from tests.support.servers import free_port


@pytest.fixture
def bucket(rgw: S3Store) -> Iterator[str]:
    with rgw.fresh() as name:
        yield name


def settings(parameters: dict[str, Any]) -> Settings:
    return Settings(storage=Storage(s3=S3.model_validate(parameters)))


def refused(parameters: dict[str, Any]) -> str:
    with pytest.raises(Unavailable) as caught:
        make_driver(settings(parameters))
    return str(caught.value)


@pytest.fixture(autouse=True)
def _no_credentials_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_in_memory() -> None:
    driver = make_driver(Settings(storage=Storage(inmemory=InMemory())))
    driver.write("a", b"b")
    assert driver.read("a") == b"b"


@pytest.mark.parametrize("name", ["rgw", "rgw_tls", "rclone_s3"])
def test_a_bucket_that_works(request: pytest.FixtureRequest, name: str) -> None:
    store: S3Store = request.getfixturevalue(name)
    with store.fresh() as bucket:
        driver = make_driver(settings(store.parameters(bucket, rootdirectory="/deep/down/")))
        assert driver.name == "s3"
        assert store.keys(bucket) == {}
        driver.write("a", b"b")
        assert store.keys(bucket) == {"deep/down/a": 1}
        driver.delete("a")


def test_credentials_of_a_profile(rgw: S3Store, bucket: str, tmp_path: Path) -> None:
    lines = [f"aws_access_key_id={rgw.access_key}", f"aws_secret_access_key={rgw.secret_key}"]
    (tmp_path / "credentials").write_text("\n".join(["[images]", *lines, ""]))
    make_driver(settings(rgw.parameters(bucket, accesskey="", secretkey="", profile="images")))


def test_credentials_of_the_environment(
    rgw: S3Store, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", rgw.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", rgw.secret_key)
    make_driver(settings(rgw.parameters(bucket, accesskey="", secretkey="")))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"bucket": "not-there"}, "the bucket does not exist"),
        ({"secretkey": "wrong"}, "the secret key is wrong"),
        ({"accesskey": "wrong"}, "the access key is unknown"),
        ({"accesskey": "", "secretkey": ""}, "give `accesskey` and `secretkey`"),
        ({"accesskey": "", "secretkey": "", "profile": "nobody"}, "profile (nobody) could not be"),
        ({"regionendpoint": "http://127.0.0.1:9"}, "the store cannot be reached"),
        ({"regionendpoint": "http://store.invalid"}, "the store cannot be reached"),
    ],
)
def test_a_bucket_that_cannot_be_used(
    rgw: S3Store, bucket: str, parameters: dict[str, str], says: str
) -> None:
    assert says in refused(rgw.parameters(bucket) | parameters)


def test_a_bucket_of_somebody_else(gateway: Gateway, bucket: str) -> None:
    assert "grant the registry's credentials" in refused(gateway.user("guest").parameters(bucket))


def test_a_certificate_that_is_not_trusted(rgw_tls: S3Store, bucket: str) -> None:
    said = refused(rgw_tls.parameters(bucket, cabundle=None))
    assert "give its authority as `cabundle`" in said


@pytest.mark.parametrize("content", [None, "", "not a certificate"])
def test_a_file_of_no_authority(
    rgw_tls: S3Store, bucket: str, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    said = refused(rgw_tls.parameters(bucket, cabundle=path))
    assert said.startswith(f"storage.s3.cabundle, {path}, is no PEM file of certificates: ")


def test_the_command_ends_with_one_line(rgw: S3Store, tmp_path: Path) -> None:
    config = tmp_path / "config.yml"
    storage = {"s3": rgw.parameters("not-there")}
    http = {"addr": f"127.0.0.1:{free_port()}"}
    config.write_text(yaml.safe_dump({"version": "0.1", "storage": storage, "http": http}))
    command = [sys.executable, "-m", "registry.cli", "serve", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("The storage cannot be used: PutObject s3://not-there/docker/registry")
    assert "the bucket does not exist; create it" in line
    assert rgw.secret_key not in done.stderr + done.stdout
