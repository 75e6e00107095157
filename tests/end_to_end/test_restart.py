"""The server dies by kill -9, or is stopped kindly, while clients push and pull; then it comes back."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.support import access
from tests.support.api import OCTETS, api
from tests.support.clients import Docker, Skopeo, random_files, wait_for
from tests.support.images import (
    MIB,
    Layout,
    layout_blobs,
    random_bytes,
    random_layer,
    sha256,
)
from tests.support.servers import Server, free_port, holdfast
from tests.support.tree import check_tree, data_files, unfinished_uploads

LAYERS = 6
SIZE = 24 * MIB

Moment = Callable[[Path], bool]


def arrived(root: Path) -> int:
    """Bytes that the tree holds so far, in uploads and in blobs."""
    total = 0
    for file in data_files(root):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def first_bytes(root: Path) -> bool:
    return arrived(root) > 0


def amid_the_layers(root: Path) -> bool:
    return arrived(root) > 2.5 * SIZE


def all_but_the_end(root: Path) -> bool:
    return arrived(root) > (LAYERS - 0.3) * SIZE


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    layout = Layout(tmp_path_factory.mktemp("source") / "layout")
    layers = (random_layer(SIZE, f"r{number}", compressed=False) for number in range(LAYERS))
    layout.tag(layout.image(layers), "1")
    yield layout
    shutil.rmtree(layout.path)


@pytest.mark.parametrize("moment", [first_bytes, amid_the_layers, all_but_the_end])
def test_kill_9_in_the_middle_of_a_push(
    skopeo: Skopeo, source: Layout, work: Path, moment: Moment
) -> None:
    port = free_port()
    there = f"docker://127.0.0.1:{port}/killed/app:1"
    options = ("--preserve-digests", "--dest-tls-verify=false")
    with holdfast(work, port=port) as server:
        push = skopeo.start("copy", "-q", *options, source.reference("1"), there)
        wait_for(lambda: moment(server.root), "the push is under way", every=0.001)
        server.kill()
        push.communicate(timeout=60)
        # On a busy machine the last moment may come too late, and then all must be there.
        assert push.returncode != 0 or moment is all_but_the_end
    assert check_tree(server.root) == []
    with holdfast(work, port=port) as server:
        skopeo.copy(source.reference("1"), there)
        skopeo.copy(there, f"oci:{work}/back:1")
    assert layout_blobs(work / "back") == layout_blobs(source.path)
    assert check_tree(server.root) == []
    assert access.failures(server) == []


def test_kill_9_again_and_again(skopeo: Skopeo, source: Layout, work: Path) -> None:
    """Each push gets a little further than the one before it, as the blobs of that one are kept."""
    port = free_port()
    there = f"docker://127.0.0.1:{port}/killed/often:1"
    options = ("--preserve-digests", "--dest-tls-verify=false")
    for attempt in range(1, LAYERS):
        with holdfast(work, port=port) as server:
            push = skopeo.start("copy", "-q", *options, source.reference("1"), there)
            wait_for(
                partial(_ended_or_holds, push, server.root, attempt * SIZE),
                f"{attempt} layers have come",
                every=0.001,
            )
            server.kill()
            push.communicate(timeout=60)
        assert check_tree(server.root) == []
    with holdfast(work, port=port) as server:
        skopeo.copy(source.reference("1"), there)
        with api(server.url) as http:
            assert set(http.content_of("killed/often", "1")) == layout_blobs(source.path)
    assert check_tree(server.root) == []


def _ended_or_holds(push: subprocess.Popen[str], root: Path, size: int) -> bool:
    return push.poll() is not None or arrived(root) > size


def test_docker_goes_on_after_a_kill_9(docker: Docker, work: Path) -> None:
    """Its engine tries each layer several times, so a server that is soon back is hardly noticed."""
    port = free_port()
    name = f"127.0.0.1:{port}/killed/docker:1"
    image = docker.build(work / "image", random_files(3, SIZE, "killed"), name)
    with holdfast(work, port=port) as server:
        push = docker.start("push", name)
        wait_for(lambda: arrived(server.root) > SIZE, "the push is under way", every=0.001)
        assert push.poll() is None
        server.kill()
    assert check_tree(server.root) == []
    with holdfast(work, port=port) as server:
        said, _ = push.communicate(timeout=120)
        if push.returncode != 0:
            docker("push", name)
        docker.forget(image)
        docker("pull", name)
        assert docker.image_id(name) == image
        with api(server.url) as http:
            digest = sha256(http.manifest("killed/docker", "1"))
            http.content_of("killed/docker", digest)
        assert docker.repo_digest(name, name.removesuffix(":1")) == digest, said
        docker.forget(image)
    assert check_tree(server.root) == []


def test_an_upload_goes_on_where_kill_9_left_it(work: Path) -> None:
    port = free_port()
    content = random_bytes(32 * MIB, "resumed")
    acknowledged = 8 * MIB
    with holdfast(work, port=port) as server, api(server.url) as http:
        location = http.append(http.begin("killed/upload"), content[:acknowledged])
        sending = threading.Event()

        def slowly() -> Iterator[bytes]:
            yield content[acknowledged : acknowledged + 4 * MIB]
            sending.wait(60)

        with ThreadPoolExecutor() as pool:
            patch = pool.submit(http.client.patch, location, content=slowly(), headers=OCTETS)
            wait_for(lambda: arrived(server.root) > acknowledged, "the second chunk is coming")
            server.kill()
            sending.set()
            with pytest.raises(httpx.TransportError):
                patch.result(60)
    with holdfast(work, port=port) as server, api(server.url) as http:
        location, held = http.upload_status(location)
        offset = int(held.removeprefix("0-")) + 1
        assert acknowledged <= offset <= acknowledged + 4 * MIB
        location = http.append(location, content[offset : 20 * MIB])
        http.finish(location, content[20 * MIB :], sha256(content))
        assert http.blob("killed/upload", sha256(content)) == content
    assert check_tree(server.root) == []
    assert unfinished_uploads(server.root) == []


def refuses(server: Server) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", server.port)) != 0


def test_sigterm_lets_requests_in_flight_finish(work: Path) -> None:
    port = free_port()
    content = random_bytes(48 * MIB, "in flight")
    others = [random_bytes(4 * MIB, f"pushed {number}") for number in range(4)]
    stopping = threading.Event()
    begun = threading.Semaphore(0)

    def pull(url: str) -> bytes:
        parts: list[bytes] = []
        with httpx.stream("GET", url, timeout=60) as answer:
            assert answer.status_code == 200
            for part in answer.iter_raw(MIB):
                if not parts:
                    begun.release()
                    assert stopping.wait(60)
                parts.append(part)
        return b"".join(parts)

    def push(location: str, body: bytes) -> httpx.Response:
        def halves() -> Iterator[bytes]:
            yield body[: 2 * MIB]
            begun.release()
            assert stopping.wait(60)
            yield body[2 * MIB :]

        return httpx.patch(location, content=halves(), headers=OCTETS, timeout=60)

    settings = {"http": {"draintimeout": "60s"}}
    with holdfast(work, port=port, config=settings) as server, api(server.url) as http:
        http.push_blob("kind/app", content)
        url = f"{server.url}/v2/kind/app/blobs/{sha256(content)}"
        with ThreadPoolExecutor(8) as pool:
            pulls = [pool.submit(pull, url) for _ in range(4)]
            pushes = [pool.submit(push, http.begin("kind/app"), body) for body in others]
            for _ in range(8):
                assert begun.acquire(timeout=60)
            server.process.terminate()
            wait_for(lambda: refuses(server), "new connections are refused")
            assert server.process.poll() is None
            stopping.set()
            assert all(done.result(60) == content for done in pulls)
            answers = [done.result(60) for done in pushes]
        assert [answer.status_code for answer in answers] == [202] * 4
        assert server.process.wait(30) == 0
    assert access.failures(server) == []

    with holdfast(work, port=port) as server, api(server.url) as http:
        for answer, body in zip(answers, others, strict=True):
            location = str(answer.url.join(answer.headers["Location"]))
            http.finish(location, b"", sha256(body))
            assert http.blob("kind/app", sha256(body)) == body
    assert check_tree(server.root) == []


def test_engines_push_and_pull_through_a_restart(
    docker: Docker, skopeo: Skopeo, source: Layout, work: Path
) -> None:
    """What a client was told is done stays done, and what it was not told can be done again."""
    port = free_port()
    name = f"127.0.0.1:{port}/kind"
    images = {
        f"{name}/app{number}:1": docker.build(
            work / f"image{number}",
            random_files(2, SIZE // 2, f"kind{number}"),
            f"{name}/app{number}:1",
        )
        for number in range(3)
    }
    there = f"docker://{name}/source:1"
    with holdfast(work, port=port) as server:
        skopeo.copy(source.reference("1"), there)
        before = arrived(server.root)
        pushes = {image: docker.start("push", image) for image in images}
        options = ("copy", "-q", "--src-tls-verify=false")
        pull = skopeo.start(*options, there, f"oci:{work}/through:1")
        wait_for(lambda: arrived(server.root) > before + SIZE, "the pushes are under way")
        assert server.stop() == 0
    assert access.failures(server) == []
    assert check_tree(server.root) == []
    with holdfast(work, port=port) as server:
        pull.communicate(timeout=60)
        for image, push in pushes.items():
            push.communicate(timeout=120)
            if push.returncode != 0:
                docker("push", image)
        docker.forget(*images.values())
        for image, identity in images.items():
            docker("pull", image)
            assert docker.image_id(image) == identity
        docker.forget(*images.values())
        skopeo.copy(there, f"oci:{work}/back:1")
    assert layout_blobs(work / "back") == layout_blobs(source.path)
    assert check_tree(server.root) == []
    assert access.failures(server) == []
