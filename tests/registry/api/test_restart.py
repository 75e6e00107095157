"""What survives the server: uploads that another process goes on with, and a damaged tree."""

from __future__ import annotations

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from storage import layout
from storage.hashing import Hasher
from storage.model.digest import Digest
from storage.model.reference import RepositoryName, Tag
from tests.support.registry import (
    Blob,
    Document,
    Registry,
    Serving,
    image,
    refused,
    some_bytes,
)
from tests.support.servers import holdfast

NAME = "team/app"
REPOSITORY = RepositoryName(NAME)


def file_of(registry: Registry, key: str) -> Path:
    assert registry.root is not None
    return registry.root / key


def upload_directory(registry: Registry) -> Path:
    (found,) = file_of(registry, layout.uploads(REPOSITORY)).iterdir()
    return found


def check(registry: Registry, blob: Blob) -> None:
    assert registry.get(f"/v2/{NAME}/blobs/{blob.digest}").content == blob.data
    uploads = file_of(registry, layout.uploads(REPOSITORY))
    assert not uploads.exists() or list(uploads.iterdir()) == []


def push_in_chunks(registry: Registry, blob: Blob, count: int, location: str = "") -> str:
    location = location or registry.start(NAME)
    size = len(blob.data) // count
    for number in range(count):
        chunk = blob.data[number * size : (number + 1) * size]
        response = registry.patch(location, chunk, number * size)
        assert response.status_code == 202, response.text
        location = response.headers["Location"]
    return location


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_one_patch_and_then_another_process(serving: Serving, algorithm: str) -> None:
    """Its digest is in the token: the data are not read again, and need no hash state."""
    blob = Blob(some_bytes(300_000), algorithm=algorithm)
    with serving() as registry:
        location = registry.start(NAME, digest_algorithm=algorithm)
        location = push_in_chunks(registry, blob, 1, location)
    with serving() as registry:
        shutil.rmtree(upload_directory(registry) / "hashstates")
        times = upload_directory(registry).joinpath("data").stat()
        assert registry.finish(location, blob.digest).status_code == 201
        stored = file_of(registry, layout.blob(Digest.parse(blob.digest))).stat()
        assert stored.st_ino == times.st_ino, "renamed, not copied"
        check(registry, blob)


def test_several_patches_each_in_another_process(serving: Serving) -> None:
    blob = Blob(some_bytes(300_000))
    location = ""
    for number in range(3):
        with serving() as registry:
            location = location or registry.start(NAME)
            offset = number * 100_000
            response = registry.patch(location, blob.data[offset : offset + 100_000], offset)
            location = response.headers["Location"]
            states = upload_directory(registry) / "hashstates" / "sha256"
            assert (states / str(offset + 100_000)).stat().st_size == 108
    with serving() as registry:
        assert registry.finish(location, blob.digest).status_code == 201
        check(registry, blob)


def test_a_hash_state_is_used_and_not_only_written(serving: Serving) -> None:
    """A state that lies shows in the digest; one that is refused is made up for by reading."""
    blob = Blob(some_bytes(300_000))
    for lie, status in ((True, 400), (False, 201)):
        with serving() as registry:
            location = push_in_chunks(registry, blob, 2)
            state = upload_directory(registry) / "hashstates" / "sha256" / str(len(blob.data))
            liar = Hasher("sha256")
            liar.update(bytes(len(blob.data)))
            exported = liar.export()
            assert exported is not None
            state.write_bytes(exported if lie else exported[:-1])
            # A Location from the status carries no digest, so the state has to tell.
            location = registry.get(location).headers["Location"]
            assert registry.finish(location, blob.digest).status_code == status
            if lie:
                assert registry.ask("DELETE", location).status_code == 204


def test_without_states_the_data_are_read_again(serving: Serving) -> None:
    blob = Blob(some_bytes(300_000))
    with serving() as registry:
        location = push_in_chunks(registry, blob, 2, registry.start(NAME))
        shutil.rmtree(upload_directory(registry) / "hashstates")
    with serving() as registry:
        location = registry.get(location).headers["Location"]
        assert registry.finish(location, blob.digest).status_code == 201
        check(registry, blob)


def test_a_token_of_before_is_good_because_the_key_is_kept(serving: Serving) -> None:
    with serving() as registry:
        location = registry.start(NAME)
    with serving(http={"secret": "another"}) as registry:
        refused(registry.patch(location, b"x"), 404, "BLOB_UPLOAD_INVALID")
        assert registry.get(location).status_code == 204
    with serving() as registry:
        assert registry.patch(location, b"x").status_code == 202


