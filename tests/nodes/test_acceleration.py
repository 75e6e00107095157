"""nginx sends blobs from the disk: no client can tell, nor get more, and no byte passes through a node."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.bench.processes import peak, reset_peaks
from tests.support import access
from tests.support.balancers import ACCELERATED, Balancer, nginx
from tests.support.clients import wait_for
from tests.support.images import MIB
from tests.support.nodes import Node, Storage, nodes
from tests.support.registry import Blob, Registry, a_name, refused, some_bytes, with_query
from tests.support.servers import holdfast

SIZE = 3 * MIB + 7
WORKER_LIMIT = 150 * 10**6
OF_THE_CONNECTION = {"connection", "date", "keep-alive", "server", "transfer-encoding"}
ANNOUNCED = {"X-Sendfile-Type": "X-Accel-Redirect"}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    with nodes(Storage(tmp_path_factory.mktemp("accelerated")), **ACCELERATED) as running:
        yield running


@pytest.fixture(scope="module")
def balancer(both: list[Node], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Balancer]:
    ports, root = [node.port for node in both], both[0].storage.root
    with nginx(tmp_path_factory.mktemp("nginx"), ports, root=root) as running:
        yield running


@pytest.fixture(scope="module")
def front(balancer: Balancer) -> Iterator[Registry]:
    registry = Registry(balancer.url, balancer="nginx")
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def direct(both: list[Node]) -> Iterator[Registry]:
    """A node itself, asked from an address that it trusts."""
    registry = Registry(both[0].url)
    yield registry
    registry.close()


def place_of(digest: str) -> str:
    algorithm, _, hexadecimal = digest.partition(":")
    return f"/holdfast-blobs/{algorithm}/{hexadecimal[:2]}/{hexadecimal}/data"


def counted(both: list[Node], metric: str) -> float:
    return sum(
        sample.value
        for node in both
        for family in text_string_to_metric_families(httpx.get(f"{node.url}/metrics").text)
        for sample in family.samples
        if sample.name == metric and sample.labels["route"] == "blob"
    )


def test_no_byte_passes_through_a_node(both: list[Node], front: Registry) -> None:
    name = a_name("accelerated")
    blob = front.push_blob(name, some_bytes(SIZE))
    path = f"/v2/{name}/blobs/{blob.digest}"
    before = [counted(both, f"holdfast_{kind}_bytes_total") for kind in ("response", "handed_over")]
    assert front.get(path).content == blob.data
    part = front.get(path, headers={"Range": "bytes=100-1099"})
    assert part.content == blob.data[100:1100]
    wanted = [before[0], before[1] + SIZE + 1000]

    def shown() -> bool:
        kinds = ("response", "handed_over")
        return [counted(both, f"holdfast_{kind}_bytes_total") for kind in kinds] == wanted

    wait_for(shown, "the metrics of both nodes show two pulls that neither served", every=0.2)
    lines = [
        (line["status"], line["bytes_out"], line["bytes_handed_over"])
        for node in both
        for line in access.requests(node.server, repository=name)
        if line["method"] == "GET"
    ]
    assert sorted(lines) == [(200, 0, SIZE), (206, 0, 1000)]


CONDITIONS: list[Mapping[str, str]] = [
    {},
    {"Range": "bytes=0-0"},
    {"Range": "bytes=100-"},
    {"Range": "bytes=-5"},
    {"Range": f"bytes=0-{SIZE * 2}"},
    {"Range": f"bytes={SIZE}-"},
    {"Range": "bytes=-0"},
    {"Range": "bytes=0-4,10-14"},
    {"Range": "lines=1-2"},
    {"Range": "bytes=0-9", "If-Range": "DIGEST"},
    {"Range": "bytes=0-9", "If-Range": '"sha256:other"'},
    {"Range": "bytes=0-9", "If-Range": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"If-None-Match": "DIGEST"},
    {"If-None-Match": '"other", DIGEST'},
    {"If-None-Match": "*", "Range": "bytes=0-9"},
    {"If-None-Match": '"other"'},
    {"If-Modified-Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"If-Match": "DIGEST"},
    {"If-Match": '"other"'},
    {"If-Unmodified-Since": "Fri, 01 Jan 2010 00:00:00 GMT"},
    {"Accept-Encoding": "gzip"},
]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_client_is_answered_as_by_the_node_itself(
    front: Registry, direct: Registry, algorithm: str
) -> None:
    name = f"{a_name('odd')}/a__b/c-d.e/x1.y-z"
    blob = front.push_blob(name, Blob(some_bytes(SIZE), algorithm=algorithm))
    path = f"/v2/{name}/blobs/{blob.digest}"
    for method in ("GET", "HEAD"):
        for condition in CONDITIONS:
            headers = {
                key: value.replace("DIGEST", f'"{blob.digest}"') for key, value in condition.items()
            }
            ours = front.ask(method, path, headers={**headers, **ANNOUNCED})
            theirs = direct.ask(method, path, headers=headers)
            assert comparable(ours) == comparable(theirs), (method, condition)


def comparable(answer: httpx.Response) -> tuple[int, str, dict[str, str]]:
    headers = dict(answer.headers)
    if answer.status_code == 206:
        headers.pop("accept-ranges", "")  # nginx takes it that who got a range knows
    assert headers.pop("x-request-id")
    kept = {name: value for name, value in headers.items() if name not in OF_THE_CONNECTION}
    return answer.status_code, hashlib.sha256(answer.content).hexdigest(), kept


def test_over_tls(balancer: Balancer, front: Registry) -> None:
    name = a_name("tls")
    blob = front.push_blob(name, some_bytes(SIZE))
    trust = ssl.create_default_context(cafile=balancer.authority)
    answer = httpx.get(f"{balancer.tls_url}/v2/{name}/blobs/{blob.digest}", verify=trust)
    assert answer.content == blob.data


def two_gigabytes() -> Iterator[bytes]:
    body = bytes(range(256)) * (MIB // 256)
    for number in range(2 * 10**9 // MIB + 1):
        yield number.to_bytes(8) + body[8:]


def test_a_layer_of_two_gigabytes_over_tls(both: list[Node], balancer: Balancer) -> None:
    hasher = hashlib.sha256()
    for piece in two_gigabytes():
        hasher.update(piece)
    digest, name = f"sha256:{hasher.hexdigest()}", a_name("large")
    for node in both:
        reset_peaks(node.server.process.pid)
    trust = ssl.create_default_context(cafile=balancer.authority)
    with httpx.Client(base_url=balancer.tls_url, verify=trust, timeout=180) as client:
        begun = client.post(f"/v2/{name}/blobs/uploads/")
        sent = client.patch(begun.headers["Location"], content=two_gigabytes())
        assert sent.status_code == 202, sent.text
        ended = client.put(with_query(sent.headers["Location"], digest=digest))
        assert ended.status_code == 201, ended.text
        served = counted(both, "holdfast_response_bytes_total")
        hasher = hashlib.sha256()
        with client.stream("GET", f"/v2/{name}/blobs/{digest}") as answer:
            for piece in answer.iter_raw(MIB):
                hasher.update(piece)
        assert f"sha256:{hasher.hexdigest()}" == digest
    assert counted(both, "holdfast_response_bytes_total") == served
    for node in both:
        assert peak(node.server.process.pid).largest < WORKER_LIMIT


@pytest.mark.parametrize("path", ["{place}", "/v2/..{place}", "/v2/%2e%2e{place}", "/{place}"])
def test_no_client_gets_into_the_internal_location(front: Registry, path: str) -> None:
    blob = front.push_blob(a_name(), b"secret")
    place = place_of(blob.digest)
    head = f"GET {path.format(place=place)} HTTP/1.1\r\nHost: registry\r\nConnection: close\r\n"
    for more in ("", f"X-Accel-Redirect: {place}\r\n", f"X-Original-URI: {place}\r\n"):
        answer = front.raw(f"{head}{more}\r\n".encode())
        assert answer.status_code == 404
        assert b"secret" not in answer.content


def test_what_a_client_says_of_redirects_counts_for_nothing(front: Registry) -> None:
    mine, other = a_name("mine"), a_name("other")
    blob = front.push_blob(mine, b"mine")
    secret = front.push_blob(other, b"secret")
    headers = {**ANNOUNCED, "X-Accel-Redirect": place_of(secret.digest)}
    assert front.get(f"/v2/{mine}/blobs/{blob.digest}", headers=headers).content == b"mine"
    refused(front.get(f"/v2/{mine}/blobs/{secret.digest}", headers=headers), 404, "BLOB_UNKNOWN")


def test_the_place_is_told_to_nobody_else(direct: Registry, tmp_path: Path) -> None:
    """A stranger that says it is nginx; and who is trusted, and does not."""
    name = a_name()
    blob = direct.push_blob(name, b"content")
    plain = direct.get(f"/v2/{name}/blobs/{blob.digest}")
    config = {"http": {"trustedproxies": ["10.9.8.7"], **ACCELERATED["http"]}}
    with holdfast(tmp_path, workers=1, config=config) as server:
        alone = Registry(server.url)
        alone.push_blob(name, blob)
        stranger = alone.get(f"/v2/{name}/blobs/{blob.digest}", headers=ANNOUNCED)
        alone.close()
    for answer in (plain, stranger):
        assert answer.content == b"content"
        assert "X-Accel-Redirect" not in answer.headers
    told = direct.get(f"/v2/{name}/blobs/{blob.digest}", headers=ANNOUNCED)
    assert (told.content, told.headers["X-Accel-Redirect"]) == (b"", place_of(blob.digest))


def test_a_directory_that_nginx_does_not_have(
    both: list[Node], direct: Registry, tmp_path: Path
) -> None:
    name = a_name()
    blob = direct.push_blob(name, b"content")
    with nginx(tmp_path, [node.port for node in both], root=tmp_path / "absent") as balancer:
        answer = httpx.get(f"{balancer.url}/v2/{name}/blobs/{blob.digest}")
        assert "absent" in balancer.output()
    assert "balancer cannot read" in refused(answer, 503, "UNAVAILABLE")
    assert answer.headers["Retry-After"] == "5"
