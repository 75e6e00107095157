"""Whole files: Distribution's with everything set, none at all, and those with much wrong."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from registry.config import ConfigError, TcpEndpoint, UnixEndpoint, load, source
from tests.registry.config.conftest import MINIMAL, Load, Problems

EVERYTHING = (Path(__file__).parent / "everything.yml").read_text(encoding="utf-8")
NO_DRIVER = (
    "storage: names no driver; add 'filesystem:' with a 'rootdirectory:', or 's3:' with a "
    "'bucket:', below 'storage:'"
)


def test_a_file_of_distribution_with_everything_set_is_taken(load_text: Load) -> None:
    loaded = load_text(EVERYTHING)
    settings = loaded.settings

    assert settings.log.accesslog.disabled
    assert (settings.log.level, settings.log.formatter) == ("debug", "json")
    assert settings.log.fields == {"service": "registry", "rack": "0123"}

    storage = settings.storage
    assert storage.driver == "filesystem"
    assert storage.filesystem is not None
    assert storage.filesystem.rootdirectory == Path("/srv/registry")
    assert storage.filesystem.maxthreads == 25
    assert (storage.delete.enabled, storage.redirect.disable) == (True, True)
    assert (storage.cache.blobdescriptor, storage.cache.blobdescriptorsize) == ("redis", 500)
    assert storage.tag.concurrencylimit == 8
    purging = storage.maintenance.uploadpurging
    assert (purging.enabled, purging.age, purging.interval, purging.dryrun) == (
        False,
        3600.0,
        1800.0,
        True,
    )
    assert storage.maintenance.readonly.enabled
    assert settings.auth is None

    http = settings.http
    assert http.endpoint == TcpEndpoint("localhost", 5000)
    assert (http.prefix, http.host) == ("/my/nested/registry/", "https://images.example.org:5000")
    assert (http.secret, http.relativeurls, http.draintimeout) == ("asecret", True, 90.0)
    assert (http.tls.certificate, http.tls.key) == (Path("/tls/cert.pem"), Path("/tls/key.pem"))
    assert http.tls.clientcas == [Path("/tls/ca.pem"), Path("/tls/other.pem")]
    assert http.tls.clientauth == "verify-client-cert-if-given"
    assert http.tls.minimumtls == "tls1.3"
    assert http.tls.ciphersuites == ["TLS_AES_128_GCM_SHA256"]
    assert http.headers == {"X-Content-Type-Options": ["nosniff"]}
    assert (http.debug.addr, http.debug.prometheus.enabled) == ("localhost:5001", True)
    assert http.debug.prometheus.path == "/metrics"

    health = settings.health
    assert (health.storagedriver.enabled, health.storagedriver.interval) == (True, 20.0)
    assert health.storagedriver.threshold == 5
    assert [(check.file, check.interval) for check in health.file] == [("/down", 10.0)]
    assert [check.headers for check in health.http] == [{"Authorization": ["Basic Zm9v"]}]
    assert [(check.addr, check.timeout) for check in health.tcp] == [("redis.example:6379", 3.0)]

    assert (settings.catalog.maxentries, settings.tags.maxtags) == (50, 60)
    assert settings.validation.manifests.urls.allow == [r"^https?://([^/]+\.)*example\.com/"]
    assert settings.validation.manifests.indexes.platforms == "list"
    assert [(p.os, p.architecture) for p in settings.validation.manifests.indexes.platformlist] == [
        ("linux", "amd64")
    ]

    warned = [warning.partition(":")[0] for warning in loaded.warnings]
    assert sorted(warned) == [
        "compatibility",
        "health.file",
        "health.http",
        "health.tcp",
        "http.debug",
        "http.h2c",
        "http.http2",
        "log.hooks",
        "log.reportcaller",
        "loglevel",
        "middleware",
        "notifications",
        "policy",
        "proxy",
        "redis",
        "reporting",
        "storage.cache.blobdescriptor",
    ]
    assert all("not a key" not in warning for warning in loaded.warnings)


def test_a_file_that_says_little_has_the_defaults_of_distribution(load_text: Load) -> None:
    settings = load_text("version: 0.1\nstorage:\n  filesystem:\n").settings
    assert settings.http.endpoint == TcpEndpoint("", 5000)
    assert settings.http.draintimeout == 60.0
    assert settings.storage.filesystem is not None
    assert settings.storage.filesystem.rootdirectory == Path("/var/lib/registry")
    assert settings.storage.filesystem.maxthreads == 100
    assert not settings.storage.delete.enabled
    assert settings.storage.maintenance.uploadpurging.age == 168 * 3600
    assert settings.health.storagedriver.enabled
    assert (settings.catalog.maxentries, settings.tags.maxtags) == (1000, 1000)
    limits = settings.http.limits
    assert (limits.headertimeout, limits.bodytimeout, limits.writetimeout) == (10, 60, 60)
    assert (limits.keepalivetimeout, limits.headerbytes, limits.headers) == (75, 16384, 100)
    assert (settings.http.draindelay, settings.http.workers) == (2.0, 0)


def test_without_a_file_the_registry_serves_this_machine(load_text: Load) -> None:
    loaded = load_text(None)
    settings = loaded.settings
    assert loaded.source == "built-in defaults"
    assert loaded.warnings == ()
    assert settings.http.endpoint == TcpEndpoint("127.0.0.1", 5000)
    assert settings.storage.filesystem is not None
    assert settings.storage.filesystem.rootdirectory == Path("registry-data")
    assert settings.storage.delete.enabled
    assert settings.auth is None


def test_variables_stand_in_for_a_file(load_text: Load) -> None:
    settings = load_text(None, REGISTRY_STORAGE_FILESYSTEM_MAXTHREADS="30").settings
    assert settings.storage.filesystem is not None
    assert settings.storage.filesystem.rootdirectory == Path("registry-data")
    settings = load_text(
        None, REGISTRY_STORAGE="inmemory", REGISTRY_STORAGE_DELETE_ENABLED="false"
    ).settings
    assert settings.storage.driver == "inmemory"
    assert not settings.storage.delete.enabled


def test_an_explicit_file_outweighs_the_variable_and_that_the_default_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: tmp_path / f"{name}.yml" for name in ("explicit", "variable", "new", "old")}
    for name, path in files.items():
        path.write_text(f"{MINIMAL}log: {{fields: {{from: {name}}}}}\n", encoding="utf-8")
    monkeypatch.setattr(source, "DEFAULT_PATHS", (files["new"], files["old"]))
    environ = {"REGISTRY_CONFIGURATION_PATH": str(files["variable"])}

    loaded = load(files["explicit"], environ)
    assert loaded.settings.log.fields == {"from": "explicit"}
    assert loaded.source == str(files["explicit"])
    loaded = load(None, environ)
    assert loaded.settings.log.fields == {"from": "variable"}
    assert loaded.source == f"{files['variable']} (REGISTRY_CONFIGURATION_PATH)"
    assert loaded.warnings == ()
    assert load(None, {}).settings.log.fields == {"from": "new"}
    files["new"].unlink()
    assert load(None, {"REGISTRY_CONFIGURATION_PATH": ""}).settings.log.fields == {"from": "old"}


@pytest.mark.parametrize("by_variable", [False, True])
def test_a_file_that_is_named_must_be_there(tmp_path: Path, by_variable: bool) -> None:
    path = tmp_path / "none.yml"
    with pytest.raises(ConfigError, match="no such file") as caught:
        if by_variable:
            load(None, {"REGISTRY_CONFIGURATION_PATH": str(path)})
        else:
            load(path, {})
    assert caught.value.source.startswith(str(path))


def test_a_default_file_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "DEFAULT_PATHS", (tmp_path,))
    with pytest.raises(ConfigError, match=os.strerror(21)):
        load(None, {})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"version: 0.1\n\xff", "line 2: is not UTF-8"),
        (b"#" * (1024 * 1024 + 1), "larger than 1 MiB"),
        (b"version: 0.1\nhttp: [", "line 2, column"),
        (b"- version", "not a map of keys"),
        (b"version", "not a map of keys"),
    ],
)
def test_a_file_that_cannot_be_used_at_all(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=says) as caught:
        load(path, {})
    assert len(caught.value.problems) == 1


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load(path, {}).settings.storage.driver == "inmemory"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "version: is missing; begin the file with 'version: 0.1'."),
        ("# only this", "version: is missing; begin the file with 'version: 0.1'."),
        (
            "version: 0.2",
            "version: is not one this registry reads; the only one there is is 0.1 (line 1).",
        ),
        ("version: [0.1]", "version: must be a single value, not a list (line 1)."),
        (
            "version: 0.1\nversion: 0.1",
            "version: is written twice, on line 1 and line 2; keep one.",
        ),
        ("version: 0.1", f"{NO_DRIVER}."),
        ("storage: {delete: {enabled: true}}", f"{NO_DRIVER} (line 1)."),
        ("storage: {floppy: {}}", f"{NO_DRIVER} (line 1)."),
    ],
)
def test_the_least_a_file_must_say(problems_of: Problems, text: str, problem: str) -> None:
    assert problem in problems_of(text)


def test_everything_wrong_is_reported_at_once(problems_of: Problems) -> None:
    problems = problems_of(
        """\