def test_killed_in_the_middle_of_a_chunk(tmp_path: Path) -> None:
    blob = Blob(some_bytes(3_000_000))
    with holdfast(tmp_path, workers=2) as server:
        registry = Registry(server.url, server.root)
        location = registry.start(NAME)
        data: Path | None = None

        def body() -> Iterator[bytes]:
            yield blob.data[:2_500_000]
            deadline = time.monotonic() + 20
            nonlocal data
            while time.monotonic() < deadline:
                data = upload_directory(registry) / "data"
                if data.exists() and data.stat().st_size >= 1_000_000:
                    server.kill()
                    break
                time.sleep(0.01)
            yield blob.data[2_500_000:]

        with pytest.raises(httpx.TransportError):
            registry.patch(location, body())
        registry.close()
    with holdfast(tmp_path, workers=2) as server:
        registry = Registry(server.url, server.root)
        response = registry.get(location)
        kept = int(response.headers["Range"].removeprefix("0-")) + 1
        assert 1_000_000 <= kept < len(blob.data)
        refused(registry.finish(location, blob.digest, blob.data), 416, "RANGE_INVALID")
        final = registry.finish(response.headers["Location"], blob.digest, blob.data[kept:])
        assert final.status_code == 201
        check(registry, blob)
        registry.close()


def test_stopped_with_a_sign_while_a_chunk_comes_in(tmp_path: Path) -> None:
    """SIGTERM lets it finish; nothing is lost and nothing has to be sent again."""
    blob = Blob(some_bytes(200_000))
    with holdfast(tmp_path, workers=1, config={"http": {"draintimeout": "20s"}}) as server:
        registry = Registry(server.url, server.root)
        location = registry.start(NAME)

        def body() -> Iterator[bytes]:
            yield blob.data[:100_000]
            server.process.send_signal(signal.SIGTERM)
            yield blob.data[100_000:]

        response = registry.patch(location, body())
        assert response.status_code == 202
        assert server.process.wait(20) == 0
        registry.close()
    with holdfast(tmp_path, workers=1) as server:
        registry = Registry(server.url, server.root)
        assert registry.finish(response.headers["Location"], blob.digest).status_code == 201
        check(registry, blob)
        registry.close()


def test_old_uploads_are_purged(serving: Serving) -> None:
    purging = {"enabled": True, "age": "1s", "interval": "1s", "dryrun": False}
    with serving() as registry:
        location = registry.patch(registry.start(NAME), b"abandoned").headers["Location"]
        registry.push_blob(NAME, b"kept")
        directory = upload_directory(registry)
    with serving(storage={"maintenance": {"uploadpurging": purging}}) as registry:
        deadline = time.monotonic() + 20
        while directory.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        refused(registry.get(location), 404, "BLOB_UPLOAD_UNKNOWN")
        assert registry.get(f"/v2/{NAME}/blobs/{Blob(b'kept').digest}").content == b"kept"


def test_young_uploads_are_not_purged(serving: Serving) -> None:
    purging = {"enabled": True, "age": "1h", "interval": "1s", "dryrun": False}
    with serving(storage={"maintenance": {"uploadpurging": purging}}) as registry:
        location = registry.patch(registry.start(NAME), b"young").headers["Location"]
        time.sleep(2.5)  # two rounds: there is no event for what does not happen
        assert registry.finish(location, Blob(b"young").digest).status_code == 201


# Damage. One worker, started anew, so that nothing is remembered from before.


def manifest_path(reference: str) -> str:
    return f"/v2/{NAME}/manifests/{reference}"


@pytest.mark.parametrize(
    "damage", [lambda data: data + b" ", lambda data: data[:-1], lambda _: b"", bytes.swapcase]
)
def test_a_damaged_manifest_is_never_served_and_the_next_push_mends_it(
    serving: Serving, damage: Callable[[bytes], bytes]
) -> None:
    with serving() as registry:
        document = registry.push_image(NAME, "latest", b"layer")
        other = registry.push_image(NAME, "other", b"layer")
    with serving() as registry:
        stored = file_of(registry, layout.blob(Digest.parse(document.digest)))
        stored.write_bytes(damage(document.content))
        for reference in ("latest", document.digest):
            response = registry.get(manifest_path(reference))
            assert "Push it again" in refused(response, 503, "UNAVAILABLE")
            assert int(response.headers["Retry-After"]) > 0
            head = registry.ask("HEAD", manifest_path(reference))
            assert (head.status_code, head.content) == (503, b"")
        assert registry.get(manifest_path("other")).content == other.content
        assert registry.put_manifest(NAME, "latest", document).status_code == 201
        assert stored.read_bytes() == document.content
    with serving() as registry:
        assert registry.get(manifest_path("latest")).content == document.content


def test_a_damaged_manifest_can_be_deleted(serving: Serving) -> None:
    with serving() as registry:
        document = registry.push_image(NAME, "latest", b"layer")
    with serving() as registry:
        file_of(registry, layout.blob(Digest.parse(document.digest))).write_bytes(b"{}")
        assert registry.ask("DELETE", manifest_path(document.digest)).status_code == 202
        refused(registry.get(manifest_path("latest")), 404, "MANIFEST_UNKNOWN")


