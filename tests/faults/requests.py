"""The requests that clients make, each with what it promises and what a client does if it failed.

Every request of the API that reaches the storage is here, in the variants that take another way through
it. A script is tried with a fault at each call that it makes to the driver.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.content import (
    APP,
    BLOB,
    HALF,
    INDEX,
    LAYERS,
    LIB,
    NEW,
    OLD,
    OTHER,
    SIGNED,
    SIGNED_TOO,
    Acknowledged,
    begun,
    closing,
    manifest_put,
    push_blob,
    sent,
)
from tests.faults.inprocess import Answer, Registry, Request
from tests.support.images import random_bytes, sha256, sha512

DIGEST = sha256(BLOB)
REST = {"Content-Range": f"{HALF}-{len(BLOB) - 1}"}
ONLY_LIB = random_bytes(120_000, "only in the other repository")
LARGE_LINK = f"/v2/{APP}/blobs/{sha256(LAYERS[2])}"


def _nothing(registry: Registry) -> str:
    return ""


def _unchanged(known: Acknowledged) -> None:
    """The request changes nothing that was acknowledged."""


def _same(registry: Registry, answer: Answer) -> None:
    """The answer says it all."""


def _never(registry: Registry, answer: Answer) -> None:
    raise AssertionError(f"the same request again was answered {answer}")


@dataclass(frozen=True, slots=True)
class Script:
    """One request, what leads to it, and what follows.

    `loosen` takes out of what is acknowledged that which the request may change; `settle` puts in what
    a success has acknowledged. `effect` fails unless all that a success promises is there; it may go on
    with what the answer offers. `again` is what a client does whose retry of the same request was
    answered with one of `tolerated`.
    """

    name: str
    success: int
    ask: Callable[[str], Request]
    effect: Callable[[Registry, Answer], None]
    prepare: Callable[[Registry], str] = _nothing
    loosen: Callable[[Acknowledged], None] = _unchanged
    settle: Callable[[Acknowledged], None] = _unchanged
    tolerated: frozenset[int] = frozenset()
    again: Callable[[Registry, Answer], None] = _never
    removed: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return self.name


def _pulled(content: bytes, digest: str, name: str = APP) -> Callable[[Registry, Answer], None]:
    def check(registry: Registry, answer: Answer) -> None:
        assert answer.headers.get("docker-content-digest") == digest, str(answer)
        found = sent(registry, Request("GET", f"/v2/{name}/blobs/{digest}"), 200)
        assert found.content == content

    return check


def _blob(content: bytes, digest: str, name: str = APP) -> Callable[[Acknowledged], None]:
    def settle(known: Acknowledged) -> None:
        known.blobs[name, digest] = content

    return settle


def _goes_on(registry: Registry, answer: Answer) -> None:
    """An upload of BLOB can be finished from where the answer says that it is."""
    location, held = answer.headers["location"], answer.headers["range"]
    if answer.status == 416:
        offset = int(answer.json()["errors"][0]["detail"]["offset"])
        status = sent(registry, Request("GET", location), 204)
        assert status.headers["range"] == held == f"0-{max(offset - 1, 0)}"
    else:
        offset = 0 if held == "0-0" else int(held[2:]) + 1
    done = sent(registry, closing(location, DIGEST, BLOB[offset:]), 201)
    _pulled(BLOB, DIGEST)(registry, done)


def _anew(registry: Registry, answer: Answer) -> None:
    """The upload was given up, or stands where the client does not expect it."""
    if answer.status == 416:
        _goes_on(registry, answer)
    else:
        assert answer.json()["errors"][0]["code"] == "BLOB_UPLOAD_UNKNOWN", str(answer)
    push_blob(registry, BLOB)
    found = sent(registry, Request("GET", f"/v2/{APP}/blobs/{DIGEST}"), 200)
    assert found.content == BLOB


def _gone_on_to(size: int) -> Callable[[Registry, Answer], None]:
    def check(registry: Registry, answer: Answer) -> None:
        assert answer.headers["range"] == f"0-{size - 1}", str(answer)
        _goes_on(registry, answer)

    return check


def _halfway(registry: Registry) -> str:
    answer = sent(registry, Request("PATCH", begun(registry), BLOB[:HALF]), 202)
    return answer.headers["location"]


def _all_there(registry: Registry) -> str:
    answer = sent(registry, Request("PATCH", _halfway(registry), BLOB[HALF:], REST), 202)
    return answer.headers["location"]


def _asked_for(registry: Registry) -> str:
    return sent(registry, Request("GET", _all_there(registry)), 204).headers["location"]


def _finished(registry: Registry) -> str:
    location = _all_there(registry)
    sent(registry, closing(location, DIGEST), 201)
    return location


def _elsewhere(registry: Registry) -> str:
    push_blob(registry, BLOB, LIB)
    return begun(registry)


def _only_in_lib(registry: Registry) -> str:
    push_blob(registry, ONLY_LIB, LIB)
    return ""


def _cancelled(registry: Registry, answer: Answer) -> None:
    """`sent` has checked the status; that nothing is left is the business of the tree's check."""