version: 0.1
log: {level: loud, formatter: xml}
storage:
  azure: {accountname: a}
  filesystem: {maxthreads: many}
  delete: true
auth: {htpasswd: {realm: r}}
http:
  addr: nowhere
  draintimeout: 60
  tls: {certificate: /c, minimumtls: ssl3}
  headers: {X-A: {b: c}}
  secret: [x]
catalog: 7
tags: {maxtags: 1.5}
proxy: {remoteurl: https://registry.example}
validation: {manifests: {urls: {deny: ['(']}}}
""",
        REGISTRY_HTTP_WORKERS="-1",
        REGISTRY_HTTP_HOSTS_1="x",
    )
    assert sorted(problem.partition(": ")[0] for problem in problems) == [
        "REGISTRY_HTTP_HOSTS_1",
        "auth.htpasswd.path",
        "catalog",
        "http.addr",
        "http.draintimeout",
        "http.headers.X-A",
        "http.secret",
        "http.tls.key",
        "http.tls.minimumtls",
        "http.workers",
        "log.formatter",
        "log.level",
        "proxy.remoteurl",
        "storage",
        "storage.azure",
        "storage.delete",
        "storage.filesystem.maxthreads",
        "tags.maxtags",
        "validation.manifests.urls.deny.0",
    ]
    lines = {problem.partition(": ")[0]: problem for problem in problems}
    assert "'60' has no unit" in lines["http.draintimeout"]
    assert lines["http.draintimeout"].endswith("(line 10).")
    assert lines["http.workers"] == (
        "http.workers: is -1 and must be at least 0 (from REGISTRY_HTTP_WORKERS)."
    )


@pytest.mark.parametrize(
    ("text", "key", "nearest"),
    [
        ("http: {adr: ':5000'}", "http.adr", "http.addr"),
        ("http: {Addr: ':5000'}", "http.Addr", "http.addr"),
        ("delete: {enabled: true}", "delete", "storage.delete"),
        ("auht: htpasswd", "auht", "auth"),
        ("http: {limits: {header: 5}}", "http.limits.header", "http.limits.headers"),
        ("http: {certificate: /c}", "http.certificate", "http.tls.certificate"),
        (
            "notifications: {endpoints: [{ulr: x}]}",
            "notifications.endpoints.0.ulr",
            "notifications.endpoints.0.url",
        ),
        ("x-anchors: {}", "x-anchors", None),
    ],
)
def test_an_unknown_key_is_warned_of_with_the_nearest(
    load_text: Load, text: str, key: str, nearest: str | None
) -> None:
    (warning,) = load_text(f"{MINIMAL}{text}\n").warnings
    hint = f"; the nearest one is {nearest}" if nearest else ""
    assert warning == f"{key}: is not a key this registry knows, and is ignored{hint} (line 3)."


def test_strange_names_stay_on_one_line(load_text: Load) -> None:
    (warning,) = load_text(MINIMAL + '"a\\nb\\e[31m": 1\n').warnings
    assert warning.startswith(r"'a\nb\x1b[31m': is not a key")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http: {tls: {certificate: /c}}", "http.tls.key: is missing"),
        ("http: {tls: {key: /k}}", "http.tls.certificate: is missing"),
        ("http: {tls: {clientcas: [/c]}}", "http.tls.clientcas: asks clients for certificates"),
        (
            "http: {tls: {letsencrypt: {email: a@b}}}",
            "http.tls.letsencrypt: this version obtains no",
        ),
        ("http: {proxyprotocol: true}", "http.proxyprotocol: believes the announcements of nobody"),
        (
            "http: {trustedproxies: [10.0.0.1], accelredirect: /blobs}",
            "http.accelredirect: needs storage.filesystem",
        ),
        ("http: {net: unix, addr: ''}", "http.addr: is missing; with http.net: unix"),
        (f"http: {{net: unix, addr: /{'a' * 107}}}", "http.addr: is longer than the 107 bytes"),
        ("http: {net: unix}", "http.addr: is missing"),
        ("http: {addr: ''}", "http.addr: '' is not host:port"),
        ("auth: {ldap: {url: x}}", "auth.ldap: is not a kind this registry knows"),
        ("auth: {silly: {realm: a}}", "auth.silly.service: is missing"),
        (
            "auth: {token: {realm: 'https://a', service: s, issuer: i}}",
            "auth.token.rootcertbundle: is missing, and so is jwks",
        ),
        ("auth: {builtin: {users: /u}}", "auth.builtin.keys: is missing"),
        ("auth: {builtin: {keys: /k}}", "auth.builtin.users: is missing"),
        ("auth: {builtin: {keys: /k, users: /u, polcy: /p}}", "auth.builtin.polcy:"),
        (
            "auth: {silly: {realm: a, service: s}, htpasswd: {realm: r, path: /p}}",
            "auth: has htpasswd and silly",
        ),
        (
            "validation: {manifests: {indexes: {platforms: list}}}",
            "validation.manifests.indexes.platformlist: is missing",
        ),
    ],
)
def test_what_does_not_fit_together(problems_of: Problems, text: str, problem: str) -> None:
    (found,) = problems_of(f"{MINIMAL}{text}\n")
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("http", "problem"),
    [
        ("{accelredirect: /blobs}", "http.accelredirect: lets nobody send blobs"),
        *(
            (
                f"{{trustedproxies: [10.0.0.1], accelredirect: {path}}}",
                "http.accelredirect: is a path th",
            )
            for path in ("/", "/v2", "/v2/blobs/", "/auth/")
        ),
        (
            "{trustedproxies: [10.0.0.1], accelredirect: blobs}",
            "http.accelredirect: 'blobs' is not the",
        ),
    ],
)
def test_where_nginx_has_blobs(problems_of: Problems, http: str, problem: str) -> None:
    (found,) = problems_of(f"version: 0.1\nstorage: filesystem\nhttp: {http}\n")
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("redis: {}", 0),
        ("redis:", 0),
        ("notifications: {endpoints: []}", 0),
        ("notifications: {endpoints: [{name: a}, {name: b}]}", 1),
        ("middleware: {storage: [{name: redirect, options: {baseurl: x}}]}", 1),
        ("proxy: {ttl: 168h}", 1),
        ("http: {http2: {disabled: true}}", 0),
        ("http: {http2: {disabled: false}}", 1),
        ("http: {h2c: {enabled: false}}", 0),
        ("http: {h2c: {enabled: true}}", 1),
        ("http: {tls: {certificate: /c, key: /k, letsencrypt: {email: a}}}", 0),
        ("log: {hooks: [{type: mail, options: {smtp: {addr: a}}}]}", 1),
        ("log: {reportcaller: false}", 0),
        ("auth: none", 0),
        ("auth: {none: {}}", 0),
        ("auth: {}", 0),
        ("auth:", 0),
    ],
)
def test_what_has_no_effect_warns_once_and_only_if_it_says_something(
    load_text: Load, text: str, warnings: int
) -> None:
    loaded = load_text(f"{MINIMAL}{text}\n")
    assert len(loaded.warnings) == warnings
    assert loaded.settings.auth is None


def test_deprecated_keys_take_effect_unless_the_new_ones_are_there(load_text: Load) -> None:
    text = "version: 0.1\nstorage: {inmemory: , cache: {layerinfo: inmemory}}\nloglevel: error\n"
    loaded = load_text(text)
    assert loaded.settings.log.level == "error"
    assert loaded.settings.storage.cache.blobdescriptor == "inmemory"
    assert len(loaded.warnings) == 2
    assert load_text(text + "log: {level: debug}\n").settings.log.level == "debug"
    loaded = load_text(MINIMAL + "validation: {enabled: true, disabled: true}\n")
    assert not loaded.settings.validation.disabled


def test_a_socket_is_a_path(load_text: Load) -> None:
    settings = load_text(MINIMAL + "http: {net: unix, addr: /run/registry.sock}\n").settings
    assert settings.http.endpoint == UnixEndpoint(Path("/run/registry.sock"))


def test_loaded_is_frozen(load_text: Load) -> None:
    loaded = load_text()
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.source = "x"  # type: ignore[misc]  # that it cannot be set is what is tested
    with pytest.raises(ValidationError):
        loaded.settings.http.addr = "x"  # type: ignore[misc]  # as above


def test_secrets_are_not_in_the_representation(load_text: Load) -> None:
    assert "hunter2" not in repr(load_text(REGISTRY_HTTP_SECRET="hunter2"))
