"""What a handshake agrees on, whom it refuses, and what the application learns of the client."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from registry.server import tls
from registry.server.ciphers import DEFAULT, openssl_name, openssl_names
from registry.server.settings import ClientAuth
from registry.server.tls import CannotSecure
from tests.registry.server.harness import PATIENCE, Client, routed, say
from tests.registry.server.tls_harness import NAME, Files, SecureClient, Secured, secured
from tests.support.certificates import Authority

GET = b"GET /v2/ HTTP/1.1\r\nHost: a\r\n\r\n"
WHO = b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n"
MEGABYTE = 1024 * 1024


async def who(scope: Scope, _receive: Receive, send: Send) -> None:
    extension = scope["extensions"].get("tls", {})
    said = {
        "scheme": scope["scheme"],
        "name": extension.get("client_cert_name"),
        "version": extension.get("tls_version"),
        "zerocopy": "http.response.zerocopysend" in scope["extensions"],
    }
    await say(send, 200, json.dumps(said).encode())


async def large(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for number in range(8):
        body = bytes([number]) * MEGABYTE
        await send({"type": "http.response.body", "body": body, "more_body": number < 7})


APP = routed({"/who": who, "/large": large})


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(files: Files) -> Iterator[Secured]:
    with secured(APP, files.settings(hsts=3600.0)) as running:
        yield running


def old_context(files: Files, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = files.client_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")  # or OpenSSL would not even try
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused(server: Secured, files: Files, version: ssl.TLSVersion) -> None:
    with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
        server.client(old_context(files, version))


@pytest.mark.parametrize(
    ("version", "number"), [(ssl.TLSVersion.TLSv1_2, 0x303), (ssl.TLSVersion.TLSv1_3, 0x304)]
)
def test_what_is_agreed_on(
    server: Secured, files: Files, version: ssl.TLSVersion, number: int
) -> None:
    context = files.client_context()
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with server.client(context) as client:
        assert client.secured.selected_alpn_protocol() == "http/1.1"
        assert client.secured.compression() is None
        assert client.secured.shared_ciphers() is None  # the server's side only
        answer = client.ask(WHO)
        assert json.loads(answer.body) == {
            "scheme": "https",
            "name": None,
            "version": number,
            "zerocopy": False,
        }
        assert answer.headers["strict-transport-security"] == "max-age=3600"
        session = client.secured.session
        assert number == 0x303 or session is None or not session.has_ticket


def test_only_http_1_1_is_offered(server: Secured, files: Files) -> None:
    context = files.client_context()
    context.set_alpn_protocols(["h2"])
    with server.client(context) as client:
        assert client.secured.selected_alpn_protocol() is None
        assert client.ask(GET).status == 200


def test_any_name_gets_the_one_certificate(server: Secured, files: Files) -> None:
    context = files.client_context()
    context.check_hostname = False
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
        with context.wrap_socket(plain, server_hostname="other.test") as client:
            assert client.getpeercert()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"not valid for 'other\.test'"):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as plain:
            files.client_context().wrap_socket(plain, server_hostname="other.test")


def test_renegotiation_is_refused(server: Secured, files: Files) -> None:
    """Only the openssl program can ask for one."""
    said = subprocess.run(
        [
            *("openssl", "s_client", "-connect", f"127.0.0.1:{server.port}", "-tls1_2"),
            *("-CAfile", str(files.authority.certificate), "-servername", NAME),
        ],
        input="R\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert "RENEGOTIATING" in said.stdout + said.stderr
    assert "no renegotiation" in said.stderr


def test_plain_http_is_told_so(server: Secured) -> None:
    with Client(server.port) as client:
        answer = client.ask(GET)
        assert answer.status == 400
        assert b"speaks TLS only" in answer.body


def test_refusals_by_the_server_itself_say_hsts_too(server: Secured, files: Files) -> None:
    with server.client(files.client_context()) as client:
        answer = client.ask(b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.status in (400, 405)
        assert answer.headers["strict-transport-security"] == "max-age=3600"


def test_no_hsts_unless_asked_for(files: Files) -> None:
    with secured(APP, files.settings()) as running:
        with running.client(files.client_context()) as client:
            assert "strict-transport-security" not in client.ask(GET).headers
    with secured(APP, None) as running:
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as plain:
            plain.sendall(WHO)
            assert b"strict" not in plain.recv(65536).lower()


def test_a_large_answer_arrives_whole(server: Secured, files: Files) -> None:
    with server.client(files.client_context()) as client:
        body = client.ask(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").body
    assert body == b"".join(bytes([number]) * MEGABYTE for number in range(8))


@pytest.mark.parametrize(
    "suites",
    [("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",), ("ECDHE-ECDSA-CHACHA20-POLY1305",)],
)
def test_the_ciphers_of_tls_1_2_can_be_chosen(files: Files, suites: tuple[str, ...]) -> None:
    context = files.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with secured(APP, files.settings(ciphersuites=suites)) as running:
        with running.client(context) as client:
            cipher = client.secured.cipher()
            assert cipher is not None
            assert cipher[0] == "ECDHE-ECDSA-CHACHA20-POLY1305"
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            running.client(context)


@pytest.mark.parametrize(
    "changes", [{"minimumtls": "tls1.3"}, {"ciphersuites": ("TLS_AES_128_GCM_SHA256",)}]
)
def test_tls_1_3_only(files: Files, changes: dict[str, Any]) -> None:
    context = files.client_context()
    with secured(APP, files.settings(**changes)) as running:
        with running.client(context) as client:
            assert client.secured.version() == "TLSv1.3"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            running.client(context)


def test_names_of_ciphers() -> None:
    assert openssl_names(()) == DEFAULT
    assert (
        openssl_name("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")
        == openssl_name("ECDHE-RSA-AES128-GCM-SHA256")
        == "ECDHE-RSA-AES128-GCM-SHA256"
    )
    assert openssl_names(("TLS_AES_256_GCM_SHA384", "AES128-SHA")) == ("AES128-SHA",)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("TLS_NONSENSE", "is not a cipher suite"),
        ("ALL", "is not a cipher suite"),
        ("ECDHE-RSA-AES128-GCM-SHA256:aNULL", "is not a cipher suite"),
        ("@SECLEVEL=0", "is not a cipher suite"),
        ("TLS_RSA_WITH_RC4_128_SHA", "is not a cipher suite"),
        ("AECDH-AES128-SHA", "does not keep this server's secrets"),
        ("NULL-SHA256", "does not keep this server's secrets"),
        ("PSK-AES128-GCM-SHA256", "does not keep this server's secrets"),
    ],
)
def test_ciphers_that_are_none_or_weak(files: Files, name: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        openssl_name(name)
    with pytest.raises(CannotSecure, match=rf"^http\.tls\.ciphersuites: '.*{why}.*\.$"):
        tls.context(files.settings(ciphersuites=(name,)))


REFUSED = "refused"
ALERTS = {
    "none": {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_HANDSHAKE_FAILURE"},
    "ours": set(),
    "foreign": {"TLSV1_ALERT_UNKNOWN_CA"},
}
"""By which a client knows why it was refused."""
STRICT: ClientAuth = "require-and-verify-client-cert"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("clientauth", "without", "foreign"),
    [
        ("request-client-cert", None, REFUSED),
        ("require-any-client-cert", REFUSED, REFUSED),
        ("verify-client-cert-if-given", None, REFUSED),
        ("require-and-verify-client-cert", REFUSED, REFUSED),
    ],
)
def test_client_certificates(
    tmp_path: Path,
    files: Files,
    version: ssl.TLSVersion,
    clientauth: ClientAuth,
    without: str | None,
    foreign: str,
) -> None:
    (tmp_path / "foreign").mkdir()
    pairs = {
        "none": (None, without),
        "ours": (files.issue("alice"), "alice"),
        "foreign": (Authority(tmp_path / "foreign").issue("mallory", "alice"), foreign),
    }
    settings = files.settings(clientcas=(str(files.authority.certificate),), clientauth=clientauth)
    with secured(APP, settings) as running:
        for whose, (pair, expected) in pairs.items():
            context = files.client_context(pair)
            context.minimum_version = context.maximum_version = version
            try:
                with running.client(context) as client:
                    found = json.loads(client.ask(WHO).body)["name"]
            except ssl.SSLError as error:
                found = REFUSED if error.reason in ALERTS[whose] else error.reason
            assert found == expected, whose


def test_a_client_certificate_means_nothing_without_authorities(
    server: Secured, files: Files
) -> None:
    with server.client(files.client_context(files.issue("alice"))) as client:
        assert json.loads(client.ask(WHO).body)["name"] is None


class Peer:
    """Of an ssl.SSLObject, as much as is looked at."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def getpeercert(self) -> dict[str, Any]:
        subject = [(("commonName", name),) for name in self._names]
        return {"subject": ((("organizationName", "o"),), *subject)}

    def version(self) -> str:
        return "TLSv1.3"


