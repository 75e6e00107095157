"""end-1, the catalog, what every answer carries, and paths that are nobody's."""

from __future__ import annotations

import re

import pytest

from tests.support.registry import Registry, Serving, a_name, image, refused


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_the_base(registry: Registry, path: str) -> None:
    response = registry.get(path)
    assert response.status_code == 200
    assert response.content == b"{}"
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Content-Length"] == "2"
    head = registry.ask("HEAD", path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["Content-Length"] == "2"


def test_the_root_is_there_for_probes(registry: Registry) -> None:
    response = registry.get("/")
    assert (response.status_code, response.content) == (200, b"")


def test_every_answer_says_which_api_it_is(registry: Registry) -> None:
    for path in ("/v2/", "/v2/a/tags/list", "/v2/UPPER/tags/list", "/v2/none"):
        headers = registry.get(path).headers
        assert headers["Docker-Distribution-API-Version"] == "registry/2.0"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", headers["X-Request-Id"])


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/v2/a", "NAME_UNKNOWN"),
        ("/v2/_catalog/", "NAME_UNKNOWN"),
        ("/v2/a/tags/list/", "NAME_UNKNOWN"),
        ("/v2/a/blobs/", "DIGEST_INVALID"),
        ("/v2x", "UNKNOWN"),
        ("/v1/_ping", "UNKNOWN"),
        ("/etc/passwd", "UNKNOWN"),
    ],
)
def test_paths_that_are_nothing(registry: Registry, path: str, code: str) -> None:
    refused(registry.get(path), 400 if code == "DIGEST_INVALID" else 404, code)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/v2/", "GET, HEAD"),
        ("DELETE", "/v2/_catalog", "GET, HEAD"),
        ("POST", "/v2/a/tags/list", "GET, HEAD"),
        ("POST", "/v2/a/manifests/x", "DELETE, GET, HEAD, PUT"),
        ("PUT", "/v2/a/blobs/sha256:" + "0" * 64, "DELETE, GET, HEAD"),
        ("GET", "/v2/a/blobs/uploads/", "POST"),
        ("POST", "/v2/a/referrers/sha256:" + "0" * 64, "GET, HEAD"),
    ],
)
def test_methods_that_a_resource_does_not_have(
    registry: Registry, method: str, path: str, allow: str
) -> None:
    response = registry.ask(method, path)
    assert method in refused(response, 405, "UNSUPPORTED")
    assert response.headers["Allow"] == allow


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/v2/", "GET, HEAD"),
        ("/v2/_catalog", "GET, HEAD"),
        ("/v2/a/manifests/x", "DELETE, GET, HEAD, PUT"),
        ("/v2/a/blobs/uploads/", "POST"),
    ],
)
def test_options_tells_the_methods(registry: Registry, path: str, allow: str) -> None:
    response = registry.ask("OPTIONS", path)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["Allow"] == allow
    refused(registry.ask("OPTIONS", "/v2/UPPER/tags/list"), 400, "NAME_INVALID")


def catalog(registry: Registry, query: str = "") -> tuple[list[str], str | None]:
    response = registry.get(f"/v2/_catalog{query}")
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"] == "application/json"
    link = response.headers.get("Link")
    repositories: list[str] = response.json()["repositories"]
    if link is None:
        return repositories, None
    match = re.fullmatch(r'<(/v2/_catalog\?last=[^&]+&n=[0-9]+)>; rel="next"', link)
    assert match is not None, link
    return repositories, match[1]


def pages(registry: Registry, size: int) -> list[list[str]]:
    found = []
    path: str | None = f"/v2/_catalog?n={size}"
    while path is not None:
        page, path = catalog(registry, path.removeprefix("/v2/_catalog"))
        found.append(page)
    return found


def test_the_catalog_in_pages(registry: Registry) -> None:
    """In the order of `name/`: a page can begin anywhere without a look at what comes before."""
    base = a_name("catalog")
    names = [f"{base}{rest}" for rest in ("-b", "-b/c", "", "/b", "/b/c", "0")]
    for name in names:
        registry.push(name, "latest", image())
    whole, more = catalog(registry, "?n=1000")
    assert more is None
    assert [name for name in whole if name.startswith(base)] == names
    assert whole == sorted(whole, key=lambda name: f"{name}/")
    for size in (1, 4, len(whole) - 1, len(whole)):
        found = pages(registry, size)
        assert [name for page in found for name in page] == whole
        assert [len(page) for page in found[:-1]] == [size] * (len(found) - 1)
        assert found[-1]
    assert catalog(registry, f"?n=2&last={base}")[0][0] == f"{base}/b"
    assert catalog(registry, "?n=0") == ([], None)
    assert catalog(registry, "?n=10000000000")[0] == whole


def test_a_repository_with_blobs_only_is_not_in_the_catalog(registry: Registry) -> None:
    name = a_name()
    registry.push_blob(name, b"blob")
    assert name not in catalog(registry, "?n=1000")[0]


def test_the_operators_limits(serving: Serving) -> None:
    with serving(catalog={"maxentries": 2}, tags={"maxtags": 2}) as registry:
        for name in ("a", "b", "c"):
            registry.push(name, "latest", image())
        for query in ("", "?n=3", "?n=1000000"):
            assert catalog(registry, query) == (["a", "b"], "/v2/_catalog?last=b&n=2")
        for tag in ("x", "y"):
            registry.push("a", tag, image())
        assert registry.tags("a") == ["latest", "x", "y"]
        response = registry.get("/v2/a/tags/list?n=3")
        assert response.json()["tags"] == ["latest", "x"]
        assert response.headers["Link"] == '</v2/a/tags/list?last=x&n=2>; rel="next"'
