"""The attack list on tokens, a row each: what is done to a token, and whether it may still pass.

The numbers are the rows of the list: every row that a token alone decides is here; the others (no
token, replay, revocation, where a token may stand) are with the bearer and the key sets.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auth import jose
from auth.jwk import ASYMMETRIC, SYMMETRIC, from_jwk, from_public
from auth.keys import KeyRing
from auth.model import Access, repository
from auth.tokens import Claims, TokenInvalid, Verifier, issue
from tests.auth import tokenmaker as make
from tests.auth.tokenmaker import NOW, RSA, claims, header, sign, token

SECRET = b"s" * 64
RSA_PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
RSA_DER = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
ATTACKER_JWK = json.loads(make.jwks(k1=make.ATTACKER))["keys"][0]
RIGHT_JWK = json.loads(make.jwks(k1=RSA))["keys"][0]


def keys() -> make.Known:
    secret = from_jwk({"kty": "oct", "kid": "h1", "k": jose.encode(SECRET)})
    assert secret is not None
    return make.Known(
        from_public(RSA.public_key(), "k1"),
        from_public(make.P256.public_key(), "e1"),
        from_public(make.P384.public_key(), "e3"),
        from_public(make.P521.public_key(), "e5"),
        from_public(make.ED.public_key(), "o1"),
        secret,
    )


def verifier(known: make.Known | None = None, **options: Any) -> Verifier:
    options = {"clock": make.Clock(), **options}
    return Verifier(known or keys(), make.ISSUER, [make.SERVICE], **options)


def es256_twin() -> str:
    """The other signature that ECDSA allows for the same message."""
    signed, signature = sign(header(alg="ES256", kid="e1"), claims(), make.P256).rsplit(".", 1)
    raw = jose.decode(signature)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    twin = raw[:32] + (order - int.from_bytes(raw[32:], "big")).to_bytes(32, "big")
    return f"{signed}.{jose.encode(twin)}"


def es256_der() -> str:
    signed, signature = sign(header(alg="ES256", kid="e1"), claims(), make.P256).rsplit(".", 1)
    raw = jose.decode(signature)
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    assert decode_dss_signature(der)
    return f"{signed}.{jose.encode(der)}"


def unsigned(alg: object = "none") -> str:
    return f"{jose.encode(make.dumps(header(alg=alg)))}.{jose.encode(make.dumps(claims()))}."


def confused(secret: bytes, alg: str = "HS256", **changes: Any) -> str:
    """An HMAC with a public key for its secret, made without PyJWT, which refuses to make one."""
    signed = jose.write(header(alg=alg, **changes), claims())
    digest = getattr(hashlib, f"sha{alg[2:]}")
    return f"{signed}.{jose.encode(hmac.new(secret, signed.encode(), digest).digest())}"


def stray_bits(text: str, segment: int) -> str:
    """The same bytes with other unused bits in the last character of one segment."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    segments = text.split(".")
    part = segments[segment]
    assert len(part) % 4, "no unused bits to play with"
    segments[segment] = part[:-1] + alphabet[alphabet.index(part[-1]) ^ 1]
    assert lax(segments[segment]) == lax(part)
    return ".".join(segments)