@pytest.mark.parametrize("names", [(), ("",), ("a", "b"), ("a\n",), (" a",), ("a\0b",)])
def test_an_ambiguous_common_name_is_none(names: tuple[str, ...]) -> None:
    peer: Any = Peer(*names)
    assert tls.extension(peer)["client_cert_name"] is None
    plain: Any = Peer("build robot 7")
    assert tls.extension(plain)["client_cert_name"] == "build robot 7"


def test_warnings_at_the_start(tmp_path: Path) -> None:
    files = Files(tmp_path)
    assert tls.warnings(files.settings()) == []
    files.key.chmod(0o640)
    (group,) = tls.warnings(files.settings())
    assert f"The private key {files.key} is open to the group of its file (mode 0640)" in group
    real = tmp_path / "real.key"
    files.key.rename(real)
    files.key.symlink_to(real)
    real.chmod(0o644)
    (world,) = tls.warnings(files.settings())
    assert f"{files.key} (a symbolic link to {real}) is open to everybody" in world
    real.chmod(0o600)
    authorities = (str(files.authority.certificate),)
    for lax, strict in (
        ("request-client-cert", "verify-client-cert-if-given"),
        ("require-any-client-cert", STRICT),
    ):
        (said,) = tls.warnings(files.settings(clientcas=authorities, clientauth=lax))
        assert f"{lax} is taken as {strict}" in said
    files.key.unlink()
    assert tls.warnings(files.settings()) == []


