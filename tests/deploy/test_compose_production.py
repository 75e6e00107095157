"""The compose file for production, running: nginx with TLS, two nodes, real S3 and the collector."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.composed import project, quickened, rendered
from tests.support.certificates import Authority
from tests.support.clients import Client, Docker, Skopeo, run, skopeo, wait_for
from tests.support.engines import program
from tests.support.images import MIB, Layout, layout_blobs, random_layer
from tests.support.s3 import S3Store
from tests.support.s3proxy import s3_proxy
from tests.support.servers import free_port

pytestmark = [pytest.mark.engine("docker-compose"), pytest.mark.engine("skopeo")]

NETWORK = "10.89.7."
NGINX = """
FROM {base}
RUN apt-get -q update && apt-get -qy install --no-install-recommends nginx-light
RUN ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
CMD ["nginx", "-g", "daemon off;"]
"""
PATIENCE = 120.0


@dataclass(frozen=True, slots=True)
class Fleet:
    docker: Docker
    compose: Client
    skopeo: Skopeo
    address: str
    directory: Path
    trusted: Path
    """For skopeo: a directory with the certificate of the authority."""

    def state(self, service: str) -> dict[str, Any]:
        """What the engine says of the service's container."""
        name = self.compose("ps", "-q", service).stdout.strip()
        found: list[dict[str, Any]] = json.loads(self.docker("inspect", name).stdout)
        return found[0]

    def healthy(self, node: str) -> bool:
        return bool(self.state(node)["State"]["Health"]["Status"] == "healthy")

    def copy(self, tag: str) -> None:
        """Push an image under this tag, and pull it again: the same bytes."""
        source = Layout(self.directory / f"pushed-{tag}")
        source.tag(source.image([random_layer(MIB, f"production-{tag}")]), tag)
        there = f"docker://{self.address}/team/app:{tag}"
        for side, start, end in (
            ("dest", source.reference(tag), there),
            ("src", there, f"oci:{self.directory}/pulled-{tag}:{tag}"),
        ):
            who = (f"--{side}-cert-dir", str(self.trusted), f"--{side}-creds", "alice:secret")
            self.skopeo("copy", "-q", "--preserve-digests", *who, start, end)
        assert layout_blobs(self.directory / f"pulled-{tag}") == layout_blobs(source.path)


@pytest.fixture
def nginx_image(docker: Docker, base: str, tmp_path: Path) -> str:
    """Debian's nginx, which starts as the images of nginx do."""
    context = tmp_path / "nginx"
    context.mkdir()
    (context / "Dockerfile").write_text(NGINX.format(base=base))
    image = "holdfast-test/nginx"
    docker("build", "-q", "--network", "host", "-t", image, str(context))
    return image


@pytest.fixture
def fleet(
    docker: Docker, image: str, nginx_image: str, rgw: S3Store, tmp_path: Path
) -> Iterator[Fleet]:
    users = tmp_path / "users"
    users.write_text(_a_user(docker, image))
    authority = Authority(tmp_path)
    certificate, key = authority.issue("registry", "127.0.0.1")
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    shutil.copyfile(authority.certificate, trusted / "ca.crt")
    address, store_port = f"127.0.0.1:{free_port()}", free_port()
    with rgw.fresh() as bucket:
        document = rendered(
            "production",
            HOLDFAST_IMAGE=image,
            HOLDFAST_LISTEN=address,
            HOLDFAST_GC_EVERY="2s",
            NGINX_IMAGE=nginx_image,
            REGISTRY_HOST=address,
            TLS_CERTIFICATE=str(certificate),
            TLS_KEY=str(key),
            HTPASSWD_FILE=str(users),
            S3_BUCKET=bucket,
            S3_REGION=rgw.region,
            S3_ENDPOINT=f"http://{NETWORK}1:{store_port}",
            S3_ACCESS_KEY=rgw.access_key,
            S3_SECRET_KEY=rgw.secret_key,
        )
        network = _free_network()
        text = yaml.safe_dump(quickened(document)).replace(NETWORK, network)
        with project(docker, text, tmp_path) as compose:
            compose("up", "--no-start")  # which makes the network, and this machine's address on it
            with s3_proxy(rgw, f"{network}1", store_port):
                compose("up", "-d")
                yield Fleet(docker, compose, skopeo(tmp_path), address, tmp_path, trusted)


def _a_user(docker: Docker, image: str) -> str:
    """A line for the file of users, made as the documentation says."""
    done = subprocess.run(
        [*docker.command, "run", "--rm", "-i", image, "htpasswd", "alice"],
        input="secret\nsecret\n",
        capture_output=True,
        text=True,
        env={**os.environ, **docker.environ},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def _free_network() -> str:
    """The file's own, or one beside it where that is in use already."""
    routes = run([program("ip"), "-4", "-o", "route", "show", "table", "all"]).stdout
    return next(
        network
        for network in (f"10.89.{third}." for third in range(7, 256))
        if network not in routes
    )


@pytest.mark.timeout(600)  # the first test that needs the image builds it
def test_images_go_through_nginx_whatever_happens_to_a_node(fleet: Fleet) -> None:
    for node in ("registry-1", "registry-2"):
        wait_for(partial(fleet.healthy, node), f"{node} is healthy", PATIENCE, 0.5)
    fleet.copy("1")

    def collected() -> bool:
        reports = fleet.compose("logs", "--no-color", "collector").stdout
        seen = "1 repositories with 1 tags and 1 manifests; 3 blobs" in reports
        return seen and reports.count("Removed: 0 blobs, 0 manifests") >= 2

    wait_for(collected, "the collector runs again and again", PATIENCE, 0.5)

    crashed = fleet.state("registry-2")["State"]["Pid"]
    os.kill(crashed, signal.SIGKILL)

    def back() -> bool:
        started = fleet.state("registry-2")["State"]["Pid"] not in (0, crashed)
        return started and fleet.healthy("registry-2")

    wait_for(back, "the engine has started the node again", PATIENCE, 0.5)
    fleet.docker("kill", "--signal=KILL", fleet.state("registry-1")["Id"])  # not started again
    fleet.copy("2")
    assert fleet.state("registry-1")["State"]["ExitCode"] == 128 + signal.SIGKILL

    collector = fleet.state("collector")
    assert collector["State"]["Running"]
    assert collector["RestartCount"] == 0
    fleet.compose("stop")
    assert fleet.state("registry-2")["State"]["ExitCode"] == 0
    assert fleet.state("collector")["State"]["ExitCode"] == 128 + signal.SIGINT
    assert "Traceback" not in fleet.compose("logs", "--no-color").stdout
