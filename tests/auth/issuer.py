"""An OpenID Connect issuer such as a CI system runs, on a free loopback port."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from auth.jwk import from_public, to_jwk
from auth.oidc import DISCOVERY

Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class Issuer:
    def __init__(self, clock: Any) -> None:
        self.clock = clock
        self.keys: dict[str, Private] = {"first": ec.generate_private_key(ec.SECP256R1())}
        self.asked: list[str] = []
        self.down = False
        self.document: dict[str, Any] = {}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                body = outer._answer(self.path)
                self.send_response(503 if outer.down else 404 if body is None else 200)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.document = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    def token(self, kid: str = "first", key: Private | None = None, **claims: Any) -> str:
        """What a job of `my-org/app` on `main` gets; a claim that is `...` is left out."""
        now = int(self.clock())
        whole = {
            "iss": self.url,
            "aud": "registry.example.com",
            "sub": "repo:my-org/app:ref:refs/heads/main",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "repository": "my-org/app",
            "repository_owner": "my-org",
            "ref": "refs/heads/main",
            "run_attempt": 1,
            "kubernetes.io": {"namespace": "builds", "pod": {"name": "p-1"}},
            "groups": ["builders", "testers"],
        } | claims
        payload = {name: value for name, value in whole.items() if value is not ...}
        signer = key or self.keys[kid]
        algorithm = "RS256" if isinstance(signer, rsa.RSAPrivateKey) else "ES256"
        return jwt.encode(payload, signer, algorithm, headers={"kid": kid})

    def _answer(self, path: str) -> bytes | None:
        if self.down:
            return b""
        if path == DISCOVERY:
            return json.dumps(self.document).encode()
        if path == "/keys":
            keys = [to_jwk(from_public(k.public_key(), kid)) for kid, k in self.keys.items()]
            return json.dumps({"keys": keys}).encode()
        return None
