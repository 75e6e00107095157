from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from registry.config import Settings, render
from registry.config.masking import MASK, is_secret, mask_urls, quote
from registry.config.s3 import S3
from registry.config.storage import Storage
from tests.registry.config.conftest import MINIMAL, Load

EVERYTHING = (Path(__file__).parent / "everything.yml").read_text(encoding="utf-8")


def test_no_secret_is_shown(load_text: Load) -> None:
    text = EVERYTHING.replace("asecret", "http-secret-7f3a").replace("Basic Zm9v", "Basic 7f3a")
    assert len(re.findall("7f3a", text)) == 15
    shown = render(load_text(text).settings)
    assert "7f3a" not in shown
    assert shown.count(MASK) >= 14


def test_what_is_not_secret_is_shown(load_text: Load) -> None:
    shown = yaml.safe_load(render(load_text(EVERYTHING).settings))
    assert shown["version"] == 0.1
    assert shown["http"]["tls"]["key"] == "/tls/key.pem"
    assert shown["http"]["headers"] == {"X-Content-Type-Options": ["nosniff"]}
    assert shown["http"]["secret"] == MASK
    assert shown["http"]["draintimeout"] == "1m30s"
    assert shown["redis"]["username"] == "user"
    assert shown["redis"]["password"] == MASK
    assert shown["redis"]["addrs"] == [f"redis://{MASK}@localhost:6379"]
    assert shown["proxy"]["password"] == [MASK]
    (endpoint,) = shown["notifications"]["endpoints"]
    assert endpoint["url"] == f"https://{MASK}@listener.example/event?key={MASK}"
    assert endpoint["headers"] == {"Authorization": [MASK], "X-Custom": MASK}
    assert shown["health"]["http"][0]["headers"] == {"Authorization": [MASK]}
    assert shown["storage"]["filesystem"] == {"rootdirectory": "/srv/registry", "maxthreads": 25}
    assert "inmemory" not in shown["storage"]
    assert "auth" not in shown
    assert "loglevel" not in shown


def test_secrets_of_s3_are_masked() -> None:
    settings = Settings(storage=Storage(s3=S3(accesskey="7f3a", secretkey="7f3a", bucket="images")))
    assert "7f3a" not in repr(settings)
    shown = yaml.safe_load(render(settings))["storage"]["s3"]
    assert shown["bucket"] == "images"
    assert shown["accesskey"] == shown["secretkey"] == MASK


@pytest.mark.parametrize(
    "text",
    [
        MINIMAL,
        "version: 0.1\nstorage: {filesystem: {rootdirectory: /x}}\nhttp: {addr: '127.0.0.1:1'}\n",
        MINIMAL + "log: {fields: {a: 'yes', b: \"\\u00e9\", c: ''}}\n",
        MINIMAL + "health: {http: [{uri: 'http://x/', headers: {A: []}}], file: [{file: /x}]}\n",
    ],
)
def test_what_is_shown_loads_as_the_same(load_text: Load, text: str) -> None:
    loaded = load_text(text)
    shown = render(loaded.settings)
    assert shown.isascii()
    again = load_text(shown)
    assert again.settings == loaded.settings
    assert render(again.settings) == shown


def test_a_secret_that_is_not_set_is_shown_as_such(load_text: Load) -> None:
    assert yaml.safe_load(render(load_text().settings))["http"]["secret"] == ""


@pytest.mark.parametrize(
    ("key", "secret"),
    [
        ("http.secret", True),
        ("storage.s3.accesskey", True),
        ("storage.s3.secretkey", True),
        ("storage.azure.accountkey", True),
        ("storage.azure.credentials", True),
        ("storage.gcs.credentials", True),
        ("redis.password", True),
        ("redis.sentinelpassword", True),
        ("proxy.password", True),
        ("notifications.endpoints.0.headers", True),
        ("health.http.0.headers", True),
        ("middleware.storage.0.options.privatekey", True),
        ("log.fields.apiToken", True),
        ("reporting.bugsnag.apikey", True),
        ("reporting.newrelic.licensekey", True),
        ("http.headers", False),
        ("http.limits.headers", False),
        ("http.tls.key", False),
        ("storage.s3.keyid", False),
        ("storage.gcs.keyfile", False),
        ("redis.username", False),
    ],
)
def test_names_of_secrets(key: str, secret: bool) -> None:
    assert is_secret(tuple(key.split("."))) is secret


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://u:p@h/p", f"https://{MASK}@h/p"),
        ("https://token@h", f"https://{MASK}@h"),
        ("https://h/p@2x", "https://h/p@2x"),
        ("https://u:p@x@h/", f"https://{MASK}@h/"),
        ("https://h/?a=1&b=2#c", f"https://h/?a={MASK}&b={MASK}#c"),
        ("a@b.example", "a@b.example"),
        ("see redis://:p@h and https://h", f"see redis://{MASK}@h and https://h"),
    ],
)
def test_urls_lose_their_credentials(text: str, masked: str) -> None:
    assert mask_urls(text) == masked


def test_a_quoted_value_is_short_and_on_one_line() -> None:
    assert quote("a\nb") == r"'a\nb'"
    assert len(quote("x" * 1000)) < 90


def test_limits_are_not_taken_for_secrets(load_text: Load) -> None:
    shown: dict[str, Any] = yaml.safe_load(render(load_text().settings))
    assert shown["http"]["limits"]["headers"] == 100
