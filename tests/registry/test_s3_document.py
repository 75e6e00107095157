"""docs/s3.md: its policy is enough and not too much, and its rule is one that a store takes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.config import load
from registry.config.section import known_keys
from registry.config.settings import Settings
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from tests.support.ceph import Gateway
from tests.support.s3 import S3Store

DOCUMENT = (Path(__file__).parents[2] / "docs" / "s3.md").read_text(encoding="utf-8")
POLICY, RULE = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", DOCUMENT, re.S))
CHUNK = 8 * 1024 * 1024
LAYER = os.urandom(CHUNK + 1000)


@pytest.fixture
def bucket(rgw: S3Store) -> Iterator[str]:
    with rgw.fresh() as name:
        yield name


@pytest.fixture(scope="module")
def guest(gateway: Gateway) -> S3Store:
    return gateway.user("document")


def allow(owner: S3Store, bucket: str, guest: S3Store, *, without: str = "") -> None:
    """Let the guest use the bucket by the document's policy, but for one action."""
    text = json.dumps(POLICY).replace("my-images", bucket)
    policy: dict[str, Any] = json.loads(text)
    on_bucket, on_objects = policy["Statement"]
    on_objects["Resource"] = [on_objects["Resource"], on_bucket["Resource"]]  # for Ceph 16, as said
    for statement in policy["Statement"]:
        statement["Principal"] = {"AWS": [f"arn:aws:iam:::user/{guest.access_key}"]}
        statement["Action"] = [action for action in statement["Action"] if action != without]
    owner.client().put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))


def use(driver: S3Driver, owner: S3Store, bucket: str) -> None:
    """All that a registry does to a bucket."""
    driver.check()
    owner.client().put_object(Bucket=bucket, Key="theirs", Body=LAYER[:5])  # one may read one's own
    assert driver.read("theirs") == LAYER[:5]
    for name in ("straight", "copied", "lost"):
        final = "straight" if name == "straight" else ""
        with driver.writer(f"u/{name}/data", create=True, final=final) as writer:
            writer.append([LAYER])
            if name == "lost":
                continue
            writer.sync()
            state = writer.state
            if final:
                writer.publish(final)
        if name == "copied":
            with driver.writer(f"u/{name}/data", create=False, state=state, final=name) as writer:
                writer.publish(name)
    assert driver.read("straight", length=5) == driver.read("copied", length=5) == LAYER[:5]
    assert [child.name for child in driver.list("")] != []
    upload = owner.client().create_multipart_upload(Bucket=bucket, Key="old")["UploadId"]
    owner.client().upload_part(
        Bucket=bucket, Key="old", UploadId=upload, PartNumber=1, Body=b"part"
    )
    driver.abort_unfinished("", before=2**40)
    assert owner.unfinished(bucket) == []
    driver.flush()
    driver.delete("straight")
    driver.delete_many(["copied", "theirs"])
    driver.delete_tree("u")
    assert owner.keys(bucket) == {}


def test_the_policy_is_enough(rgw: S3Store, bucket: str, guest: S3Store) -> None:
    allow(rgw, bucket, guest)
    driver = S3Driver(S3Settings(**guest.parameters(bucket, chunksize=CHUNK)))
    try:
        use(driver, rgw, bucket)
    finally:
        driver.close()


@pytest.mark.parametrize("action", [a for s in POLICY["Statement"] for a in s["Action"]])
def test_every_action_of_the_policy_is_needed(
    rgw: S3Store, bucket: str, guest: S3Store, action: str
) -> None:
    allow(rgw, bucket, guest, without=action)
    driver = S3Driver(S3Settings(**guest.parameters(bucket, chunksize=CHUNK)))
    try:
        with pytest.raises(Exception, match=r"AccessDenied|403"):
            use(driver, rgw, bucket)
    finally:
        driver.close()


def test_the_rule_is_one_that_a_store_takes(rgw: S3Store, bucket: str) -> None:
    rgw.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=RULE)
    (kept,) = rgw.client().get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert kept["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 8}


def test_every_key_it_names_exists() -> None:
    known = set(known_keys(Settings))
    named = set(re.findall(r"`((?:storage|http|health)(?:\.[a-z0-9]+)+)", DOCUMENT))
    assert named
    assert named <= known


def test_its_configurations_load(tmp_path: Path) -> None:
    prose = re.sub(r"```json\n.*?```", "", DOCUMENT, flags=re.DOTALL)
    blocks = re.findall(r"((?:^    .*\n)+)", prose, re.MULTILINE)
    first, second = (yaml.safe_load(block) for block in blocks)
    for number, text in enumerate((first, {"version": 0.1, **second})):
        path = tmp_path / f"{number}.yml"
        path.write_text(yaml.safe_dump(text), encoding="utf-8")
        assert load(path, {}).warnings == ()