def _put(
    name: str,
    prepare: Callable[[Registry], str],
    content: bytes = b"",
    digest: str = DIGEST,
    whole: bytes = BLOB,
    tolerated: frozenset[int] = frozenset(),
) -> Script:
    return Script(
        name,
        201,
        lambda location: closing(location, digest, content),
        _pulled(whole, digest),
        prepare,
        settle=_blob(whole, digest),
        tolerated=tolerated,
        again=_anew,
    )


_LOST = frozenset({404, 416})
"""A body that was stored once is not sent twice to the same place, and a failed sync ends an upload."""

_UPLOADS = (
    Script(
        "post",
        202,
        lambda _: Request("POST", f"/v2/{APP}/blobs/uploads/"),
        _goes_on,
    ),
    Script(
        "post the whole blob",
        201,
        lambda _: Request("POST", f"/v2/{APP}/blobs/uploads/?digest={DIGEST}", BLOB),
        _pulled(BLOB, DIGEST),
        settle=_blob(BLOB, DIGEST),
    ),
    Script(
        "post the whole blob by sha512",
        201,
        lambda _: Request("POST", f"/v2/{APP}/blobs/uploads/?digest={sha512(BLOB)}", BLOB),
        _pulled(BLOB, sha512(BLOB)),
        settle=_blob(BLOB, sha512(BLOB)),
    ),
    Script(
        "mount",
        201,
        lambda _: Request("POST", f"/v2/{APP}/blobs/uploads/?mount={sha256(ONLY_LIB)}&from={LIB}"),
        _pulled(ONLY_LIB, sha256(ONLY_LIB)),
        _only_in_lib,
        settle=_blob(ONLY_LIB, sha256(ONLY_LIB)),
    ),
    Script(
        "mount from anywhere",
        201,
        lambda _: Request("POST", f"/v2/{APP}/blobs/uploads/?mount={sha256(ONLY_LIB)}"),
        _pulled(ONLY_LIB, sha256(ONLY_LIB)),
        _only_in_lib,
        settle=_blob(ONLY_LIB, sha256(ONLY_LIB)),
    ),
    Script(
        "patch",
        202,
        lambda location: Request("PATCH", location, BLOB),
        _gone_on_to(len(BLOB)),
        begun,
        tolerated=_LOST,
        again=_anew,
    ),
    Script(
        "patch the second chunk",
        202,
        lambda location: Request("PATCH", location, BLOB[HALF:], REST),
        _gone_on_to(len(BLOB)),
        _halfway,
        tolerated=_LOST,
        again=_anew,
    ),
    _put("put the whole blob", begun, BLOB, tolerated=_LOST),
    _put("put the rest", _halfway, BLOB[HALF:], tolerated=_LOST),
    _put("put", _all_there),
    # What status() saw may not be durable, so this syncs, and the token proves nothing.
    _put("put after a look at the status", _asked_for, tolerated=frozenset({404})),
    _put("put by sha512", _all_there, digest=sha512(BLOB), tolerated=frozenset({404})),
    _put("put nothing", begun, digest=sha256(b""), whole=b"", tolerated=_LOST),
    _put("put a blob that is stored", _elsewhere, BLOB, tolerated=_LOST),
    _put("put once more", _finished),
    Script(
        "upload status",
        204,
        lambda location: Request("GET", location),
        _gone_on_to(HALF),
        _halfway,
    ),
    Script(
        "cancel",
        204,
        lambda location: Request("DELETE", location),
        _cancelled,
        _halfway,
        tolerated=frozenset({404}),
        again=_cancelled,
    ),
)