def test_why_a_certificate_cannot_be_used(tmp_path: Path) -> None:
    files = Files(tmp_path)

    def reason(**changes: Any) -> str:
        with pytest.raises(CannotSecure) as caught:
            tls.context(files.settings(**changes))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "No such file" in reason(key="/no.key")
    assert "the key is not the one of the certificate" in reason(key=str(files.issue()[1]))
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "pkey", "-in", files.key, "-out", encrypted, "-aes256", "-passout", "pass:x"],
        check=True,
    )
    assert "is encrypted; store it decrypted" in reason(key=str(encrypted))
    half = tmp_path / "half.pem"
    half.write_bytes(files.certificate.read_bytes()[:300])
    assert "it is no whole PEM file" in reason(certificate=str(half))
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert "Cannot use the certificate" in reason(certificate=str(empty))
    assert "client CA" in reason(clientcas=(str(empty),))
    assert "client CA" in reason(clientcas=("/no.pem",))


def test_a_slow_client_does_not_make_the_server_hold_its_answer(
    server: Secured, files: Files
) -> None:
    """While one client takes nothing of 8 MiB, another is answered."""
    context = files.client_context()
    with SecureClient(server.port, context) as slow:
        slow.say(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        with SecureClient(server.port, context) as other:
            assert other.ask(GET).status == 200
        assert len(slow.answer().body) == 8 * MEGABYTE


@pytest.mark.parametrize("size", [0, 1, 60])
def test_a_handshake_has_a_deadline(files: Files, size: int) -> None:
    client = files.client_context().wrap_bio(
        ssl.MemoryBIO(), hello := ssl.MemoryBIO(), server_hostname=NAME
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    with secured(APP, files.settings(), header_timeout=0.5) as running:
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as bare:
            bare.sendall(hello.read()[:size])
            begun = time.monotonic()
            assert bare.recv(65536) == b""
            assert 0.3 < time.monotonic() - begun < 5


def test_a_refused_client_that_stays_is_cut_off(files: Files) -> None:
    with secured(APP, files.settings(), header_timeout=0.5) as running:
        with Client(running.port) as client:
            assert client.ask(GET).status == 400
            assert client.ended()


def test_a_handshake_that_has_begun_when_the_server_stops_is_served(files: Files) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = files.client_context().wrap_bio(incoming, outgoing, server_hostname=NAME)
    with secured(APP, files.settings()) as running:
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE) as bare:
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            bare.sendall(outgoing.read())
            incoming.write(bare.recv(65536))
            running.server.drain(at_once=True)
            refused = False
            while not refused:
                try:
                    socket.create_connection(("127.0.0.1", running.port), PATIENCE).close()
                except OSError:
                    refused = True
            client.do_handshake()
            client.write(GET)
            bare.sendall(outgoing.read())
            incoming.write(bare.recv(65536))
            assert client.read().startswith(b"HTTP/1.1 200")
