"""The compose files: what they ask for, that all in them fits together, and one of them running."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner

from registry.cli import main
from registry.config import load
from tests.deploy.composed import DEPLOY, GIVEN, compose, project, quickened, rendered
from tests.support.clients import Client, Docker, random_files, wait_for
from tests.support.images import MIB
from tests.support.servers import free_port

pytestmark = pytest.mark.engine("docker-compose")

KINDS = ("single", "production")
NEEDED = {
    kind: re.findall(r"\$\{(\w+):\?", (DEPLOY / f"compose/{kind}/compose.yml").read_text())
    for kind in KINDS
}


@pytest.mark.parametrize(("kind", "name"), [(k, n) for k in KINDS for n in sorted({*NEEDED[k]})])
def test_a_variable_that_is_missing_is_named(kind: str, name: str) -> None:
    for absent in ({}, {name: ""}):
        given = {key: value for key, value in GIVEN.items() if key != name}
        said = compose(kind, {**given, **absent}, "config", "-q", check=False)
        assert said.code != 0
        assert f"set {name} to" in said.stderr


def test_the_example_names_what_is_needed() -> None:
    example = (DEPLOY / "compose/production/.env.example").read_text()
    assert {*NEEDED["production"]} <= {*re.findall(r"^(\w+)=", example, re.MULTILINE)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_registry_takes_every_variable(kind: str) -> None:
    """Over the configuration that the image has."""
    more = {"S3_ENDPOINT": "https://s3.example.com", "S3_ACCESS_KEY": "a", "S3_SECRET_KEY": "b"}
    for name, service in rendered(kind, **more)["services"].items():
        if name == "nginx":
            continue
        assert service["image"] == GIVEN["HOLDFAST_IMAGE"]
        variables = service.get("environment", {})
        loaded = load(DEPLOY / "image/config.yml", variables)
        assert loaded.warnings == (), name
        if kind == "production":
            assert loaded.settings.storage.bucket is not None
            assert loaded.settings.auth is not None


@pytest.mark.parametrize("kind", KINDS)
def test_the_registry_takes_every_command(kind: str) -> None:
    services = rendered(kind)["services"]
    assert services["collector"]["command"] == ["garbage-collect", "--every", "24h"]
    for service in services.values():
        words = service.get("command")
        if words:
            said = CliRunner().invoke(main, [*words, "--help"])
            assert said.exit_code == 0, said.output
            assert CliRunner().invoke(main, [*words[:-1], "1x"]).exit_code == 2


def test_nginx_finds_the_nodes_and_they_believe_it() -> None:
    services = rendered("production")["services"]
    addresses = {
        name: service["networks"]["registry"]["ipv4_address"]
        for name, service in services.items()
        if name != "collector"
    }
    nginx = services["nginx"]
    configuration = (DEPLOY / "nginx.conf").read_text()
    upstream = re.findall(r"server (registry-\d\.internal):5000", configuration)
    known = dict(entry.split(":") for entry in nginx["extra_hosts"])
    assert [known[name] for name in upstream] == [addresses["registry-1"], addresses["registry-2"]]
    for name in ("registry-1", "registry-2"):
        trusted = services[name]["environment"]["REGISTRY_HTTP_TRUSTEDPROXIES"]
        assert trusted == addresses["nginx"]
    mounted = {volume.split(":")[1]: volume.split(":")[0] for volume in nginx["volumes"]}
    for path in re.findall(r"ssl_certificate(?:_key)? +(\S+);", configuration):
        assert path in mounted
    assert Path(mounted["/etc/nginx/conf.d/default.conf"]).samefile(DEPLOY / "nginx.conf")


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def single(docker: Docker, image: str, port: int, tmp_path: Path) -> Iterator[Client]:
    """The single one, running."""
    listen = f"127.0.0.1:{port}"
    document = rendered(
        "single", HOLDFAST_IMAGE=image, HOLDFAST_LISTEN=listen, HOLDFAST_GC_EVERY="2s"
    )
    with project(docker, yaml.safe_dump(quickened(document)), tmp_path) as started:
        started("up", "-d")
        yield started


@pytest.mark.timeout(600)  # the first test that needs the image builds it
def test_the_single_one_takes_an_image_and_gives_it_back(
    docker: Docker, single: Client, port: int, tmp_path: Path
) -> None:
    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    wait_for(ready, "the registry is ready")
    pushed = f"127.0.0.1:{port}/team/app:1"
    made = docker.build(tmp_path / "app", random_files(2, MIB, "composed"), pushed)
    docker("push", pushed)
    docker.forget(made)
    docker("pull", pushed)
    assert docker.image_id(pushed) == made
    docker.forget(made)

    def collected() -> int:
        return single("logs", "--no-color", "collector").stdout.count("1 repositories with 1 tags")

    wait_for(lambda: collected() >= 2, "the collector runs again and again", 120, 0.5)
