"""The rules by which REGISTRY_* variables change a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from registry.config import Loaded
from tests.registry.config.conftest import Load, Problems

FILE = """\
version: 0.1
log: {fields: {Service: registry}}
storage:
  filesystem: {rootdirectory: /srv, maxthreads: 50}
  delete: {enabled: true}
http:
  addr: 127.0.0.1:5000
  trustedproxies: [10.0.0.1/32]
  headers: {X-Frame-Options: [deny]}
"""


def _at(loaded: Loaded, key: str) -> Any:
    value: Any = loaded.settings
    for part in key.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("HTTP_ADDR", "127.0.0.1:6000", "http.addr", "127.0.0.1:6000"),
        ("HTTP_ADDR", '"127.0.0.1:6000"', "http.addr", "127.0.0.1:6000"),
        ("HTTP_ADDR", ":6000", "http.addr", ":6000"),
        ("http_Addr", ":6000", "http.addr", ":6000"),
        ("HTTP_ADDR", "", "http.addr", ":5000"),
        ("HTTP_SECRET", "0123", "http.secret", "0123"),
        ("HTTP_SECRET", "yes", "http.secret", "yes"),
        ("HTTP_SECRET", "1e3", "http.secret", "1e3"),
        ("HTTP_SECRET", "a #b", "http.secret", "a #b"),
        ("HTTP_SECRET", "#b", "http.secret", "#b"),
        ("HTTP_SECRET", "a: b", "http.secret", "a: b"),
        ("HTTP_SECRET", "{a: b}", "http.secret", "{a: b}"),
        ("HTTP_SECRET", "*a", "http.secret", "*a"),
        ("HTTP_SECRET", "@a", "http.secret", "@a"),
        ("HTTP_SECRET", "'a", "http.secret", "'a"),
        ("HTTP_SECRET", "'it''s'", "http.secret", "it's"),
        ("HTTP_SECRET", "- a", "http.secret", "- a"),
        ("HTTP_SECRET", "!x a", "http.secret", "!x a"),
        ("HTTP_RELATIVEURLS", "true", "http.relativeurls", True),
        ("HTTP_RELATIVEURLS", '"yes"', "http.relativeurls", True),
        ("HTTP_WORKERS", "4 # cores", "http.workers", 4),
        ("HTTP_DRAINTIMEOUT", "1h30m", "http.draintimeout", 5400.0),
        ("HTTP_DRAINTIMEOUT", "0", "http.draintimeout", 0.0),
        (
            "HTTP_TRUSTEDPROXIES",
            "[10.0.0.0/8, 10.1.1.1]",
            "http.trustedproxies",
            ["10.0.0.0/8", "10.1.1.1/32"],
        ),
        ("HTTP_TRUSTEDPROXIES", "10.0.0.0/8", "http.trustedproxies", ["10.0.0.0/8"]),
        ("HTTP_TRUSTEDPROXIES_0", "10.0.0.0/8", "http.trustedproxies", ["10.0.0.0/8"]),
        (
            "HTTP_TRUSTEDPROXIES_1",
            "10.0.0.0/8",
            "http.trustedproxies",
            ["10.0.0.1/32", "10.0.0.0/8"],
        ),
        ("HTTP_HOSTS_0", "A.example", "http.hosts", ["a.example"]),
        (
            "HTTP_HEADERS_X-FRAME-OPTIONS",
            "[sameorigin]",
            "http.headers",
            {"X-Frame-Options": ["sameorigin"]},
        ),
        (
            "HTTP_HEADERS_X-NEW",
            "[yes]",
            "http.headers",
            {"X-Frame-Options": ["deny"], "x-new": ["yes"]},
        ),
        (
            "HTTP_HEADERS_X-NEW_0",
            "yes",
            "http.headers",
            {"X-Frame-Options": ["deny"], "x-new": ["yes"]},
        ),
        ("HTTP_HEADERS", "{X-Only: [a]}", "http.headers", {"X-Only": ["a"]}),
        ("HTTP_LIMITS", "{headers: 50}", "http.limits.headers", 50),
        ("LOG_FIELDS_SERVICE", "0123", "log.fields", {"Service": "0123"}),
        ("LOG_FIELDS_Node", "yes", "log.fields", {"Service": "registry", "node": "yes"}),
        ("LOG_LEVEL", "DEBUG", "log.level", "debug"),
        ("LOGLEVEL", "error", "log.level", "error"),
        ("STORAGE", "inmemory", "storage.driver", "inmemory"),
        ("STORAGE", "inmemory", "storage.delete.enabled", False),
        ("STORAGE", "filesystem", "storage.filesystem.rootdirectory", Path("/var/lib/registry")),
        ("STORAGE", "{inmemory: {}, delete: {enabled: true}}", "storage.delete.enabled", True),
        ("STORAGE_FILESYSTEM_ROOTDIRECTORY", "/x", "storage.filesystem.rootdirectory", Path("/x")),
        ("STORAGE_FILESYSTEM_ROOTDIRECTORY", "/x", "storage.filesystem.maxthreads", 50),
        ("STORAGE_FILESYSTEM", "{rootdirectory: /x}", "storage.filesystem.maxthreads", 100),
        ("STORAGE_DELETE_ENABLED", "false", "storage.delete.enabled", False),
        (
            "STORAGE_MAINTENANCE_READONLY",
            '{"enabled":true}',
            "storage.maintenance.readonly.enabled",
            True,
        ),
        (
            "STORAGE_MAINTENANCE_READONLY_ENABLED",
            "true",
            "storage.maintenance.readonly.enabled",
            True,
        ),
        (
            "STORAGE_MAINTENANCE_UPLOADPURGING",
            "false",
            "storage.maintenance.uploadpurging.enabled",
            False,
        ),
        ("HEALTH_FILE_0_FILE", "/down", "health.file", "FileCheck"),
        ("HEALTH_FILECHECKERS_0_FILE", "/down", "health.file", "FileCheck"),
        ("AUTH", "none", "auth", None),
    ],
)
def test_one_variable_changes_one_thing(
    load_text: Load, name: str, text: str, key: str, value: object
) -> None:
    found = _at(load_text(FILE, **{f"REGISTRY_{name}": text}), key)
    if value == "FileCheck":
        assert [check.file for check in found] == ["/down"]
    else:
        assert found == value
        assert type(found) is type(value)


def test_a_section_is_replaced_before_what_is_in_it_is_set(load_text: Load) -> None:
    loaded = load_text(
        FILE,
        REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY="/x",
        REGISTRY_STORAGE_DELETE_ENABLED="true",
        REGISTRY_STORAGE="filesystem",
    )
    storage = loaded.settings.storage
    assert storage.filesystem is not None
    assert (storage.filesystem.rootdirectory, storage.filesystem.maxthreads) == (Path("/x"), 100)
    assert storage.delete.enabled


def test_items_are_appended_one_after_the_other(load_text: Load) -> None:
    loaded = load_text(
        FILE, **{f"REGISTRY_HTTP_HOSTS_{index}": f"h{index}.example" for index in range(3)}
    )
    assert loaded.settings.http.hosts == ["h0.example", "h1.example", "h2.example"]


def test_a_switch_in_place_of_a_section_keeps_its_meaning_under_variables(load_text: Load) -> None:
    text = "version: 0.1\nstorage: {inmemory: , maintenance: {uploadpurging: false}}\n"
    loaded = load_text(text, REGISTRY_STORAGE_MAINTENANCE_UPLOADPURGING_AGE="1h")
    purging = loaded.settings.storage.maintenance.uploadpurging
    assert (purging.enabled, purging.age) == (False, 3600.0)


def test_an_unset_section_of_the_file_can_be_filled(load_text: Load) -> None:
    loaded = load_text("version: 0.1\nstorage:\nhttp:\n", REGISTRY_STORAGE_INMEMORY="")
    assert loaded.settings.storage.driver == "inmemory"


@pytest.mark.parametrize(
    ("environ", "starts", "says"),
    [
        ({"HTTP_HOSTS_1": "a"}, "REGISTRY_HTTP_HOSTS_1:", "the next free one is 0"),
        ({"HTTP_HOSTS_X": "a"}, "REGISTRY_HTTP_HOSTS_X:", "not an index"),
        ({"HTTP_HOSTS_-1": "a"}, "REGISTRY_HTTP_HOSTS_-1:", "not an index"),
        ({"HTTP": "5"}, "http:", "must be a map of keys, such as addr, net, prefix, host"),
        ({"HTTP": "{"}, "REGISTRY_HTTP:", "not YAML: line 1"),
        ({"HTTP": "{addr: a, addr: b}"}, "REGISTRY_HTTP:", "addr is written twice"),
        ({"HTTP_ADDR": "x"}, "http.addr: 'x' is not host:port", "(from REGISTRY_HTTP_ADDR)"),
        ({"HTTP_DRAINTIMEOUT": "60"}, "http.draintimeout:", "(from REGISTRY_HTTP_DRAINTIMEOUT)"),
        ({"HTTP_WORKERS": "[1]"}, "http.workers: '[1]' is not a whole", "REGISTRY_HTTP_WORKERS"),
        ({"STORAGE": ""}, "storage: names no driver", "REGISTRY_STORAGE"),
        (
            {"STORAGE": "gcs"},
            "storage.gcs: this version stores on a filesystem",
            "REGISTRY_STORAGE",
        ),
        (
            {"AUTH_HTPASSWD_REALM": "x"},
            "auth.htpasswd.path: is missing",
            "registry htpasswd",
        ),
        ({"AUTH_SILLY_REALM": "x"}, "auth.silly.service:", "is missing"),
        ({"AUTH_LDAP_URL": "x"}, "auth.ldap:", "REGISTRY_AUTH_LDAP_URL"),
        ({"AUTH": "[x]"}, "auth: must be a map", "REGISTRY_AUTH"),
        ({"PROXY_REMOTEURL": "https://a"}, "proxy.remoteurl:", "REGISTRY_PROXY_REMOTEURL"),
    ],
)
def test_a_wrong_variable_is_named(
    problems_of: Problems, environ: dict[str, str], starts: str, says: str
) -> None:
    (problem,) = problems_of(FILE, **{f"REGISTRY_{name}": text for name, text in environ.items()})
    assert problem.startswith(starts)
    assert says in problem


def test_variables_of_another_driver_than_the_files_are_refused(problems_of: Problems) -> None:
    problems = problems_of(FILE, REGISTRY_STORAGE_INMEMORY="{}")
    assert len(problems) == 1
    assert "filesystem (line 4) and inmemory (from REGISTRY_STORAGE_INMEMORY)" in problems[0]
    assert "REGISTRY_STORAGE=inmemory" in problems[0]
    assert any(
        "REGISTRY_STORAGE=s3" in line
        for line in problems_of(FILE, REGISTRY_STORAGE_S3_BUCKET="images")
    )


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("REGISTRY_HTTP_ADRR", "REGISTRY_HTTP_ADDR"),
        ("REGISTRY_STORAGE_FILESYSTEM_ROOTDIR", "REGISTRY_STORAGE_FILESYSTEM_ROOTDIRECTORY"),
        ("REGISTRY_HTTP_ADDR_X", "REGISTRY_HTTP_ADDR"),
        ("REGISTRY_HEALTH_FILE_0_FIEL", "REGISTRY_HEALTH_FILE_0_FILE"),
        ("REGISTRY_HTTP__ADDR", "REGISTRY_HTTP_ADDR"),
        ("REGISTRY_QQQ", None),
        ("REGISTRY_", None),
        ("REGISTRY_LOG_FIELDS_", None),
    ],
)
def test_an_unknown_variable_is_warned_of_with_the_nearest(
    load_text: Load, name: str, nearest: str | None
) -> None:
    (warning,) = load_text(**{name: "127.0.0.1:1"}).warnings
    assert warning.startswith(f"{name}: is not a variable this registry knows, and is ignored")
    assert (f"the nearest one is {nearest}." in warning) if nearest else ("nearest" not in warning)


def test_the_version_is_no_business_of_a_variable(load_text: Load) -> None:
    loaded = load_text(REGISTRY_VERSION="2.8")
    assert loaded.settings.version == "0.1"
    assert loaded.warnings == (
        "REGISTRY_VERSION: a variable cannot set the version, and is ignored.",
    )


def test_variables_that_orchestrators_set_are_passed_over(load_text: Load) -> None:
    loaded = load_text(
        REGISTRY_PORT="tcp://10.0.0.1:5000",
        REGISTRY_PORT_5000_TCP="tcp://10.0.0.1:5000",
        REGISTRY_PORT_5000_TCP_ADDR="10.0.0.1",
        REGISTRY_PORT_5000_TCP_PORT="5000",
        REGISTRY_PORT_5000_TCP_PROTO="tcp",
        REGISTRY_SERVICE_HOST="10.0.0.1",
        REGISTRY_SERVICE_PORT="5000",
        REGISTRY_SERVICE_PORT_HTTP="5000",
        PATH="/bin",
        registry_http_addr="x",
    )
    assert loaded.warnings == ()
    assert len(load_text(REGISTRY_PORTS="1").warnings) == 1


def test_a_wrong_section_of_the_file_is_not_hidden_by_a_variable(problems_of: Problems) -> None:
    problems = problems_of(
        "version: 0.1\nstorage: inmemory\nhttp: 5\n", REGISTRY_HTTP_ADDR="127.0.0.1:1"
    )
    assert any(problem.startswith("http: must be a map") for problem in problems)


def test_no_variable_shows_its_value_where_it_could_be_a_secret(problems_of: Problems) -> None:
    problems = problems_of(
        "version: 0.2\n",
        REGISTRY_HTTP_SECRET="hunter2\0",
        REGISTRY_REDIS="{password: hunter2",
        REGISTRY_HTTP_HOST="https://admin:hunter2@example.com",
    )
    assert len(problems) == 5
    assert "hunter2" not in "".join(problems)
