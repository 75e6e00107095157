"""The section of the S3 driver, under both of its names."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.config import render
from registry.config.s3 import S3
from registry.config.storage import Redirect
from storage.drivers.s3.settings import S3Settings
from tests.registry.config.conftest import Load, Problems

HEAD = "version: 0.1\nstorage:\n  s3:\n"
LEAST = "    bucket: images\n    region: eu-central-1\n"
MIB = 1024 * 1024

EVERYTHING = """
version: 0.1
storage:
  s3aws:
    accesskey: AKIA7f3a
    secretkey: 0123
    region: us-gov-west-1
    regionendpoint: ceph.example:7480
    forcepathstyle: false
    bucket: images
    encrypt: true
    keyid: 7f3a
    secure: false
    skipverify: true
    v4auth: true
    chunksize: 10485760
    multipartcopychunksize: 33554433
    multipartcopymaxconcurrency: 10
    multipartcopythresholdsize: 0
    rootdirectory: /a/b/
    storageclass: standard_ia
    useragent: us
    objectacl: Bucket-Owner-Full-Control
    loglevel: off
    redirectendpoint: https://images.example
    profile: production
    cabundle: /ca.pem
    uploadmemory: 104857600
    uploadmaxconcurrency: 4
    connections: 10
"""


def test_the_least_there_must_be(load_text: Load) -> None:
    storage = load_text(HEAD + LEAST).settings.storage
    assert storage.driver == "s3"
    assert storage.bucket == S3(bucket="images", region="eu-central-1")


def test_everything(load_text: Load) -> None:
    loaded = load_text(EVERYTHING)
    assert loaded.warnings == ()
    assert loaded.settings.storage.driver == "s3"
    assert loaded.settings.storage.bucket == S3(
        accesskey="AKIA7f3a",
        secretkey="0123",
        region="us-gov-west-1",
        regionendpoint="ceph.example:7480",
        forcepathstyle=False,
        bucket="images",
        encrypt=True,
        keyid="7f3a",
        secure=False,
        skipverify=True,
        chunksize=10 * MIB,
        multipartcopychunksize=32 * MIB + 1,
        multipartcopymaxconcurrency=10,
        multipartcopythresholdsize=0,
        rootdirectory="/a/b/",
        storageclass="STANDARD_IA",
        useragent="us",
        objectacl="bucket-owner-full-control",
        loglevel="off",
        redirectendpoint="https://images.example",
        profile="production",
        cabundle=Path("/ca.pem"),
        uploadmemory=100 * MIB,
        uploadmaxconcurrency=4,
        connections=10,
    )


def test_what_is_shown_loads_again(load_text: Load) -> None:
    settings = load_text(EVERYTHING).settings
    shown = render(settings)
    assert "AKIA" not in shown
    assert "0123" not in shown
    assert load_text(shown).settings.storage.bucket is not None


def test_from_variables_alone(load_text: Load) -> None:
    settings = load_text(
        None,
        REGISTRY_STORAGE="s3",
        REGISTRY_STORAGE_S3_BUCKET="images",
        REGISTRY_STORAGE_S3_REGION="us-east-1",
        REGISTRY_STORAGE_S3_SECRETKEY="0123",
        REGISTRY_STORAGE_S3_ACCESSKEY="yes",
        REGISTRY_STORAGE_REDIRECT_DISABLEFOR="[10.1.2.3/8, '::1']",
        REGISTRY_STORAGE_REDIRECT_DISABLEFORAGENTS_0="old-client",
    ).settings
    assert settings.storage.bucket == S3(
        bucket="images", region="us-east-1", accesskey="yes", secretkey="0123"
    )
    assert settings.storage.redirect == Redirect(
        disablefor=["10.0.0.0/8", "::1/128"], disableforagents=["old-client"]
    )


def test_the_schema_has_the_parameters_of_the_driver_with_their_defaults() -> None:
    section = S3(bucket="images", region="us-east-1")
    parameters = section.model_dump(exclude={"v4auth", "loglevel", "cabundle"})
    assert S3Settings(**parameters) == S3Settings(bucket="images", region="us-east-1")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("    region: eu-central-1\n", "bucket: is missing; name the bucket"),
        (
            "    bucket: s3://images\n    region: us-east-1\n",
            "bucket: 's3://images' is not the name",
        ),
        ("    bucket: images\n", "region: is missing; name the region of the bucket"),
        (
            "    bucket: images\n    region: frankfurt\n",
            "region: 'frankfurt' is not a region of Ama",
        ),
        ("    bucket: images\n    region: eu central\n", "region: 'eu central' is not a region"),
        (LEAST + "    accesskey: a\n", "secretkey: is missing; accesskey is set"),
        (LEAST + "    secretkey: a\n", "accesskey: is missing; secretkey is set"),
        (LEAST + "    chunksize: 5242879\n", "chunksize: is 5242879 and must be at least 5242880"),
        (LEAST + "    chunksize: 16M\n", "chunksize: '16M' is not a whole number"),
        (LEAST + "    chunksize: 5368709121\n", "chunksize: is 5368709121 and must be at most"),
        (
            LEAST + "    multipartcopychunksize: 1\n",
            "multipartcopychunksize: is 1 and must be at l",
        ),
        (LEAST + "    multipartcopymaxconcurrency: 0\n", "multipartcopymaxconcurrency: is 0 and m"),
        (LEAST + "    multipartcopythresholdsize: -1\n", "multipartcopythresholdsize: is -1 and m"),
        (LEAST + "    uploadmemory: 9000000\n", "uploadmemory: is less than one chunk"),
        (LEAST + "    chunksize: 600000000\n", "uploadmemory: is less than one chunk"),
        (LEAST + "    storageclass: GLACIER\n", "storageclass: GLACIER is an archive"),
        (LEAST + "    storageclass: COLD\n", "storageclass: 'COLD' is not one of STANDARD, RED"),
        (LEAST + "    objectacl: mine\n", "objectacl: 'mine' is not one of none, private"),
        (LEAST + "    keyid: a\n", "keyid: is the key to encrypt with, and encrypt is not true"),
        (LEAST + "    regionendpoint: 'http://'\n", "regionendpoint: 'http://' is not a URL"),
        (LEAST + "    regionendpoint: 'ftp://a'\n", "regionendpoint: 'ftp://a' is not a URL"),
        (
            LEAST + "    regionendpoint: a\n    accelerate: yes\n",
            "accelerate: is a way to Amazon's",
        ),
        (LEAST + "    secure: maybe\n", "secure: 'maybe' is neither true nor false"),
        (LEAST + "    useragent: é\n", "useragent: is not ASCII"),
        (LEAST + "    connections: 0\n", "connections: is 0 and must be at least 1"),
    ],
)
@pytest.mark.parametrize("name", ["s3", "s3aws"])
def test_what_is_wrong_is_one_line(
    problems_of: Problems, name: str, text: str, problem: str
) -> None:
    (line,) = problems_of(HEAD.replace("s3", name) + text)
    assert line.startswith(f"storage.{name}.{problem}")


def test_secrets_are_in_no_problem(problems_of: Problems) -> None:
    text = HEAD + LEAST + "    accesskey: 7f3a\n    regionendpoint: https://u:7f3a@h\n"
    assert not any("7f3a" in line for line in problems_of(text))


@pytest.mark.parametrize(
    ("value", "means"),
    [
        ("chunksize: 5242880", S3(chunksize=8 * MIB)),  # as Distribution has it, and ours to raise
        ("storageclass: ''", S3(storageclass="NONE")),
        ("storageclass: none", S3(storageclass="NONE")),
        ("objectacl: NONE", S3(objectacl="none")),
        ("regionendpoint: 'http://10.0.0.1:9000'", S3(regionendpoint="http://10.0.0.1:9000")),
        ("regionendpoint: 's3.example'", S3(regionendpoint="s3.example")),
        ("bucket: arn:aws:s3:eu-central-1:1:accesspoint/a", S3(region="eu-central-1")),
    ],
)
def test_what_values_mean(load_text: Load, value: str, means: S3) -> None:
    key = value.partition(":")[0]
    lines = [line for line in LEAST.splitlines() if not line.strip().startswith(f"{key}:")]
    found = load_text(HEAD + "\n".join([*lines, f"    {value}", ""])).settings.storage.bucket
    assert found is not None
    if key != "bucket":
        assert getattr(found, key) == getattr(means, key)


@pytest.mark.parametrize("region", ["auto", "garage", "us-east-1", "default"])
def test_another_store_has_regions_of_its_own(load_text: Load, region: str) -> None:
    text = HEAD + f"    bucket: a1\n    regionendpoint: https://s.example\n    region: {region}\n"
    assert load_text(text).warnings == ()


def test_what_has_no_effect_is_warned_of(load_text: Load) -> None:
    warnings = load_text(HEAD + LEAST + "    v4auth: false\n    loglevel: debug\n").warnings
    assert len(warnings) == 2
    assert any(line.startswith("storage.s3.v4auth: is without effect") for line in warnings)
    assert any(line.startswith("storage.s3.loglevel: ") for line in warnings)


def test_two_names_are_two_drivers(problems_of: Problems) -> None:
    (line,) = problems_of(HEAD + LEAST + "  s3aws:\n" + LEAST)
    assert "s3 (line 4) and s3aws (line 7)" in line


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("redirect: {disablefor: [unix]}", "storage.redirect.disablefor.0: 'unix' is not an addr"),
        ("redirect: {disablefor: [10/8]}", "storage.redirect.disablefor.0: '10/8' is not an addr"),
        ("redirect: {disableforagents: ['']}", "storage.redirect.disableforagents.0: is empty"),
        ("cache: {tagttl: -1s}", "storage.cache.tagttl: "),
        ("cache: {tagttl: 5}", "storage.cache.tagttl: "),
    ],
)
def test_what_is_wrong_beside_the_driver(problems_of: Problems, section: str, problem: str) -> None:
    (line,) = problems_of(HEAD + LEAST + f"  {section}\n")
    assert line.startswith(problem)


def test_how_long_a_tag_may_be_out_of_date(load_text: Load) -> None:
    assert load_text(HEAD + LEAST).settings.storage.cache.tagttl == 0
    loaded = load_text(HEAD + LEAST + "  cache: {tagttl: 1m}\n")
    assert loaded.settings.storage.cache.tagttl == 60
    assert "tagttl: 1m\n" in render(loaded.settings)
