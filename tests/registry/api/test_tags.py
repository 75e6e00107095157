"""end-8: the tags of a repository, in pages."""

from __future__ import annotations

import re

import pytest

from tests.support.registry import Registry, a_name, image, refused

TAGS = ["v1", "V1", "1", "10", "2", "_x", "a.b", "a-b", "a", "latest", "A"]


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    return {}


@pytest.fixture
def name(registry: Registry, names: dict[str, str]) -> str:
    """A repository with TAGS."""
    if registry.url not in names:
        name = names[registry.url] = a_name("tags")
        document = registry.push(name, TAGS[0], image())
        for tag in TAGS[1:]:
            assert registry.put_manifest(name, tag, document).status_code == 201
    return names[registry.url]


def test_all_of_them_in_byte_order(registry: Registry, name: str) -> None:
    for response in registry.everywhere("GET", f"/v2/{name}/tags/list"):
        assert response.status_code == 200
        assert response.json() == {"name": name, "tags": sorted(TAGS)}
        assert response.headers["Content-Type"] == "application/json"
        assert "Link" not in response.headers


@pytest.mark.parametrize("size", range(1, len(TAGS) + 2))
def test_in_pages(registry: Registry, name: str, size: int) -> None:
    found: list[str] = []
    path: str | None = f"/v2/{name}/tags/list?n={size}"
    while path is not None:
        response = registry.get(path)
        page = response.json()["tags"]
        link = response.headers.get("Link")
        assert len(page) == size or link is None
        found += page
        if link is None:
            break
        match = re.fullmatch(r'<([^>]*)>; rel="next"', link)
        assert match is not None
        assert match[1] == f"/v2/{name}/tags/list?last={page[-1]}&n={size}"
        path = match[1]
    assert found == sorted(TAGS)


@pytest.mark.parametrize("last", ["1", "A", "B", "a", "v1", "zzz", "0"])
def test_from_anywhere(registry: Registry, name: str, last: str) -> None:
    expected = [tag for tag in sorted(TAGS) if tag > last]
    assert registry.get(f"/v2/{name}/tags/list?last={last}").json()["tags"] == expected
    assert registry.get(f"/v2/{name}/tags/list?n=2&last={last}").json()["tags"] == expected[:2]


def test_none_of_them(registry: Registry, name: str) -> None:
    response = registry.get(f"/v2/{name}/tags/list?n=0")
    assert response.json() == {"name": name, "tags": []}
    assert "Link" not in response.headers


@pytest.mark.parametrize("query", ["", "?n=0", "?n=5", "?last=x"])
def test_of_a_repository_that_is_not_there(registry: Registry, query: str) -> None:
    name = a_name()
    with registry.nothing_stored():
        response = registry.get(f"/v2/{name}/tags/list{query}")
    assert name in refused(response, 404, "NAME_UNKNOWN")


def test_of_a_repository_without_any(registry: Registry) -> None:
    name = a_name()
    document = image()
    for blob in document.blobs:
        registry.push_blob(name, blob)
    assert registry.put_manifest(name, document.digest, document).status_code == 201
    assert registry.tags(name) == []


def test_of_a_repository_whose_last_manifest_was_deleted(registry: Registry) -> None:
    name = a_name()
    document = registry.push(name, "only", image())
    assert registry.ask("DELETE", f"/v2/{name}/manifests/{document.digest}").status_code == 202
    for response in registry.everywhere("GET", f"/v2/{name}/tags/list"):
        assert (response.status_code, response.json()) == (200, {"name": name, "tags": []})
    assert name in registry.get("/v2/_catalog?n=1000").json()["repositories"]
    registry.push(name, "again", document)
    assert registry.tags(name) == ["again"]