def _stored(
    content: bytes, *tags: str, name: str = APP, referrer_of: bytes | None = None
) -> Callable[[Registry, Answer], None]:
    def check(registry: Registry, answer: Answer) -> None:
        for reference in (sha256(content), *tags):
            path = f"/v2/{name}/manifests/{reference}"
            assert sent(registry, Request("GET", path), 200).content == content
        if referrer_of is not None:
            path = f"/v2/{name}/referrers/{sha256(referrer_of)}"
            listed = sent(registry, Request("GET", path), 200).json()["manifests"]
            assert sha256(content) in {each["digest"] for each in listed}

    return check


def _set(
    content: bytes, *tags: str, referrer_of: bytes | None = None
) -> Callable[[Acknowledged], None]:
    def settle(known: Acknowledged) -> None:
        known.manifests[APP, sha256(content)] = content
        for tag in tags:
            known.tags[APP, tag] = {content}
        if referrer_of is not None:
            known.referrers[APP, sha256(referrer_of)].add(sha256(content))

    return settle


def _may_set(content: bytes, *tags: str) -> Callable[[Acknowledged], None]:
    def loosen(known: Acknowledged) -> None:
        for tag in tags:
            known.tags[APP, tag] = known.tags.get((APP, tag), {None}) | {content}

    return loosen


def _manifest(
    name: str,
    content: bytes,
    reference: str,
    *tags: str,
    referrer_of: bytes | None = None,
    headers: dict[str, str] | None = None,
    tolerated: frozenset[int] = frozenset(),
) -> Script:
    def ask(_: str) -> Request:
        plain = manifest_put(content, reference)
        return Request("PUT", plain.url, content, {**plain.headers, **(headers or {})})

    effect = _stored(content, *tags, referrer_of=referrer_of)
    return Script(
        name,
        201,
        ask,
        effect,
        loosen=_may_set(content, *tags),
        settle=_set(content, *tags, referrer_of=referrer_of),
        tolerated=tolerated,
        again=effect,
    )


def _gone(*paths: str) -> Callable[[Registry, Answer], None]:
    def check(registry: Registry, answer: Answer) -> None:
        for path in paths:
            sent(registry, Request("GET", path), 404)

    return check


def _deletion(
    name: str,
    path: str,
    *gone: str,
    loosen: Callable[[Acknowledged], None],
    settle: Callable[[Acknowledged], None] = _unchanged,
    removed: str = "",
    tolerated: frozenset[int] = frozenset({404}),
) -> Script:
    """The retry may find nothing left to delete, but then there must be nothing left."""
    effect = _gone(f"/v2/{path}", *gone)
    return Script(
        name,
        202,
        lambda _: Request("DELETE", f"/v2/{path}"),
        effect,
        loosen=loosen,
        settle=settle,
        tolerated=tolerated,
        again=effect,
        removed=frozenset({removed} - {""}),
    )


def _may_lose_image(known: Acknowledged) -> None:
    del known.manifests[LIB, sha256(OLD)]
    for tag in ("stable", "latest"):
        known.tags[LIB, tag] = {OLD, None}


def _lost_image(known: Acknowledged) -> None:
    for tag in ("stable", "latest"):
        known.tags[LIB, tag] = {None}


def _may_lose_tag(known: Acknowledged) -> None:
    known.tags[LIB, "stable"] = {OLD, None}


def _lost_tag(known: Acknowledged) -> None:
    known.tags[LIB, "stable"] = {None}


def _may_lose_signature(known: Acknowledged) -> None:
    del known.manifests[APP, sha256(SIGNED)]
    known.tags[APP, "signed"] = {SIGNED, None}
    known.referrers[APP, sha256(OLD)].clear()


def _lost_signature(known: Acknowledged) -> None:
    known.tags[APP, "signed"] = {None}


def _lost_blob(known: Acknowledged) -> None:
    del known.blobs[LIB, sha256(LAYERS[2])]


def _no_signature(registry: Registry, answer: Answer) -> None:
    _gone(f"/v2/{APP}/manifests/{sha256(SIGNED)}")(registry, answer)
    listed = sent(registry, Request("GET", f"/v2/{APP}/referrers/{sha256(OLD)}"), 200)
    assert listed.json()["manifests"] == []


