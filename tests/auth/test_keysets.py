"""Where keys come from: files that change, servers that fail, certificates that lead somewhere or not."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from auth import fetching
from auth.certificates import CertificateKeys
from auth.fetching import FetchFailed, check_url, fetch
from auth.jwk import KeysUnavailable, from_public, libtrust_fingerprint, thumbprint
from auth.keysets import REFRESH, CombinedKeys, FileKeys, RemoteKeys, parse_jwks
from auth.tokens import TokenInvalid, Verifier
from auth.watched import Unusable
from tests.auth import tokenmaker as make
from tests.auth.tokenmaker import Clock, Server, claims, header, sign


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    try:
        yield made
    finally:
        made.close()


def serve(server: Server, **keys: make.Private) -> None:
    server.answer = (200, {}, make.jwks(**keys))


def replace(path: Path, data: bytes) -> None:
    path.with_suffix(".new").write_bytes(data)
    path.with_suffix(".new").rename(path)


def eventually(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def settled(keys: RemoteKeys) -> None:
    eventually(lambda: keys._running is None)


def test_the_thumbprint_is_that_of_rfc_7638() -> None:
    document = b"""{"keys": [{"kty": "RSA", "alg": "RS256", "e": "AQAB",
      "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"
    }]}"""  # noqa: E501 - the RFC's own example
    assert list(parse_jwks(document, "rfc")) == ["NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"]


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    path.write_bytes(make.jwks(k1=make.RSA))
    keys = FileKeys(str(path), clock=clock)
    assert keys.find("k1") is not None
    replace(path, make.jwks(k2=make.P256))
    clock.now += 1
    assert keys.at_hand("k1") is None
    assert keys.find("k1") is None
    assert keys.find("k2") is not None
    assert keys.at_hand("k2") is not None


@pytest.mark.parametrize("broken", [b"", b"[]", b'{"keys": {}}', b'{"keys": [{}]}', b'{"keys": ['])
def test_a_broken_file_keeps_the_last_good_one(
    tmp_path: Path, broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    path.write_bytes(make.jwks(k1=make.RSA))
    keys = FileKeys(str(path), clock=clock)
    replace(path, broken)
    clock.now += 1
    assert keys.find("k1") is not None
    assert keys.problem is not None
    assert [r.levelno for r in caplog.records if str(path) in r.getMessage()][-1] == logging.ERROR
    with pytest.raises(Unusable):
        FileKeys(str(path))


def test_keys_that_cannot_serve_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    weak = {"kty": "RSA", "kid": "weak", "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQ", "e": "AQAB"}
    rows: list[Any] = [
        weak,
        {"kty": "oct", "kid": "short", "k": "c2hvcnQ"},
        {"kty": "oct", "k": "c" * 64},
        {"kty": "XYZ", "kid": "unknown"},
        {"kty": "EC", "crv": "secp256k1", "kid": "curve", "x": "A" * 43, "y": "A" * 43},
        {"kty": "EC", "crv": "P-256", "kid": "off the curve", "x": "A" * 43, "y": "A" * 43},
        {"kty": "RSA", "kid": "typed", "n": 5, "e": "AQAB"},
        {"kty": "RSA", "kid": 5},
        "not a key",
    ]
    good = make.jwks(k1=make.RSA)[len(b'{"keys":[') : -2]
    document = make.dumps({"keys": rows})[:-2] + b"," + good + b"," + good + b"]}"
    assert list(parse_jwks(document, "set")) == ["k1"]
    assert len(caplog.records) == len(rows) + 1
    with pytest.raises(ValueError, match="no key"):
        parse_jwks(make.dumps({"keys": rows}), "set")


def test_private_members_are_not_kept() -> None:
    private = {"kty": "oct", "kid": "k", "k": "c" * 64, "d": "secret"}
    public = {**json.loads(make.jwks(k1=make.P256))["keys"][0], "d": "A" * 43}
    keys = parse_jwks(make.dumps({"keys": [private, public]}), "set")
    assert not hasattr(keys["k1"].public, "private_numbers")


def test_a_remote_set_is_fetched_once_and_refreshed(server: Server) -> None:
    serve(server, k1=make.RSA)
    clock = Clock()
    keys = RemoteKeys(server.url + "/jwks", clock=clock)
    assert server.asked == []
    for _ in range(20):
        assert keys.find("k1") is not None
        assert keys.at_hand("k1") is not None
    assert server.asked == ["/jwks"]
    clock.now += REFRESH
    assert keys.at_hand("k1") is not None
    settled(keys)
    assert len(server.asked) == 2


def test_a_key_that_was_taken_away_is_not_trusted_a_minute_later(server: Server) -> None:
    serve(server, k1=make.RSA, k2=make.P256)
    clock = Clock()
    keys = RemoteKeys(server.url, clock=clock)
    assert keys.find("k1") is not None
    serve(server, k2=make.P256)
    clock.now += 2 * REFRESH  # without a request in between
    assert keys.at_hand("k1") is None
    assert keys.find("k1") is None
    assert keys.at_hand("k2") is not None


def test_an_unknown_key_is_looked_for_once_in_a_while_over_all_requests(server: Server) -> None:
    serve(server, k1=make.RSA)
    clock = Clock()
    keys = RemoteKeys(server.url, clock=clock)
    assert keys.find("k1") is not None
    serve(server, k1=make.RSA, k2=make.P256)
    clock.now += 1
    assert keys.find("k2") is not None, "a new key serves at once"
    threads = [threading.Thread(target=keys.find, args=(f"x{n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    clock.now += REFRESH - 1
    assert keys.find("x") is None
    assert len(server.asked) == 2
    clock.now += 1
    assert keys.find("x") is None
    assert keys.find("y") is None
    assert len(server.asked) == 3


def test_the_last_good_set_stays_while_the_server_is_down(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    serve(server, k1=make.RSA)
    clock = Clock()
    keys = RemoteKeys(server.url, clock=clock)
    assert keys.find("k1") is not None
    answers: tuple[tuple[int, dict[str, str], bytes], ...] = (
        (500, {}, b""),
        (200, {}, b"<html>"),
        (200, {}, b'{"keys":[{}]}'),
        (404, {}, b""),
    )
    for answer in answers:
        server.answer = answer
        clock.now += 3 * REFRESH
        assert keys.find("k1") is not None
        settled(keys)
        assert keys.problem is not None
        assert keys.url in caplog.text
    serve(server, k2=make.P256)
    clock.now += 3 * REFRESH
    assert keys.find("k1") is None
    assert keys.problem is None


def test_nobody_waits_for_a_refresh_while_the_set_is_young(server: Server) -> None:
    serve(server, k1=make.RSA)
    clock = Clock()
    keys = RemoteKeys(server.url, clock=clock)
    assert keys.find("k1") is not None
    server.gate.clear()
    clock.now += REFRESH
    begun = time.monotonic()
    assert keys.find("k1") is not None
    assert keys.at_hand("k1") is not None
    assert time.monotonic() - begun < 2
    server.gate.set()
    settled(keys)


def test_waiting_is_bounded(server: Server) -> None:
    serve(server, k1=make.RSA)
    server.gate.clear()
    keys = RemoteKeys(server.url, timeout=0.1)
    begun = time.monotonic()
    with pytest.raises(KeysUnavailable):
        keys.find("k1")
    assert time.monotonic() - begun < 2
    server.gate.set()
    settled(keys)
    assert keys.find("k1") is not None


def test_without_any_set_nothing_can_be_said() -> None:
    clock = Clock()
    asked: list[str] = []

    def refuse(url: str) -> bytes:
        asked.append(url)
        raise FetchFailed("cannot be reached: refused")

    keys = RemoteKeys("https://keys.example.com/", fetch=refuse, clock=clock)
    for _ in range(10):
        with pytest.raises(KeysUnavailable):
            keys.find("k1")
    assert len(asked) == 1
    clock.now += 5
    with pytest.raises(KeysUnavailable):
        keys.find("k1")
    assert len(asked) == 2


def test_a_fetch_that_fails_in_an_unexpected_way_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = Clock()

    def burst(url: str) -> bytes:
        raise ZeroDivisionError

    keys = RemoteKeys("https://keys.example.com/", fetch=burst, clock=clock)
    for _ in range(2):
        with pytest.raises(KeysUnavailable):
            keys.find("k1")
        settled(keys)
        clock.now += 5
    assert caplog.text.count("unexpected") == 2


@pytest.mark.parametrize(
    "url",
    [
        "http://keys.example.com/",
        "http://127.0.0.1.example.com/",
        "http://169.254.169.254/",
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "https://user:password@example.com/",
        "https://",
        "https://example.com:port/",
        "https://example.com/\r\nX: y",
        "https://example.com/a b",
        "//example.com/",
        "",
    ],
)
def test_urls_that_are_not_asked(url: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        check_url(url)
    with pytest.raises(FetchFailed):
        fetch(url)
    with pytest.raises(ValueError):
        RemoteKeys(url)


@pytest.mark.parametrize("url", ["https://a.example/x?y=z", "http://[::1]:8/", "http://localhost/"])
def test_urls_that_are_asked(url: str) -> None:
    assert check_url(url) == url


def test_what_a_server_may_not_do(server: Server) -> None:
    other = Server()
    try:
        for target in (
            other.url,
            "http://localhost:1/",
            "file:///etc/passwd",
            "https://127.0.0.1/",
        ):
            server.answer = (302, {"Location": target}, b"")
            with pytest.raises(FetchFailed, match=r"redirect|answers"):
                fetch(server.url)
        assert other.asked == []
    finally:
        other.close()
    server.answer = (302, {"Location": "/again"}, b"")
    with pytest.raises(FetchFailed):
        fetch(server.url)
    assert len(server.asked) < 12
    server.answer = (200, {}, b"x" * (fetching.LIMIT + 1))
    with pytest.raises(FetchFailed, match="more than"):
        fetch(server.url)
    server.answer = (200, {"Content-Length": "100"}, b"short")
    with pytest.raises(FetchFailed):
        fetch(server.url, timeout=1)


def test_a_redirect_on_the_same_server_is_followed(server: Server) -> None:
    answers = iter([(301, {"Location": "/there"}, b""), (200, {}, b"found")])
    original = server.asked

    class Asked(list[str]):
        def append(self, path: str) -> None:
            server.answer = next(answers)
            original.append(path)

    server.asked = Asked()
    assert fetch(server.url + "/here") == b"found"
    assert original == ["/here", "/there"]


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(FetchFailed, match="cannot be reached"):
        fetch(f"http://127.0.0.1:{make.unused_port()}/", timeout=1)


def test_the_environments_proxy_is_not_asked_for_loopback(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    server.answer = (200, {}, b"direct")
    assert fetch(server.url) == b"direct"


ROOT = make.certificate(make.RSA, "root", ca=True)
MIDDLE = make.certificate(make.P384, "middle", by=(make.RSA, ROOT), ca=True)
LEAF = make.certificate(make.P256, "leaf", by=(make.P384, MIDDLE))
ALONE = make.certificate(make.P256, "alone")


def bundle(tmp_path: Path, data: bytes) -> CertificateKeys:
    path = tmp_path / "bundle.pem"
    path.write_bytes(data)
    return CertificateKeys(str(path), wall_clock=Clock())


def es256(**changes: Any) -> str:
    return sign(header(alg="ES256", kid="x", **changes), claims(), make.P256)


def verifier(keys: CertificateKeys | CombinedKeys) -> Verifier:
    return Verifier(keys, make.ISSUER, [make.SERVICE], clock=Clock())


def test_a_certificates_key_is_known_by_both_names(tmp_path: Path) -> None:
    keys = bundle(tmp_path, b"a note\n" + make.pem(ALONE, ROOT))
    public = make.P256.public_key()
    names = thumbprint(public), libtrust_fingerprint(public)
    assert names[1].count(":") == 11
    for name in names:
        assert keys.at_hand(name) == keys.find(name) == from_public(public)
        signed = sign(header(alg="ES256", kid=name), claims(), make.P256)
        assert verifier(keys).verify(signed).subject == "alice"
    assert keys.find("alone") is None


@pytest.mark.parametrize(
    ("roots", "chain"),
    [
        ([ROOT], [LEAF, MIDDLE]),
        ([ROOT], [LEAF, MIDDLE, ROOT]),
        ([MIDDLE, ROOT], [LEAF]),
        ([ALONE], [ALONE]),
        ([ALONE, ROOT], [ALONE]),
    ],
)
def test_a_chain_that_leads_to_the_bundle(tmp_path: Path, roots: Any, chain: Any) -> None:
    verify = verifier(bundle(tmp_path, make.pem(*roots)))
    assert verify.verify(es256(x5c=make.x5c(*chain))).subject == "alice"
    assert verify.verify(es256(jwk={"x5c": make.x5c(*chain)})).subject == "alice"
    assert verify.verify_at_hand(es256(x5c=make.x5c(*chain))) is None


# What `openssl x509 -req` makes without further ado: version 1, no extensions.
PLAIN_ROOT, PLAIN_LEAF = x509.load_pem_x509_certificates(
    b"""-----BEGIN CERTIFICATE-----