def lax(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def uneven(payload: dict[str, Any]) -> dict[str, Any]:
    """Padded until its base64url has unused bits."""
    while len(make.dumps(payload)) % 3 == 0:
        payload["sub"] += "x"
    return payload


def raw_claims(name: str, literal: str) -> bytes:
    """The claims with a value that json.dumps would not write."""
    assert name in claims()
    return make.dumps(claims(**{name: "@"})).replace(b'"@"', literal.encode())


Row = tuple[str, Callable[[], str]]

REFUSED: list[Row] = [
    ("2 alg none", unsigned),
    ("2 alg None", lambda: unsigned("None")),
    ("2 alg NONE", lambda: unsigned("NONE")),
    ("2 alg empty", lambda: unsigned("")),
    ("2 alg null", lambda: unsigned(None)),
    ("2 alg a list", lambda: unsigned(["RS256"])),
    ("2 alg a dict", lambda: unsigned({"RS256": 1})),
    ("2 alg RS256, no signature", lambda: unsigned("RS256")),
    ("2 alg absent", lambda: sign(header(alg=...), claims(), RSA, "RS256")),
    ("2 alg in small letters", lambda: sign(header(alg="rs256"), claims(), RSA, "RS256")),
    ("3 HS256 with the public key, PEM", lambda: confused(RSA_PEM)),
    ("3 HS256 with the public key, DER", lambda: confused(RSA_DER)),
    ("3 HS512 with the public key", lambda: confused(RSA_PEM, "HS512")),
    ("3 HS256 with a configured secret", lambda: confused(SECRET, kid="h1")),
    ("3 ES256 named for an RSA key", lambda: sign(header(), claims(), make.P256, "ES256")),
    ("3 RS256 under the kid of a curve", lambda: sign(header(kid="e1"), claims())),
    (
        "3 P-384 key under the kid of P-256",
        lambda: sign(header(alg="ES384", kid="e1"), claims(), make.P384),
    ),
    (
        "3 EdDSA under the kid of P-256",
        lambda: sign(header(alg="EdDSA", kid="e1"), claims(), make.ED),
    ),
    (
        "4 jwk of the attacker, kid of ours",
        lambda: sign(header(jwk=ATTACKER_JWK), claims(), make.ATTACKER),
    ),
    (
        "4 jwk of the attacker, its own kid",
        lambda: sign(header(jwk={**ATTACKER_JWK, "kid": "x"}, kid="k1"), claims(), make.ATTACKER),
    ),
    ("4 jwk without kid", lambda: sign(header(jwk={**RIGHT_JWK, "kid": None}), claims())),
    (
        "6 jku and attacker's key",
        lambda: sign(header(jku="http://127.0.0.1:1/"), claims(), make.ATTACKER),
    ),
    (
        "6 x5u and attacker's key",
        lambda: sign(header(x5u="http://127.0.0.1:1/"), claims(), make.ATTACKER),
    ),
    ("8 kid unknown", lambda: sign(header(kid="k2"), claims())),
    ("8 kid a path", lambda: sign(header(kid="../../dev/null"), claims())),
    ("8 kid SQL", lambda: sign(header(kid="k1' OR '1'='1"), claims())),
    ("8 kid a number", lambda: sign(header(kid=1), claims())),
    ("8 kid a list", lambda: sign(header(kid=["k1"]), claims())),
    ("9 no kid", lambda: sign(header(kid=...), claims())),
    ("9 kid empty", lambda: sign(header(kid=""), claims())),
    ("9 kid null", lambda: sign(header(kid=None), claims())),
    ("10 crit", lambda: sign(header(crit=["x"], x=1), claims())),
    ("10 crit b64", lambda: sign(header(crit=["b64"], b64=True), claims())),
    ("10 crit empty", lambda: sign(header(crit=[]), claims())),
    ("10 crit null", lambda: sign(header(crit=None), claims())),
    ("10 b64 false", lambda: sign(header(b64=False), claims())),
    ("11 iss other", lambda: token(iss="other")),
    ("11 iss a part", lambda: token(iss=make.ISSUER[:4])),
    ("11 iss longer", lambda: token(iss=make.ISSUER + "x")),
    ("11 iss in capitals", lambda: token(iss=make.ISSUER.upper())),
    ("11 iss a list", lambda: token(iss=[make.ISSUER])),
    ("11 iss empty", lambda: token(iss="")),
    ("11 iss null", lambda: token(iss=None)),
    ("11 iss absent", lambda: token(iss=...)),
    ("12 aud other", lambda: token(aud="other")),
    ("12 aud a part", lambda: token(aud=make.SERVICE[:4])),
    ("12 aud a number", lambda: token(aud=5)),
    ("12 aud a list of numbers", lambda: token(aud=[5])),
    ("12 aud a mixed list", lambda: token(aud=[make.SERVICE, 5])),
    ("12 aud an empty list", lambda: token(aud=[])),
    ("12 aud an object", lambda: token(aud={make.SERVICE: 1})),
    ("12 aud null", lambda: token(aud=None)),
    ("12 aud absent", lambda: token(aud=...)),
    ("14 exp absent", lambda: token(exp=...)),
    ("14 exp null", lambda: token(exp=None)),
    ("14 iat and nbf absent", lambda: token(iat=..., nbf=...)),
    ("15 exp 90 s ago", lambda: token(exp=NOW - 90, iat=NOW - 300, nbf=NOW - 300)),
    ("15 exp 60 s ago", lambda: token(exp=NOW - 60, iat=NOW - 300, nbf=NOW - 300)),
    ("16 nbf in 90 s", lambda: token(nbf=NOW + 90)),
    ("16 iat in 90 s", lambda: token(iat=NOW + 90)),
    ("16 iat far off", lambda: token(iat=NOW + 10**8, exp=NOW + 10**8 + 300)),
    *(
        (
            f"17 {name} {literal[:20]}",
            lambda name=name, literal=literal: sign(header(), raw_claims(name, literal)),
        )
        for name in ("exp", "nbf", "iat")
        for literal in (
            '"1800000300"',
            '" 1800000300"',
            '"1_800_000_300"',
            '"\u0661\u0668\u0660\u0660"',
            "1e308",
            "1e400",
            "1" + "0" * 26,
            "1800000300.5",
            "1800000300.0",
            "18e8",
            "true",
            "false",
            "NaN",
            "Infinity",
            "-Infinity",
            "[1]",
            "{}",
            "-1",
            "null",
            "9" * 5000,
        )
    ),
    (
        "17 NaN in a claim that nobody reads",
        lambda: sign(header(), make.dumps(claims(x=float("nan")))),
    ),
    ("17 Infinity in the header", lambda: sign(make.dumps(header(x=float("inf"))), claims())),
    ("18 longer than a day", lambda: token(exp=NOW + 24 * 3600 + 1)),
    ("18 longer than a day, by nbf", lambda: token(exp=NOW + 24 * 3600 + 1, iat=...)),
    ("19 sub twice", lambda: sign(header(), make.dumps(claims())[:-1] + b',"sub":"root"}')),
    ("19 access twice", lambda: sign(header(), make.dumps(claims())[:-1] + b',"access":[]}')),
    ("19 the same twice", lambda: sign(header(), make.dumps(claims())[:-1] + b',"sub":"alice"}')),
    (
        "19 twice, escaped",
        lambda: sign(header(), make.dumps(claims())[:-1] + b',"s\\u0075b":"root"}'),
    ),
    (
        "19 actions twice",
        lambda: sign(
            header(),
            raw_claims(
                "access", '[{"type":"repository","name":"a/b","actions":[],"actions":["*"]}]'
            ),
        ),
    ),
    ("19 alg twice", lambda: sign(b'{"alg":"RS256","kid":"k1","alg":"RS256"}', claims())),
    ("20 deep payload", lambda: sign(header(), b"[" * 8000)),
    ("20 100,000 brackets", lambda: sign(header(), b"[" * 100_000)),
    (
        "20 deep within a claim",
        lambda: sign(header(), raw_claims("access", "[" * 4000 + "]" * 4000)),
    ),
    (
        "20 deep header",
        lambda: sign(b'{"alg":"RS256","kid":"k1","x":' + b"[" * 8000, claims(), RSA, "RS256"),
    ),
    ("20 1 MB", lambda: token(sub="x" * 1_000_000)),
    ("20 not JSON", lambda: sign(header(), b"not json")),
    ("20 not an object", lambda: sign(header(), b'["iss"]')),
    ("20 a string", lambda: sign(header(), b'"iss"')),
    ("20 nothing", lambda: sign(header(), b"")),
    ("20 invalid UTF-8", lambda: sign(header(), raw_claims("sub", '"?"').replace(b"?", b"\xff"))),
    ("20 byte order mark", lambda: sign(header(), b"\xef\xbb\xbf" + make.dumps(claims()))),
    ("20 UTF-16", lambda: sign(header(), make.dumps(claims()).decode().encode("utf-16"))),
    ("20 half a surrogate pair", lambda: sign(header(), raw_claims("sub", '"\\ud800"'))),
    ("20 something after it", lambda: sign(header(), make.dumps(claims()) + b"{}")),
    ("20 header not an object", lambda: sign(b"[]", claims(), RSA, "RS256")),
    ("21 stray bits in the signature", lambda: stray_bits(token(), 2)),
    ("21 stray bits in the payload", lambda: stray_bits(sign(header(), uneven(claims())), 1)),
    ("21 padding at the end", lambda: token() + "=="),
    ("21 padding of the header", lambda: token().replace(".", "=.", 1)),
    (
        "21 standard base64",
        lambda: (
            token().replace("-", "+").replace("_", "/") + ("" if set("-_") & set(token()) else "+")
        ),
    ),
    ("21 a line break", lambda: token() + "\n"),
    ("21 a space before", lambda: " " + token()),
    ("21 a byte beyond ASCII", lambda: token() + "é"),
    ("21 ES256 in DER", es256_der),
    (
        "21 ES256 of zeros",
        lambda: (
            sign(header(alg="ES256", kid="e1"), claims(), make.P256).rsplit(".", 1)[0]
            + "."
            + "A" * 86
        ),
    ),
    ("21 two parts", lambda: token().rsplit(".", 1)[0]),
    ("21 four parts", lambda: token() + ".x"),
    ("21 five parts", lambda: "a.b.c.d.e"),
    ("21 empty", lambda: ""),
    ("21 dots", lambda: ".."),
    ("24 signed by another key", lambda: token(make.ATTACKER)),
    (
        "24 payload exchanged",
        lambda: ".".join(
            (token().split(".")[0], token(sub="root").split(".")[1], token().split(".")[2])
        ),
    ),
    ("typ of another kind", lambda: sign(header(typ="robot+jwt"), claims())),
    ("typ a number", lambda: sign(header(typ=1), claims())),
    ("sub a number", lambda: token(sub=5)),
    ("jti a number", lambda: token(jti=5)),
    ("access a string", lambda: token(access="repository:a/b:*")),
    (
        "access an object",
        lambda: token(access={"type": "repository", "name": "a/b", "actions": ["*"]}),
    ),
    ("access of strings", lambda: token(access=["repository:a/b:*"])),
    ("access without name", lambda: token(access=[{"type": "repository", "actions": ["*"]}])),
    (
        "access with actions as text",
        lambda: token(access=[{"type": "repository", "name": "a/b", "actions": "pull"}]),
    ),
    (
        "access with actions as numbers",
        lambda: token(access=[{"type": "repository", "name": "a/b", "actions": [1]}]),
    ),
]

ACCEPTED: list[Row] = [
    ("the base token", token),
    ("5 jku elsewhere, right key", lambda: sign(header(jku="http://127.0.0.1:1/"), claims())),
    ("5 x5u elsewhere, right key", lambda: sign(header(x5u="http://127.0.0.1:1/"), claims())),
    ("5 jwk that names a trusted key", lambda: sign(header(jwk=RIGHT_JWK, kid=...), claims())),
    (
        "5 jwk of the attacker with our kid, signed by ours",
        lambda: sign(header(jwk=ATTACKER_JWK), claims()),
    ),
    ("5 x5c where there are no certificates", lambda: sign(header(x5c=["rubbish"]), claims())),
    ("13 aud a list with the service", lambda: token(aud=["other", make.SERVICE])),
    ("15 exp 30 s ago", lambda: token(exp=NOW - 30, iat=NOW - 300, nbf=NOW - 300)),
    ("15 exp 59 s ago", lambda: token(exp=NOW - 59, iat=NOW - 300, nbf=NOW - 300)),
    ("16 nbf in 30 s", lambda: token(nbf=NOW + 30)),
    ("16 iat in 60 s", lambda: token(iat=NOW + 60)),
    ("16 nbf before iat", lambda: token(nbf=NOW - 600)),
    ("18 a day", lambda: token(exp=NOW + 24 * 3600)),
    ("21 the twin of an ES256 signature: another text of the same token", es256_twin),
    ("iat absent", lambda: token(iat=...)),
    ("nbf absent", lambda: token(nbf=...)),
    ("sub absent", lambda: token(sub=...)),
    ("sub empty", lambda: token(sub="")),
    ("jti absent", lambda: token(jti=...)),
    ("typ absent", lambda: sign(header(typ=...), claims())),
    ("typ in small letters", lambda: sign(header(typ="jwt"), claims())),
    ("access absent", lambda: token(access=...)),
    ("access null, as Go writes an empty list", lambda: token(access=None)),
    ("actions null", lambda: token(access=[{"type": "repository", "name": "a", "actions": None}])),
    (
        "class and more in access",
        lambda: token(
            access=[{"type": "repository", "class": "", "name": "a", "actions": [], "x": 1}]
        ),
    ),
    ("a name beyond ASCII", lambda: token(sub="zoë \U0001f600")),
    *(
        (alg, lambda alg=alg: sign(header(alg=alg), claims()))
        for alg in ASYMMETRIC
        if alg[1] == "S" and alg[0] in "RP"
    ),
    ("ES256", lambda: sign(header(alg="ES256", kid="e1"), claims(), make.P256)),
    ("ES384", lambda: sign(header(alg="ES384", kid="e3"), claims(), make.P384)),
    ("ES512", lambda: sign(header(alg="ES512", kid="e5"), claims(), make.P521)),
    ("EdDSA", lambda: sign(header(alg="EdDSA", kid="o1"), claims(), make.ED)),
]


def ids(rows: list[Row]) -> list[str]:
    return [name for name, _ in rows]


@pytest.mark.parametrize(("name", "recipe"), REFUSED, ids=ids(REFUSED))
def test_refused(name: str, recipe: Callable[[], str]) -> None:
    bad = recipe()
    for verify in (verifier().verify, verifier().verify_at_hand):
        begun = time.thread_time()
        with pytest.raises(TokenInvalid) as refusal:
            # Without waiting nothing can be said of a key that is not known.
            assert verify(bad) is None
            raise TokenInvalid("The key is not at hand.")
        assert time.thread_time() - begun < 0.1
        assert refusal.value.reason.endswith(".")
        assert "\n" not in refusal.value.reason


@pytest.mark.parametrize(("name", "recipe"), ACCEPTED, ids=ids(ACCEPTED))
def test_accepted(name: str, recipe: Callable[[], str]) -> None:
    good = recipe()
    assert verifier().verify(good) == verifier().verify_at_hand(good)


@pytest.mark.parametrize("row", range(2, 22))
def test_every_row_that_a_token_alone_decides_is_here(row: int) -> None:
    told = [name for name, _ in (*REFUSED, *ACCEPTED) if name.split()[0] == str(row)]
    elsewhere = {7}  # certificates: with the key sets
    assert told or row in elsewhere


def test_what_its_claims_condemn_is_no_reason_to_ask_for_keys() -> None:
    known = keys()
    for stale in (token(exp=NOW - 90), token(aud="other"), token(iss="other"), unsigned()):
        with pytest.raises(TokenInvalid):
            verifier(known).verify(stale)
    assert known.asked == 0


def test_what_a_token_says() -> None:
    assert verifier().verify(token(groups=["dev", "ops", 5], extra="x")) == Claims(
        subject="alice",
        access=(Access("repository", "a/b", ("pull", "push")),),
        expires=NOW + 300,
        issued=NOW,
        id="id1",
        issuer=make.ISSUER,
        groups=frozenset({"dev", "ops"}),
        extra={"extra": "x"},
    )


def test_groups_of_another_type_are_none() -> None:
    assert verifier().verify(token(groups="admin")).groups == frozenset()


@pytest.mark.parametrize("algorithm", SYMMETRIC)
def test_a_secret_serves_only_where_it_was_asked_for(algorithm: str) -> None:
    signed = sign(header(alg=algorithm, kid="h1"), claims(), SECRET)
    with pytest.raises(TokenInvalid, match="algorithm"):
        verifier().verify(signed)
    allowing = verifier(algorithms=(algorithm, "RS256"))
    assert allowing.verify(signed).subject == "alice"
    with pytest.raises(TokenInvalid, match="signature"):
        allowing.verify(confused(RSA_PEM, algorithm))


def test_only_the_listed_algorithms_serve() -> None:
    with pytest.raises(TokenInvalid, match="algorithm"):
        verifier(algorithms=["ES256"]).verify(token())


@pytest.mark.parametrize("algorithms", [[], ["none"], ["RS256", "None"], ["HS1"], ["ES256K"]])
def test_a_list_that_would_accept_nothing_or_anything_is_refused(algorithms: list[str]) -> None:
    with pytest.raises(ValueError, match="signingalgorithms"):
        verifier(algorithms=algorithms)


@pytest.mark.parametrize(("issuer", "audiences"), [("", ["x"]), ("x", []), ("x", [""])])
def test_an_issuer_and_a_service_are_needed(issuer: str, audiences: list[str]) -> None:
    with pytest.raises(ValueError, match="issuer"):
        Verifier(keys(), issuer, audiences)


def test_a_shorter_life_can_be_asked_for() -> None:
    with pytest.raises(TokenInvalid, match="longer"):
        verifier(longest=299).verify(token())
    assert verifier(longest=300).verify(token()).subject


def test_a_jwk_that_names_one_algorithm_serves_for_no_other() -> None:
    key = from_jwk({**RIGHT_JWK, "alg": "PS256"})
    assert key is not None
    known = make.Known(key)
    assert verifier(known).verify(sign(header(alg="PS256"), claims())).subject
    with pytest.raises(TokenInvalid, match="signature"):
        verifier(known).verify(token())


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_what_we_issue_is_accepted_here(tmp_path: Any, algorithm: Any) -> None:
    ring = KeyRing(str(tmp_path), algorithm=algorithm)
    granted = (repository("a/b", "pull", "push"), Access("registry", "catalog", ("*",)))
    for chain in (False, True):
        issued = issue(
            ring.signing(),
            issuer=make.ISSUER,
            audience=make.SERVICE,
            subject="alice",
            access=granted,
            lifetime=300,
            chain=chain,
            extra={"groups": ["dev"], "iss": "cannot be overridden"},
        )
        said = Verifier(ring, make.ISSUER, [make.SERVICE]).verify(issued)
        assert (said.subject, said.access, said.groups) == ("alice", granted, frozenset({"dev"}))
        assert said.expires - said.issued == 300
        assert len(said.id) >= 16


def test_kinds_of_tokens_are_told_apart(tmp_path: Any) -> None:
    key = (ring := KeyRing(str(tmp_path))).signing()
    robot = issue(
        key, issuer="i", audience="a", subject="r", lifetime=60, type="robot+jwt", id="robot1"
    )
    with pytest.raises(TokenInvalid, match="kind"):
        Verifier(ring, "i", ["a"]).verify(robot)
    assert Verifier(ring, "i", ["a"], types=["robot+jwt"]).verify(robot).id == "robot1"


def test_each_issued_token_has_an_id_of_its_own(tmp_path: Any) -> None:
    key = KeyRing(str(tmp_path)).signing()
    made = {issue(key, issuer="i", audience="a", subject="s", lifetime=60) for _ in range(50)}
    assert len(made) == 50


def test_the_place_of_a_wrong_byte_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 24, for the one signature that is compared byte by byte: by the comparison made for that."""
    compared: list[bytes] = []
    compare = hmac.compare_digest

    def spied(one: Any, other: Any) -> bool:
        compared.append(bytes(one))
        return compare(one, other)

    monkeypatch.setattr(hmac, "compare_digest", spied)
    allowing = verifier(algorithms=["HS256"])
    signed, signature = sign(header(alg="HS256", kid="h1"), claims(), SECRET).rsplit(".", 1)
    raw = jose.decode(signature)
    for position in range(32):
        changed = bytes(byte ^ (255 * (at == position)) for at, byte in enumerate(raw))
        with pytest.raises(TokenInvalid, match="signature"):
            allowing.verify(f"{signed}.{jose.encode(changed)}")
    assert len(compared) == 32
    allowing.verify(f"{signed}.{signature}")


@pytest.mark.parametrize("purpose", [{"use": "enc"}, {"key_ops": ["sign"]}])
def test_a_key_for_another_purpose_is_none(purpose: Mapping[str, Any]) -> None:
    assert from_jwk({**RIGHT_JWK, **purpose}) is None