_MANIFESTS = (
    _manifest("push a new tag", NEW, "new", "new"),
    _manifest("overwrite a tag", NEW, "stable", "stable"),
    _manifest("push the same again", OLD, "stable", "stable"),
    _manifest("push by digest", NEW, sha256(NEW)),
    _manifest(
        "push by digest with tags",
        NEW,
        f"{sha256(NEW)}?tag=stable&tag=new",
        "stable",
        "new",
    ),
    _manifest("push an index", INDEX, "latest", "latest"),
    _manifest("push with a subject", SIGNED_TOO, sha256(SIGNED_TOO), referrer_of=OLD),
    _manifest(
        "overwrite a tag if it is the old one",
        NEW,
        "stable",
        "stable",
        headers={"If-Match": f'"{sha256(OLD)}"'},
        tolerated=frozenset({412}),
    ),
    _manifest(
        "push a tag if there is none",
        NEW,
        "new",
        "new",
        headers={"If-None-Match": "*"},
        tolerated=frozenset({412}),
    ),
    _deletion(
        "delete a tag",
        f"{LIB}/manifests/stable",
        loosen=_may_lose_tag,
        settle=_lost_tag,
    ),
    _deletion(
        "delete a manifest with its tags",
        f"{LIB}/manifests/{sha256(OLD)}",
        f"/v2/{LIB}/manifests/stable",
        f"/v2/{LIB}/manifests/latest",
        loosen=_may_lose_image,
        settle=_lost_image,
    ),
    Script(
        "delete a manifest with a subject",
        202,
        lambda _: Request("DELETE", f"/v2/{APP}/manifests/{sha256(SIGNED)}"),
        _no_signature,
        loosen=_may_lose_signature,
        settle=_lost_signature,
        tolerated=frozenset({404}),
        again=_no_signature,
    ),
    _deletion(
        "delete a blob",
        f"{LIB}/blobs/{sha256(LAYERS[2])}",
        loosen=_lost_blob,
        removed=sha256(LAYERS[2]),
    ),
)


def _says(content: bytes) -> Callable[[Registry, Answer], None]:
    def check(registry: Registry, answer: Answer) -> None:
        assert answer.content == content, str(answer)

    return check


def _lists(key: str, *expected: str) -> Callable[[Registry, Answer], None]:
    def check(registry: Registry, answer: Answer) -> None:
        assert answer.json()[key] == list(expected), str(answer)

    return check


def _refers(registry: Registry, answer: Answer) -> None:
    assert [each["digest"] for each in answer.json()["manifests"]] == [sha256(SIGNED)]


def _has_length(size: int) -> Callable[[Registry, Answer], None]:
    def check(registry: Registry, answer: Answer) -> None:
        assert answer.headers["content-length"] == str(size), str(answer)

    return check


def _ask_for_referrers(registry: Registry) -> str:
    sent(registry, Request("GET", f"/v2/{APP}/referrers/{sha256(OLD)}"), 200)
    return ""


def _question(
    name: str,
    path: str,
    effect: Callable[[Registry, Answer], None],
    *,
    method: str = "GET",
    status: int = 200,
    headers: dict[str, str] | None = None,
    prepare: Callable[[Registry], str] = _nothing,
) -> Script:
    request = Request(method, path, headers=headers or {})
    return Script(name, status, lambda _: request, effect, prepare)


_TAGS = ("index", "latest", "other", "signed", "stable")
_REFERRERS = f"/v2/{APP}/referrers/{sha256(OLD)}"
_QUESTIONS = (
    _question("list the tags", f"/v2/{APP}/tags/list", _lists("tags", *_TAGS)),
    _question("list no tags", f"/v2/{APP}/tags/list?n=0", _lists("tags")),
    _question("list the catalog", "/v2/_catalog", _lists("repositories", APP, LIB)),
    _question("list referrers for the first time", _REFERRERS, _refers),
    _question("list referrers", _REFERRERS, _refers, prepare=_ask_for_referrers),
    _question("get a manifest by its tag", f"/v2/{APP}/manifests/other", _says(OTHER)),
    _question("get a manifest by its digest", f"/v2/{APP}/manifests/{sha256(OLD)}", _says(OLD)),
    _question(
        "head of a manifest",
        f"/v2/{APP}/manifests/stable",
        _has_length(len(OLD)),
        method="HEAD",
    ),
    _question("get a blob", LARGE_LINK, _says(LAYERS[2])),
    _question(
        "get a part of a blob",
        LARGE_LINK,
        _says(LAYERS[2][100:200]),
        status=206,
        headers={"Range": "bytes=100-199"},
    ),
    _question("head of a blob", LARGE_LINK, _has_length(len(LAYERS[2])), method="HEAD"),
)

SCRIPTS = (*_UPLOADS, *_MANIFESTS, *_QUESTIONS)
