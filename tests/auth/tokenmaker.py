"""A token server in miniature: it signs whatever a test wants, with keys of every kind."""

from __future__ import annotations

import base64
import ipaddress
import json
import socket
import ssl
import threading
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from auth import jose
from auth.jwk import VerificationKey, from_public, to_jwk

NOW: Final = 1_800_000_000
ISSUER: Final = "auth.example.com"
SERVICE: Final = "registry.example.com"

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA: Final = rsa.generate_private_key(65537, 2048)
P256: Final = ec.generate_private_key(ec.SECP256R1())
P384: Final = ec.generate_private_key(ec.SECP384R1())
P521: Final = ec.generate_private_key(ec.SECP521R1())
ED: Final = ed25519.Ed25519PrivateKey.generate()
ATTACKER: Final = rsa.generate_private_key(65537, 2048)


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Known:
    """Keys in memory, which count how often they are asked."""

    certifies = False
    problem: str | None = None

    def __init__(self, *keys: VerificationKey) -> None:
        self.keys = {key.kid: key for key in keys}
        self.asked = 0

    def find(self, kid: str) -> VerificationKey | None:
        self.asked += 1
        return self.keys.get(kid)

    def at_hand(self, kid: str) -> VerificationKey | None:
        return self.keys.get(kid)

    def leaf(self, chain: tuple[bytes, ...]) -> VerificationKey | None:
        return None


def header(**changes: Any) -> dict[str, Any]:
    return _changed({"typ": "JWT", "alg": "RS256", "kid": "k1"}, changes)


def claims(**changes: Any) -> dict[str, Any]:
    """The base token of the attack list; a change to ... takes the claim away."""
    base = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": SERVICE,
        "exp": NOW + 300,
        "nbf": NOW,
        "iat": NOW,
        "jti": "id1",
        "access": [{"type": "repository", "name": "a/b", "actions": ["pull", "push"]}],
    }
    return _changed(base, changes)


def _changed(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


def dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def sign(
    header_: Mapping[str, Any] | bytes,
    payload: Mapping[str, Any] | bytes,
    key: Private | bytes = RSA,
    algorithm: str | None = None,
) -> str:
    """Signed by whatever the header says, unless `algorithm` says otherwise."""
    head = header_ if isinstance(header_, bytes) else dumps(header_)
    body = payload if isinstance(payload, bytes) else dumps(payload)
    chosen = algorithm or json.loads(head)["alg"]
    signed = f"{jose.encode(head)}.{jose.encode(body)}" if body else f"{jose.encode(head)}."
    signature = jwt.get_algorithm_by_name(chosen).sign(signed.encode(), key)
    return f"{signed}.{jose.encode(signature)}"


def token(key: Private | bytes = RSA, **changes: Any) -> str:
    return sign(header(), claims(**changes), key)


def jwks(**keys: Private) -> bytes:
    return dumps({"keys": [to_jwk(from_public(k.public_key(), kid)) for kid, k in keys.items()]})


def certificate(
    key: Private,
    name: str = "signer",
    *,
    by: tuple[Private, x509.Certificate] | None = None,
    ca: bool = False,
    now: int = NOW,
    days: int = 30,
    path_length: int | None = None,
    strange: bool = False,
    address: str = "",
) -> x509.Certificate:
    """Self-signed unless `by` an authority."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer, issuer = (key, subject) if by is None else (by[0], by[1].subject)
    begin = datetime.fromtimestamp(now, UTC) - timedelta(days=1)
    public = signer.public_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    )
    if address:
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))])
        builder = builder.add_extension(names, critical=False)
    if strange:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    if ca:
        usage = dict.fromkeys(
            (
                *("digital_signature", "content_commitment", "key_encipherment"),
                *("data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
            ),
            False,
        )
        builder = builder.add_extension(
            x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True
        )
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else SHA256())


def x5c(*chain: x509.Certificate) -> list[str]:
    return [base64.b64encode(one.public_bytes(Encoding.DER)).decode() for one in chain]


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def private_pem(key: Private) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


class Server:
    """An HTTP server on a free loopback port; `answer` is (status, headers, body)."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
        self.asked: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                outer.gate.wait(10)
                status, headers, body = outer.answer
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.gate.set()
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
