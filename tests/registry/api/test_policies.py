"""What an operator allows: deletes, writing at all, and the addresses in answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.registry import (
    Blob,
    Registry,
    Serving,
    digest_of,
    image,
    refused,
    request_head,
)

ABSENT = digest_of(b"absent")
DRIVERS = ["filesystem", "inmemory"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_deletes_switched_off(serving: Serving, driver: str) -> None:
    with serving(driver=driver, storage={"delete": {"enabled": False}}) as registry:
        document = registry.push_image("a", "latest", b"layer")
        location = registry.start("a")
        with registry.nothing_stored():
            for path, allow in {
                "/v2/a/manifests/latest": "GET, HEAD, PUT",
                f"/v2/a/manifests/{document.digest}": "GET, HEAD, PUT",
                "/v2/a/manifests/absent": "GET, HEAD, PUT",
                f"/v2/a/blobs/{document.blobs[1].digest}": "GET, HEAD",
                f"/v2/a/blobs/{ABSENT}": "GET, HEAD",
            }.items():
                response = registry.ask("DELETE", path)
                assert "storage.delete.enabled" in refused(response, 405, "UNSUPPORTED")
                assert response.headers["Allow"] == allow
        assert registry.ask("DELETE", location).status_code == 204
        assert registry.get("/v2/a/manifests/latest").content == document.content


def test_read_only(serving: Serving) -> None:
    with serving() as registry:
        document = registry.push_image("a", "latest", b"layer")
        location = registry.start("a")
    maintenance = {"readonly": {"enabled": True}}
    with serving(storage={"maintenance": maintenance}) as registry, registry.nothing_stored():
        writes: list[tuple[str, str, str]] = [
            ("POST", "/v2/a/blobs/uploads/", ""),
            ("POST", f"/v2/b/blobs/uploads/?mount={document.blobs[1].digest}&from=a", ""),
            ("PATCH", location, "GET, HEAD"),
            ("PUT", f"{location}&digest={ABSENT}", "GET, HEAD"),
            ("DELETE", location, "GET, HEAD"),
            ("PUT", "/v2/a/manifests/new", "GET, HEAD"),
            ("DELETE", "/v2/a/manifests/latest", "GET, HEAD"),
            ("DELETE", f"/v2/a/blobs/{document.blobs[1].digest}", "GET, HEAD"),
        ]
        for method, path, allow in writes:
            response = registry.ask(method, path, content=b"" if method == "DELETE" else b"body")
            assert "read-only" in refused(response, 405, "UNSUPPORTED")
            assert response.headers["Allow"] == allow
        assert registry.get("/v2/a/manifests/latest").content == document.content
        layer = document.blobs[1]
        assert registry.get(f"/v2/a/blobs/{layer.digest}").content == layer.data
        assert registry.tags("a") == ["latest"]
        assert registry.get("/v2/_catalog").json() == {"repositories": ["a"]}
        assert registry.get(location).status_code == 204


FORWARDED = {"X_Forwarded_Proto": "https", "X_Forwarded_Host": "registry.example.com"}
TRUSTED = {"trustedproxies": ["127.0.0.1"]}


@pytest.mark.parametrize(
    ("http", "headers", "start"),
    [
        ({}, {}, "/v2/a"),
        ({}, FORWARDED, "/v2/a"),
        ({}, {"X_Forwarded_Proto": "javascript", "X_Forwarded_Host": "evil.example"}, "/v2/a"),
        ({}, {"Forwarded": "proto=https;host=evil.example"}, "/v2/a"),
        (TRUSTED, FORWARDED, "https://registry.example.com/v2/a"),
        (TRUSTED, {"X_Forwarded_Proto": "javascript", "X_Forwarded_Host": "evil.example"}, "/v2/a"),
        (
            TRUSTED,
            {"Forwarded": 'for=192.0.2.1;proto=https;host="registry.example.com:444"'},
            "https://registry.example.com:444/v2/a",
        ),
        ({**TRUSTED, "relativeurls": True}, FORWARDED, "/v2/a"),
        ({"host": "https://registry.example.com"}, {}, "https://registry.example.com/v2/a"),
        ({"host": "https://own.example"}, FORWARDED, "https://own.example/v2/a"),
        ({"host": "https://own.example", "relativeurls": True}, FORWARDED, "/v2/a"),
        ({"prefix": "/registry/"}, {}, "/registry/v2/a"),
        (
            {"prefix": "/registry/", **TRUSTED},
            FORWARDED,
            "https://registry.example.com/registry/v2/a",
        ),
    ],
)
def test_the_address_in_a_location(
    serving: Serving, http: dict[str, Any], headers: dict[str, str], start: str
) -> None:
    prefix = str(http.get("prefix", "")).rstrip("/")
    blob = Blob(b"content")
    with serving(http=http) as registry:
        target = f"{prefix}/v2/a/blobs/uploads/"
        answers = [registry.raw(request_head("POST", target, Content_Length=0, **headers))]
        head = request_head("POST", f"{target}?digest={blob.digest}", Content_Length=7, **headers)
        answers.append(registry.raw(head + blob.data))
        document = image(config=blob)
        head = request_head(
            "PUT",
            f"{prefix}/v2/a/manifests/latest",
            Content_Type=document.media_type,
            Content_Length=len(document.content),
            **headers,
        )
        answers.append(registry.raw(head + document.content))
        assert [answer.status_code for answer in answers] == [202, 201, 201]
        locations = [answer.headers["Location"] for answer in answers]
        assert locations[0].startswith(f"{start}/blobs/uploads/")
        assert locations[1] == f"{start}/blobs/{blob.digest}"
        assert locations[2] == f"{start}/manifests/{document.digest}"


def test_links_to_pages_are_below_the_prefix(serving: Serving) -> None:
    with serving(http={"prefix": "/registry/"}) as registry:
        assert registry.get("/v2/").status_code == 404
        below = Registry(f"{registry.url}/registry")
        for tag in ("one", "two"):
            assert registry.get("/registry/v2/").status_code == 200
            location = registry.ask("POST", "/registry/v2/a/blobs/uploads/").headers["Location"]
            assert registry.finish(location, digest_of(b"{}"), b"{}").status_code == 201
            document = image(config=Blob(b"{}"))
            assert below.put_manifest("a", tag, document).status_code == 201
        below.close()
        link = registry.get("/registry/v2/a/tags/list?n=1").headers["Link"]
        assert link == '</registry/v2/a/tags/list?last=one&n=1>; rel="next"'
        assert registry.get("/registry/v2/a/tags/list?last=one&n=1").json()["tags"] == ["two"]


def test_a_page_of_another_origin_may_ask_whether_it_may(serving: Serving) -> None:
    """Web pages that list and delete images rely on it; a browser never sends credentials there."""
    headers = {
        "Access-Control-Allow-Origin": ["https://ui.example"],
        "Access-Control-Allow-Methods": ["GET, HEAD, OPTIONS, DELETE"],
    }
    asked = {"Origin": "https://ui.example", "Access-Control-Request-Method": "DELETE"}
    silly = {"silly": {"realm": "https://tokens.example", "service": "test"}}
    with serving(http={"headers": headers}, auth=silly) as registry:
        answer = registry.ask("OPTIONS", "/v2/a/manifests/x", headers=asked)
        assert answer.status_code == 200
        for name, (value,) in headers.items():
            assert answer.headers[name] == value
        assert registry.ask("DELETE", "/v2/a/manifests/x").status_code == 401


def test_headers_of_the_operator(serving: Serving) -> None:
    headers = {"X-Own": ["value"], "X-Content-Type-Options": ["nosniff"]}
    with serving(http={"headers": headers}) as registry:
        for path in ("/v2/", "/v2/UPPER/tags/list", "/elsewhere"):
            answer = registry.get(path)
            assert answer.headers.get_list("X-Own") == ["value"]
            assert answer.headers.get_list("X-Content-Type-Options") == ["nosniff"]
