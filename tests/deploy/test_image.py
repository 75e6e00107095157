"""The image: what is in it, how it runs, and that it comes back from Holdfast and serves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.clients import Docker, random_files, wait_for
from tests.support.images import MIB
from tests.support.servers import free_port, holdfast

pytestmark = pytest.mark.engine("docker")


@contextmanager
def container(docker: Docker, image: str, port: int, *words: str) -> Iterator[str]:
    """A registry in a container that may write nothing but its volume, once it is ready; its id."""
    strict = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges")
    address = f"REGISTRY_HTTP_ADDR=127.0.0.1:{port}"
    options = ("-d", "--network=host", *strict, "-e", address, "-e", "REGISTRY_LOG_FORMATTER=json")
    found = docker("run", *options, image, *words).stdout.strip()

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(ready, "the container is ready")
        yield found
    finally:
        docker("rm", "-f", "-v", found)


def test_what_it_says_of_itself(docker: Docker, image: str) -> None:
    config = docker.inspect(image)["Config"]
    user, _, group = config["User"].partition(":")
    assert user.isdigit() and group.isdigit() and int(user) > 0  # noqa: PT018
    assert config["Entrypoint"] == ["registry"]
    assert config["Healthcheck"]["Test"] == ["CMD", "registry", "health", "--live"]
    assert set(config["Volumes"]) == {"/var/lib/registry"}
    assert set(config["ExposedPorts"]) == {"5000/tcp"}
    about = "org.opencontainers.image"
    said = {"title": "Holdfast", "licenses": "Apache-2.0", "revision": "tested"}
    assert {key: config["Labels"][f"{about}.{key}"] for key in said} == said
    assert not any(entry.startswith("PIP_") for entry in config["Env"])


def test_what_is_not_in_it(docker: Docker, image: str) -> None:
    look = (
        "import shutil, sys; "
        "print(*[name for name in ('gcc', 'cc', 'make', 'pip', 'pip3') if shutil.which(name)])"
    )
    said = docker("run", "--rm", "--network=host", "--entrypoint=python3", image, "-c", look)
    assert said.stdout.strip() == ""


def test_what_sends_traces_is_in_it(docker: Docker, image: str) -> None:
    look = "import registry.tracing.spans"
    docker("run", "--rm", "--network=host", "--entrypoint=python3", image, "-c", look)


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("serve", "/etc/docker/registry/config.yml"),
        ("/etc/docker/registry/config.yml",),
        ("registry", "serve", "/etc/docker/registry/config.yml"),
    ],
)
def test_it_runs_by_the_words_of_the_other_image(
    docker: Docker, image: str, words: tuple[str, ...]
) -> None:
    with container(docker, image, free_port(), *words) as found:
        assert docker("exec", found, "registry", "health").stdout == "ok\n"
        assert docker("exec", found, "registry", "health", "--live").stdout == "ok\n"


def test_it_comes_back_from_holdfast_and_serves(docker: Docker, image: str, tmp_path: Path) -> None:
    with holdfast(tmp_path, workers=1) as server:
        name = f"{server.address}/team/holdfast:1"
        docker("tag", image, name)
        own = docker.image_id(image)
        docker("push", name)
        docker.forget(name, image)
        docker("pull", name)
        assert docker.image_id(name) == own
        docker("tag", name, image)

    port = free_port()
    with container(docker, image, port):
        pushed = f"127.0.0.1:{port}/team/app:1"
        layers = random_files(2, MIB, "in-image")
        made = docker.build(tmp_path / "app", layers, pushed)
        docker("push", pushed)
        docker.forget(made)
        docker("pull", pushed)
        assert docker.image_id(pushed) == made
