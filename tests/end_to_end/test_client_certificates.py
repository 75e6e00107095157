"""A client certificate that says who its bearer is: no log-in and no password, over real TLS."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from auth.making import htpasswd_line
from tests.support import access
from tests.support.certificates import Authority
from tests.support.clients import Outcome, Skopeo, wait_for
from tests.support.images import MIB, Layout, layout_blobs, random_layer
from tests.support.servers import Server, holdfast

POLICY = """\
version: 1
allow:
  - {who: [group:developers], repositories: [team/**], actions: [pull, push]}
  - {who: [user:bob], repositories: [team/**], actions: [pull]}
"""
ALICE = "users: {{alice: {{password: '{}', groups: [developers], disabled: {}}}}}\n"


@dataclass(frozen=True)
class Guarded:
    server: Server
    directory: Path
    authority: Authority

    def certificates(self, name: str, authority: Authority | None = None) -> Path:
        """A directory as skopeo takes it: the registry's authority, and the certificate of a user."""
        place = self.directory / f"of {name}"
        if not place.exists():
            place.mkdir()
            shutil.copy(self.authority.certificate, place / "ca.crt")
            certificate, key = (authority or self.authority).issue(name, name)
            shutil.copy(certificate, place / "client.cert")
            shutil.copy(key, place / "client.key")
        return place


def write_users(directory: Path, *, disabled: bool) -> None:
    """Nobody shows the password that is in it."""
    stored = htpasswd_line("alice", "unused", 4).partition(":")[2]
    (directory / "users.yml").write_text(ALICE.format(stored, str(disabled).lower()))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("certificates")
    authority = Authority(directory)
    certificate, key = authority.issue("registry", "127.0.0.1")
    (directory / "policy.yml").write_text(POLICY)
    builtin = {
        "keys": str(directory / "keys"),
        "users": str(directory / "users.yml"),
        "policy": str(directory / "policy.yml"),
        "certificates": True,
    }
    tls = {
        "certificate": str(certificate),
        "key": str(key),
        "clientcas": [str(authority.certificate)],
        "clientauth": "verify-client-cert-if-given",
    }
    write_users(directory, disabled=False)
    config = {"auth": {"builtin": builtin}, "http": {"tls": tls}}
    with holdfast(directory, authority=authority.certificate, config=config) as server:
        yield Guarded(server, directory, authority)
    assert access.failures(server) == []
    shutil.rmtree(directory)


def push(skopeo: Skopeo, guarded: Guarded, certificates: Path, source: Layout) -> Outcome:
    there = f"docker://{guarded.server.address}/team/app:1"
    options = ("-q", "--preserve-digests", "--dest-cert-dir", str(certificates))
    return skopeo("copy", *options, source.reference("1"), there, check=False)


def test_who_shows_one_needs_no_log_in(skopeo: Skopeo, guarded: Guarded, work: Path) -> None:
    source = Layout(work / "source")
    source.tag(source.image([random_layer(MIB, "certificate")]), "1")
    there = f"docker://{guarded.server.address}/team/app:1"

    nobody = work / "nobody"
    nobody.mkdir()
    shutil.copy(guarded.authority.certificate, nobody / "ca.crt")
    for certificates in (nobody, guarded.certificates("bob")):
        assert "denied" in push(skopeo, guarded, certificates, source).stderr
    (work / "elsewhere").mkdir()
    foreign = guarded.certificates("mallory", Authority(work / "elsewhere"))
    assert "unknown certificate authority" in push(skopeo, guarded, foreign, source).stderr

    pushed = push(skopeo, guarded, guarded.certificates("alice"), source)
    assert pushed.code == 0, pushed.stderr
    done = [line for line in access.lines(guarded.server) if line["logger"] == "holdfast.audit"]
    assert ("push", "alice", "certificate") in {
        (line["msg"], line.get("who"), line.get("how")) for line in done
    }
    back = ("--preserve-digests", "--src-cert-dir", str(guarded.certificates("bob")))
    skopeo("copy", "-q", *back, there, f"oci:{work}/back:1")
    assert layout_blobs(work / "back") == layout_blobs(source.path)

    # Nobody shows a password here, so nothing but the certificate makes the registry look.
    write_users(guarded.directory, disabled=True)

    def shut_out() -> bool:
        return push(skopeo, guarded, guarded.certificates("alice"), source).code != 0

    wait_for(shut_out, "alice is shut out", 20, every=0.5)
