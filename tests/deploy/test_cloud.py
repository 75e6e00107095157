"""The recipe for a cloud: its policy is what is used, its rule one that a store takes, its files load."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.config import load
from storage.drivers.s3 import examining
from storage.drivers.s3.settings import S3Settings
from storage.examination import Verdict
from tests.registry.test_s3_document import POLICY
from tests.support.s3 import S3Store

CLOUD = Path(__file__).parents[2] / "deploy/cloud"
OF_THE_DOCTOR_ALONE = "s3:GetLifecycleConfiguration"


def document(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CLOUD / name).read_text(encoding="utf-8"))
    return found


def actions(policy: dict[str, Any], place: str) -> set[str]:
    return {
        action
        for statement in policy["Statement"]
        if statement["Resource"] == place
        for action in statement["Action"]
    }


@pytest.fixture
def bucket(rgw: S3Store) -> Iterator[str]:
    with rgw.fresh("cloud") as name:
        yield name


def test_the_role_may_do_what_the_registry_does_and_no_more(rgw: S3Store, bucket: str) -> None:
    role = document("role-policy.json")
    places = ("arn:aws:s3:::my-images", "arn:aws:s3:::my-images/*")
    on_bucket, on_objects = (actions(role, place) for place in places)
    assert on_bucket == actions(POLICY, places[0]) | {OF_THE_DOCTOR_ALONE}
    assert on_objects == actions(POLICY, places[1])
    assert {statement["Effect"] for statement in role["Statement"]} == {"Allow"}

    seen = list(examining.examine(S3Settings(**rgw.parameters(bucket)), "doctor"))
    assert [each for each in seen if each.verdict is Verdict.PROBLEM] == []
    tried = {each.subject for each in seen if each.subject.startswith("s3:")}
    assert tried == (on_bucket | on_objects) - {OF_THE_DOCTOR_ALONE}


def test_a_store_takes_the_rule_for_unfinished_uploads(rgw: S3Store, bucket: str) -> None:
    rules: Any = document("lifecycle.json")
    rgw.client().put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules)
    seen = examining.examine(S3Settings(**rgw.parameters(bucket)), "doctor")
    (rule,) = (each for each in seen if each.subject == "lifecycle rule")
    assert rule.verdict is Verdict.OK
    assert all("Expiration" not in rule and "Transitions" not in rule for rule in rules["Rules"])


def test_the_bucket_refuses_what_is_not_encrypted_on_its_way() -> None:
    (statement,) = document("bucket-policy.json")["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert set(statement["Resource"]) == {"arn:aws:s3:::my-images", "arn:aws:s3:::my-images/*"}


def test_the_machines_start_with_a_configuration_that_loads(tmp_path: Path) -> None:
    data = yaml.safe_load((CLOUD / "user-data.yml").read_text(encoding="utf-8"))
    files = {file["path"]: file["content"] for file in data["write_files"]}
    config = tmp_path / "config.yml"
    config.write_text(files["/etc/holdfast/config.yml"])
    lines = files["/etc/holdfast/cluster.env"].splitlines()
    loaded = load(config, dict(line.split("=", 1) for line in lines))
    assert loaded.warnings == ()
    settings = loaded.settings
    assert settings.storage.s3 is not None
    assert settings.storage.s3.bucket == "my-images"
    assert settings.http.trustedproxies == ["10.0.0.0/24", "10.0.1.0/24"]
    assert settings.http.limits.keepalivetimeout > 180  # the balancer's, as the recipe has it
