"""A token server that knows nothing of Holdfast: its own keys, its own rules, and PyJWT to sign with.

It speaks Distribution's token protocol, GET with Basic credentials and POST of OAuth2, and publishes its
keys as a JWKS and as certificates. Written from the protocol's description, to be somebody else's.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import hashlib
import json
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

ISSUER = "somebody's token server"
SERVICE = "somebody's registry"
WRONG_PASSWORD = "The token server does not know this name and password."

Named = Literal["kid", "x5c", "thumbprint", "libtrust"]
"""How a token says which key signed it.

By the name it has in the JWKS, by its certificate, or by a hash of the key: that of RFC 7638, as
Distribution 3 knows it, or that of libtrust, as Distribution 2 does.
"""


class Key:
    """A signing key, and the certificate that vouches for it."""

    def __init__(self) -> None:
        self.private = ec.generate_private_key(ec.SECP256R1())
        self.kid = f"key {secrets.token_hex(4)}"
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.kid)])
        now = datetime.datetime.now(datetime.UTC)
        day = datetime.timedelta(days=1)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - day)
            .not_valid_after(now + day)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(self.private, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def jwk(self) -> dict[str, Any]:
        public = jwt.algorithms.ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**public, "kid": self.kid, "alg": "ES256", "use": "sig"}

    def header(self, named: Named) -> dict[str, Any]:
        """Of a token that it signs."""
        if named == "x5c":
            der = self.certificate.public_bytes(Encoding.DER)
            return {"x5c": [base64.b64encode(der).decode()]}
        if named == "thumbprint":
            members = {name: self.jwk[name] for name in ("crv", "kty", "x", "y")}
            digest = hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()
            return {"kid": base64.urlsafe_b64encode(digest).decode().rstrip("=")}
        if named == "libtrust":
            public = self.private.public_key()
            der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
            text = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
            return {"kid": ":".join(text[start : start + 4] for start in range(0, len(text), 4))}
        return {"kid": self.kid}


@dataclass
class TokenServer:
    """`users` are passwords by name, `rights` the actions that a user has on every repository of team/."""

    users: Mapping[str, str]
    rights: Mapping[str, frozenset[str]]
    url: str = ""
    named: Named = "kid"
    keys: list[Key] = field(default_factory=lambda: [Key()])
    """The last one signs."""
    asked: list[str] = field(default_factory=list)
    """The ways in which clients asked for tokens: a method, and the user's name or nothing."""

    @property
    def realm(self) -> str:
        return f"{self.url}/token"

    @property
    def jwks_url(self) -> str:
        return f"{self.url}/keys"

    def jwks(self) -> bytes:
        return json.dumps({"keys": [key.jwk for key in self.keys]}).encode()

    def certificates(self) -> bytes:
        """For a `rootcertbundle`."""
        return b"".join(key.pem for key in self.keys)

    def token(self, user: str, scopes: list[str], *, lifetime: int = 300) -> str:
        key = self.keys[-1]
        now = int(time.time())
        claims = {
            "iss": ISSUER,
            "aud": SERVICE,
            "sub": user,
            "iat": now,
            "nbf": now - 5,
            "exp": now + lifetime,
            "jti": secrets.token_hex(8),
            "access": [access for scope in scopes for access in self._granted(user, scope)],
        }
        return jwt.encode(claims, key.private, "ES256", key.header(self.named))

    def answer(self, user: str | None, password: str, scopes: list[str]) -> tuple[int, bytes]:
        if user is not None and self.users.get(user) != password:
            error = {"code": "UNAUTHORIZED", "message": WRONG_PASSWORD}
            return 401, json.dumps({"errors": [error], "details": WRONG_PASSWORD}).encode()
        token = self.token(user or "", scopes)
        body = {"token": token, "access_token": token, "expires_in": 300}
        return 200, json.dumps(body).encode()

    def _granted(self, user: str, scope: str) -> Iterator[dict[str, Any]]:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        rights = self.rights.get(user, frozenset()) if name.startswith("team/") else frozenset()
        granted = sorted(rights & set(actions.split(",")))
        if kind == "repository" and granted:
            yield {"type": kind, "name": name, "actions": granted}


class _Server6(ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that trust nobody end the handshake, and mean to."""


@contextlib.contextmanager
def token_server(
    users: Mapping[str, str],
    rights: Mapping[str, frozenset[str]],
    *,
    tls: tuple[Path, Path] | None = None,
    name: str = "127.0.0.1",
    port: int = 0,
) -> Iterator[TokenServer]:
    """Running on loopback, at a free port unless one is given: with `tls`, a certificate and its key,
    at ::1 as `name`.
    """
    made = TokenServer(users, rights)
    listening = (ThreadingHTTPServer if tls is None else _Server6)(
        ("127.0.0.1" if tls is None else "::1", port), _handler(made)
    )
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
        listening.socket = context.wrap_socket(
            listening.socket, server_side=True, do_handshake_on_connect=False
        )
    scheme = "http" if tls is None else "https"
    made.url = f"{scheme}://{name}:{listening.server_address[1]}"
    thread = threading.Thread(target=listening.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield made
    finally:
        listening.shutdown()
        thread.join(10)
        listening.server_close()


def _handler(server: TokenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = 10

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path == "/keys":
                self._send(200, server.jwks())
                return
            query = parse_qs(address.query)
            user, password = self._basic()
            server.asked.append(f"GET {user or ''}")
            if address.path != "/token" or query.get("service") != [SERVICE]:
                self._send(400, b"{}")
                return
            scopes = [one for text in query.get("scope", []) for one in text.split(" ")]
            self._send(*server.answer(user, password, scopes))

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            form = {
                key: values[0] for key, values in parse_qs(self.rfile.read(length).decode()).items()
            }
            server.asked.append(f"POST {form.get('username', '')}")
            if form.get("grant_type") != "password" or form.get("service") != SERVICE:
                self._send(400, b"{}")
                return
            scopes = form.get("scope", "").split()
            self._send(*server.answer(form.get("username", ""), form.get("password", ""), scopes))

        def _basic(self) -> tuple[str | None, str]:
            kind, _, text = self.headers.get("Authorization", "").partition(" ")
            if kind.lower() != "basic":
                return None, ""
            try:
                user, _, password = base64.b64decode(text).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                return "", ""
            return user, password

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", 'Basic realm="tokens"')
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    return Handler