MIIBHDCBwwIUdO7WgPFk1810xWggJk4rktc77nQwCgYIKoZIzj0EAwIwEDEOMAwG
A1UEAwwFcGxhaW4wIBcNMjYxMTI0MDAxNzI4WhgPMjEyNjEwMzEwMDE3MjhaMBAx
DjAMBgNVBAMMBXBsYWluMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaeIJakH5
CnbfOpKUbIGawsz0OCCObzKIY18dHLCn34/CPs2Fm1PCbVJBqwVPqcTPtAhkyvc6
0m6xLtYz4cZQwTAKBggqhkjOPQQDAgNIADBFAiEA8RYAKlhNJ97k/y3m7+ycsne2
vX6RK/rwjndCroQJJKcCIEabUO5mwSjZYUq4MIMurYCH9uflW6zM4OwsIdUpwoaz
-----END CERTIFICATE-----
-----BEGIN CERTIFICATE-----
MIIBHDCBwgIUEKyXpFXoOF4LQ93aHtmFWv1dUC4wCgYIKoZIzj0EAwIwEDEOMAwG
A1UEAwwFcGxhaW4wIBcNMjYxMTI0MDAxNzI4WhgPMjEyNjEwMzEwMDE3MjhaMA8x
DTALBgNVBAMMBGxlYWYwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQjZZMkFuaU
6rrrbnXZtdMWVoMevF4woPCYPEaF5C81kgvtgQHgYeh7m6p+EjkON+h7IlnRBpbh
H2286Bh86EqNMAoGCCqGSM49BAMCA0kAMEYCIQCk/Tx7wlxmEHMvuVTHZGMlYiiW
yjyan2mYIhnElzQgJgIhAJyI6pqNuDfy9uCjOeClEdA/koSuva72M8cKGi7vVlzu
-----END CERTIFICATE-----
"""
)


def test_certificates_of_version_1_serve(tmp_path: Path) -> None:
    path = tmp_path / "bundle.pem"
    path.write_bytes(make.pem(PLAIN_ROOT))
    keys = CertificateKeys(str(path), wall_clock=Clock())
    leaf = PLAIN_LEAF.public_bytes(Encoding.DER)
    assert keys.leaf((leaf,)) is not None
    path.write_bytes(make.pem(ROOT))
    assert CertificateKeys(str(path), wall_clock=Clock()).leaf((leaf,)) is None


FOREIGN = make.certificate(make.ATTACKER, "root", ca=True)
OF_FOREIGN = make.certificate(make.P256, by=(make.ATTACKER, FOREIGN))
FLAT = make.certificate(make.RSA, "flat", ca=True, path_length=0)
UNDER_FLAT = make.certificate(make.P384, "under", by=(make.RSA, FLAT), ca=True)
DEEP = make.certificate(make.P256, by=(make.P384, UNDER_FLAT))
STRANGE = make.certificate(make.P256, by=(make.RSA, ROOT), strange=True)
CHILD_OF_LEAF = make.certificate(make.P256, "child", by=(make.P256, LEAF))
UNSIGNED = make.certificate(make.P256, "leaf", by=(make.ATTACKER, ROOT))
EXPIRED = make.certificate(make.P256, "leaf", by=(make.RSA, ROOT), now=make.NOW - 90 * 86400)
EARLY = make.certificate(make.P256, "leaf", by=(make.RSA, ROOT), now=make.NOW + 90 * 86400)
OLD = make.certificate(make.P256, "alone", now=make.NOW - 90 * 86400)


@pytest.mark.parametrize(
    ("why", "roots", "chain"),
    [
        ("7 self-signed", [ROOT], [ALONE]),
        ("7 a foreign root of the same name", [ROOT], [OF_FOREIGN, FOREIGN]),
        (
            "too deep for the root",
            [FLAT],
            [DEEP, UNDER_FLAT],
        ),
        (
            "a critical extension that nobody knows",
            [ROOT],
            [STRANGE],
        ),
        ("the middle is missing", [ROOT], [LEAF]),
        ("not signed by whom it names", [ROOT], [UNSIGNED]),
        ("signed by what is no authority", [ROOT], [CHILD_OF_LEAF, LEAF, MIDDLE]),
        ("signed by a trusted leaf", [ALONE], [make.certificate(make.P256, by=(make.P256, ALONE))]),
        ("expired", [ROOT], [EXPIRED]),
        ("not yet valid", [ROOT], [EARLY]),
        ("trusted itself and expired", [OLD], [OLD]),
        ("another key's", [ROOT], [MIDDLE]),
    ],
)
def test_a_chain_that_leads_nowhere(tmp_path: Path, why: str, roots: Any, chain: Any) -> None:
    verify = verifier(bundle(tmp_path, make.pem(*roots)))
    with pytest.raises(TokenInvalid):
        verify.verify(es256(x5c=make.x5c(*chain)))
    # A bad chain is final: a good kid and signature beside it do not help.
    kid = thumbprint(make.RSA.public_key())
    beside = sign(header(kid=kid, x5c=make.x5c(*chain)), claims())
    with pytest.raises(TokenInvalid):
        verify.verify(beside)
    assert verify.verify_at_hand(beside) is None


@pytest.mark.parametrize(
    "x5c", [[], "text", None, {}, [1], ["%%%"], ["QUJD"], ["QUJD"] * 9, [None]]
)
def test_an_x5c_that_is_none(tmp_path: Path, x5c: Any) -> None:
    verify = verifier(bundle(tmp_path, make.pem(ALONE)))
    with pytest.raises(TokenInvalid):
        verify.verify(es256(x5c=x5c))


def test_a_renewed_certificate_serves_without_a_restart(tmp_path: Path) -> None:
    path, clock = tmp_path / "bundle.pem", Clock()
    path.write_bytes(make.pem(ROOT))
    keys = CertificateKeys(str(path), clock=clock)
    replace(path, make.pem(ALONE))
    clock.now += 1
    assert keys.at_hand(thumbprint(make.RSA.public_key())) is None
    assert keys.find(thumbprint(make.P256.public_key())) is not None
    replace(path, b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    clock.now += 1
    assert keys.find(thumbprint(make.P256.public_key())) is not None
    assert keys.problem is not None


@pytest.mark.parametrize("data", [b"", b"no certificates", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_bundle_must_hold_certificates(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(Unusable):
        bundle(tmp_path, data)


def test_sources_combine(tmp_path: Path) -> None:
    def refuse(url: str) -> bytes:
        raise FetchFailed("is down")

    down = RemoteKeys("https://keys.example.com/", fetch=refuse)
    known = make.Known(from_public(make.RSA.public_key(), "k1"))
    keys = CombinedKeys([down, known, bundle(tmp_path, make.pem(ALONE))])
    assert keys.certifies
    assert keys.find("k1") is not None
    assert keys.at_hand("k1") is not None
    assert verifier(keys).verify(es256(x5c=make.x5c(ALONE))).subject == "alice"
    with pytest.raises(KeysUnavailable):
        keys.find("unknown")
    assert keys.problem == down.problem == "The key set https://keys.example.com/ is down."
    known.problem = "There is one key too few."
    assert str(keys.problem).endswith(" is down. There is one key too few.")
    assert CombinedKeys([known]).find("unknown") is None
    assert not CombinedKeys([known]).certifies


def test_neither_jku_nor_x5u_is_ever_asked(server: Server) -> None:
    known = make.Known(from_public(make.RSA.public_key(), "k1"))
    serve(server, k1=make.ATTACKER)
    verify = Verifier(known, make.ISSUER, [make.SERVICE], clock=Clock())
    elsewhere = header(jku=server.url, x5u=server.url)
    assert verify.verify(sign(elsewhere, claims())).subject == "alice"
    with pytest.raises(TokenInvalid):
        verify.verify(sign(elsewhere, claims(), make.ATTACKER))
    assert server.asked == []
