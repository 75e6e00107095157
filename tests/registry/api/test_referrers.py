"""end-12: which manifests have a subject."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

import pytest

from storage.model import mediatype
from tests.support.registry import (
    Blob,
    Document,
    Registry,
    a_name,
    digest_of,
    image,
    index,
    refused,
)

ABSENT = digest_of(b"absent")
SBOM = "application/vnd.example.sbom.v1+json"


def ask(registry: Registry, name: str, digest: str, query: str = "") -> dict[str, Any]:
    response = registry.get(f"/v2/{name}/referrers/{digest}{query}")
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == mediatype.OCI_INDEX
    document: dict[str, Any] = response.json()
    assert document["schemaVersion"] == 2
    assert document["mediaType"] == mediatype.OCI_INDEX
    return document


def listed(registry: Registry, name: str, digest: str, query: str = "") -> list[str]:
    return [entry["digest"] for entry in ask(registry, name, digest, query)["manifests"]]


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_subject_that_nobody_knows_has_none(registry: Registry, algorithm: str) -> None:
    digest = digest_of(b"nobody knows me", algorithm)
    name = a_name()
    with registry.nothing_stored():
        assert listed(registry, name, digest) == []
    registry.push(name, "latest", image())
    assert listed(registry, name, digest) == []
    assert registry.ask("HEAD", f"/v2/{name}/referrers/{digest}").status_code == 200


@pytest.mark.parametrize("digest", ["sha256:x", "x", "md5:" + "0" * 32, "sha256:" + "0" * 63])
def test_a_bad_digest(registry: Registry, digest: str) -> None:
    refused(registry.get(f"/v2/a/referrers/{digest}"), 400, "DIGEST_INVALID")


def test_what_a_list_shows(registry: Registry) -> None:
    name = a_name()
    subject = registry.push(name, "latest", image())
    pointer = subject.descriptor()
    documents = [
        image(subject=pointer, artifactType=SBOM, annotations={"org.example": "value"}),
        image(subject=pointer),
        index(subject=pointer),
        index(subject=pointer, artifactType="a/b", annotations={"x": "y"}),
    ]
    for document in documents:
        for blob in document.blobs:
            registry.push_blob(name, blob)
        response = registry.put_manifest(name, document.digest, document)
        assert response.status_code == 201
        assert response.headers["OCI-Subject"] == subject.digest
    expected: list[dict[str, Any]] = [
        documents[0].descriptor(artifactType=SBOM, annotations={"org.example": "value"}),
        documents[1].descriptor(artifactType=documents[1].blobs[0].media_type),
        documents[2].descriptor(),
        documents[3].descriptor(artifactType="a/b", annotations={"x": "y"}),
    ]
    expected.sort(key=lambda entry: str(entry["digest"]))
    for answer in registry.everywhere("GET", f"/v2/{name}/referrers/{subject.digest}"):
        assert answer.json()["manifests"] == expected
    assert listed(registry, a_name(), subject.digest) == []


def test_a_subject_may_come_later_or_never(registry: Registry) -> None:
    name = a_name()
    subject = image()
    referrer = image(subject=subject.descriptor())
    registry.push(name, "referrer", referrer)
    assert listed(registry, name, subject.digest) == [referrer.digest]
    registry.push(name, "subject", subject)
    assert listed(registry, name, subject.digest) == [referrer.digest]


def test_filtered(registry: Registry) -> None:
    name = a_name()
    subject = registry.push(name, "latest", image())
    kinds = [SBOM, SBOM, "text/other"]
    documents = [
        registry.push(name, f"r{number}", image(subject=subject.descriptor(), artifactType=kind))
        for number, kind in enumerate(kinds)
    ]
    path = f"/v2/{name}/referrers/{subject.digest}"
    response = registry.get(f"{path}?artifactType={quote(SBOM, safe='')}")
    assert response.headers["OCI-Filters-Applied"] == "artifactType"
    found = [entry["digest"] for entry in response.json()["manifests"]]
    assert found == sorted(document.digest for document in documents[:2])
    nothing = registry.get(f"{path}?artifactType=none/such")
    assert nothing.json()["manifests"] == []
    assert nothing.headers["OCI-Filters-Applied"] == "artifactType"
    for query in ("", "?artifactType="):
        whole = registry.get(path + query)
        assert "OCI-Filters-Applied" not in whole.headers
        assert len(whole.json()["manifests"]) == 3


def walk(registry: Registry, path: str) -> tuple[list[str], list[int]]:
    """Every digest and the size of every page, following Link."""
    found: list[str] = []
    sizes = []
    while True:
        response = registry.get(path)
        assert response.status_code == 200, response.text
        page = response.json()["manifests"]
        found += [entry["digest"] for entry in page]
        sizes.append(len(page))
        if (link := response.headers.get("Link")) is None:
            return found, sizes
        match = re.fullmatch(r'<(/v2/[^>]+)>; rel="next"', link)
        assert match is not None, link
        path = match[1]


def test_in_pages(registry: Registry) -> None:
    name = a_name()
    subject = registry.push(name, "latest", image())
    kinds = [SBOM, "a/b"]
    documents = [
        registry.push(
            name, f"r{number}", image(subject=subject.descriptor(), artifactType=kinds[number % 2])
        )
        for number in range(7)
    ]
    path = f"/v2/{name}/referrers/{subject.digest}"
    whole = sorted(document.digest for document in documents)
    assert walk(registry, f"{path}?n=3") == (whole, [3, 3, 1])
    assert walk(registry, f"{path}?n=7") == (whole, [7])
    sboms = sorted(document.digest for document in documents[::2])
    assert walk(registry, f"{path}?n=3&artifactType={quote(SBOM)}") == (sboms, [3, 1])
    assert walk(registry, f"{path}?last={whole[4]}") == (whole[5:], [2])
    assert walk(registry, f"{path}?n=0") == ([], [0])
    for query in ("n=-1", "n=x", "last=x"):
        refused(registry.get(f"{path}?{query}"), 400, "PAGINATION_NUMBER_INVALID")


def test_a_list_that_is_too_long_for_one_answer_has_a_link(registry: Registry) -> None:
    name = a_name()
    subject = registry.push(name, "latest", image())
    config = registry.push_blob(name, Blob(b"{}", SBOM))
    documents = [
        image(
            config=config,
            subject=subject.descriptor(),
            annotations={"text": f"{number}" + "x" * 700_000},
        )
        for number in range(7)
    ]
    for document in documents:
        assert registry.put_manifest(name, document.digest, document).status_code == 201
    path = f"/v2/{name}/referrers/{subject.digest}"
    assert len(registry.get(path).content) < 4 * 1024 * 1024
    found, sizes = walk(registry, path)
    assert found == sorted(document.digest for document in documents)
    assert len(sizes) > 1


def test_deleted_ones_are_not_listed(registry: Registry) -> None:
    name = a_name()
    subject = registry.push(name, "latest", image())
    gone, stays = (
        registry.push(name, tag, image(subject=subject.descriptor())) for tag in ("gone", "stays")
    )
    assert registry.ask("DELETE", f"/v2/{name}/manifests/{gone.digest}").status_code == 202
    assert registry.ask("DELETE", f"/v2/{name}/manifests/latest").status_code == 202
    for answer in registry.everywhere("GET", f"/v2/{name}/referrers/{subject.digest}"):
        assert [entry["digest"] for entry in answer.json()["manifests"]] == [stays.digest]


def fallback(digest: str) -> str:
    return digest.replace(":", "-")[:71]


def test_the_fallback_tag_is_merged_and_stays_a_tag(registry: Registry) -> None:
    name = a_name()
    subject = registry.push(name, "latest", image())
    one = registry.push(name, "one", image(subject=subject.descriptor()))
    stranger = registry.push(name, "stranger", image())
    listing: Document = registry.push(name, fallback(subject.digest), index(one, stranger))
    assert listed(registry, name, subject.digest) == [one.digest]
    assert registry.get(f"/v2/{name}/manifests/{fallback(subject.digest)}").content == (
        listing.content
    )
    assert fallback(subject.digest) in registry.tags(name)


def test_whoever_keeps_a_fallback_tag_is_told_that_it_is_not_needed(registry: Registry) -> None:
    name = a_name()
    subject = registry.push(name, "latest", image())
    tag = fallback(subject.digest)
    told = registry.put_manifest(name, tag, index(subject)).headers["Warning"]
    assert told == '299 - "This registry lists referrers itself; the fallback tag is not needed."'
    signature = registry.push(name, f"{tag}.sig", image())  # as cosign keeps signatures
    for reference, document in ((f"{tag}.sig", signature), ("latest", subject), (tag, subject)):
        assert "Warning" not in registry.put_manifest(name, reference, document).headers


def test_a_subject_by_sha512(registry: Registry) -> None:
    name = a_name()
    subject = image()
    digest = digest_of(subject.content, "sha512")
    pointer = {**subject.descriptor(), "digest": digest}
    referrer = registry.push(name, "referrer", image(subject=pointer))
    assert listed(registry, name, digest) == [referrer.digest]
    assert listed(registry, name, subject.digest) == []