def test_a_truncated_blob_is_absent_once_its_manifest_was_read_and_a_push_mends_it(
    serving: Serving,
) -> None:
    with serving() as registry:
        document = registry.push_image(NAME, "latest", b"a layer that will be cut")
    layer = document.blobs[1]
    path = f"/v2/{NAME}/blobs/{layer.digest}"
    with serving() as registry:
        stored = file_of(registry, layout.blob(Digest.parse(layer.digest)))
        stored.write_bytes(b"a layer")
        registry.get(manifest_path("latest"))
        assert registry.ask("HEAD", path).status_code == 404
        refused(registry.get(path), 404, "BLOB_UNKNOWN")
        registry.push_blob(NAME, layer)
        assert stored.read_bytes() == layer.data
        assert registry.get(path).content == layer.data


def test_a_truncated_blob_does_not_get_into_a_new_manifest(serving: Serving) -> None:
    """Whose push says what to push, and so mends it."""
    with serving() as registry:
        layer = registry.push_blob(NAME, b"a layer that will be cut")
        stored = file_of(registry, layout.blob(Digest.parse(layer.digest)))
        stored.write_bytes(b"a layer")
        document = image(layer.data)
        registry.push_blob(NAME, document.blobs[0])
        response = registry.put_manifest(NAME, "latest", document)
        assert layer.digest in refused(response, 400, "MANIFEST_BLOB_UNKNOWN")
        registry.push(NAME, "latest", document)
        assert stored.read_bytes() == layer.data


def links_of(document: Document) -> dict[str, str]:
    digest, layer = Digest.parse(document.digest), Digest.parse(document.blobs[1].digest)
    return {
        "tag": layout.tag_current(REPOSITORY, Tag("latest")),
        "revision": layout.revision(REPOSITORY, digest),
        "layer": layout.layer(REPOSITORY, layer),
    }


@pytest.mark.parametrize("which", ["tag", "revision", "layer"])
@pytest.mark.parametrize(
    "content", [b"", b"sha256:0123", b"\0" * 71], ids=["empty", "cut", "zeros"]
)
def test_a_torn_link_is_absent_and_a_push_mends_it(
    serving: Serving, which: str, content: bytes
) -> None:
    with serving() as registry:
        document = registry.push_image(NAME, "latest", b"layer")
        link = file_of(registry, links_of(document)[which])
        whole = link.read_bytes()
    with serving() as registry:
        link.write_bytes(content)
        if which == "layer":
            path, code = f"/v2/{NAME}/blobs/{document.blobs[1].digest}", "BLOB_UNKNOWN"
        else:
            path, code = manifest_path("latest"), "MANIFEST_UNKNOWN"
            assert registry.tags(NAME) == []
        refused(registry.get(path), 404, code)
        registry.push(NAME, "latest", document)
        assert link.read_bytes() == whole
        assert registry.get(path).status_code == 200
        assert registry.tags(NAME) == ["latest"]


def test_litter_in_the_tree_is_passed_over(serving: Serving) -> None:
    with serving() as registry:
        document = registry.push_image(NAME, "latest", b"layer")
        repository = file_of(registry, layout.repository(REPOSITORY))
        tag = repository / "_manifests" / "tags" / "latest" / "current" / "link"
        shutil.copy(tag, tag.with_name("link.0c337451-7bba-44a7-907d-2be42e7fb013.tmp"))
        for directory in (repository, repository.parent, repository / "_manifests" / "tags"):
            (directory / ".DS_Store").write_bytes(b"x")
            (directory / "lost+found").mkdir()
            (directory / "UPPER").mkdir()
    with serving() as registry:
        assert registry.get(manifest_path("latest")).content == document.content
        assert registry.tags(NAME) == ["latest"]
        assert registry.get("/v2/_catalog").json() == {"repositories": [NAME]}


def test_referrers_are_found_in_a_tree_without_their_index(serving: Serving) -> None:
    with serving() as registry:
        subject = registry.push_image(NAME, "latest")
        referrer = registry.push(NAME, "referrer", image(subject=subject.descriptor()))
        shutil.rmtree(file_of(registry, layout.referrers(REPOSITORY)))
    with serving() as registry:
        listed = registry.get(f"/v2/{NAME}/referrers/{subject.digest}").json()["manifests"]
        assert [entry["digest"] for entry in listed] == [referrer.digest]


def test_no_secret_and_no_token_in_the_log(tmp_path: Path) -> None:
    with holdfast(tmp_path) as server:
        registry = Registry(server.url, server.root)
        location = push_in_chunks(registry, Blob(some_bytes(1000)), 2)
        token = location.partition("_state=")[2]
        registry.ask("DELETE", location)
        secret = file_of(registry, layout.SECRET).read_text()
        registry.close()
    output = server.output()
    assert re.search(r'"route": ?"upload"', output)
    assert token[:40] not in output
    assert secret[:20] not in output
