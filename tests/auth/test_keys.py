"""The directory of signing keys: who makes the first, which signs, which verify, what is complained of."""

from __future__ import annotations

import logging
import os
import stat
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from auth.jwk import KeysUnavailable, from_jwk, libtrust_fingerprint
from auth.keyfiles import SEAL
from auth.keys import GRACE, REREAD, KeyRing
from auth.signing import Algorithm

START = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def ring(path: Path, clock: Clock, algorithm: Algorithm = "ES256") -> KeyRing:
    return KeyRing(str(path), algorithm=algorithm, clock=clock, ticks=clock)


def pem(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
def test_the_first_key_is_made_and_signs_at_once(
    tmp_path: Path, clock: Clock, algorithm: Algorithm
) -> None:
    keys = ring(tmp_path / "made" / "keys", clock, algorithm)
    key = keys.signing()
    assert key.algorithm == algorithm
    [name] = os.listdir(keys.directory)
    assert name == f"20270115T080000Z-{key.kid}.pem"
    assert stat.S_IMODE(os.stat(Path(keys.directory, name)).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(keys.directory).st_mode) == 0o700
    found = keys.find(key.kid)
    assert found is not None
    assert found.verifies(algorithm, b"data", key.sign(b"data"))
    assert not found.verifies(algorithm, b"date", key.sign(b"data"))
    assert keys.complaints == ()


def test_looking_makes_nothing(tmp_path: Path, clock: Clock) -> None:
    keys = ring(tmp_path / "keys", clock)
    assert keys.find("x") is None
    assert keys.at_hand("x") is None
    assert not (tmp_path / "keys").exists()


def test_all_workers_get_the_same_first_key(tmp_path: Path) -> None:
    barrier = threading.Barrier(8)
    kids: list[str] = []

    def worker() -> None:
        keys = KeyRing(str(tmp_path / "keys"))
        barrier.wait(10)
        kids.append(keys.signing().kid)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(kids) == 8
    assert len(set(kids)) == 1
    assert len(os.listdir(tmp_path / "keys")) == 1


def test_whoever_claims_late_finds_the_key_of_the_one_before(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    winner: list[str] = []
    open_ = os.open

    def late(path: str, flags: int, mode: int = 0o777) -> int:
        if path.endswith(".creating") and not winner:
            winner.append("")
            winner[0] = ring(tmp_path, clock).signing().kid
        return open_(path, flags, mode)

    monkeypatch.setattr(os, "open", late)
    assert [ring(tmp_path, clock).signing().kid] == winner
    assert len(os.listdir(tmp_path)) == 1


def test_a_claim_of_the_dead_is_taken_over(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auth.keyfiles._CLAIM_LIFE", 0.05)
    (tmp_path / ".creating").touch()
    assert ring(tmp_path, clock).signing().kid in os.listdir(tmp_path)[0]
    assert not (tmp_path / ".creating").exists()


def test_a_new_key_verifies_at_once_and_signs_after_the_grace(tmp_path: Path, clock: Clock) -> None:
    here, there = ring(tmp_path, clock), ring(tmp_path, clock)
    first = here.signing().kid
    assert there.signing().kid == first
    clock.now += 1000
    second = here.rotate()
    assert second != first
    assert there.find(second) is not None
    assert [key["kid"] for key in here.jwks()["keys"]] == [second, first]
    clock.now += GRACE - 1
    assert here.signing().kid == first
    clock.now += 1
    assert here.signing().kid == there.signing().kid == second
    assert there.find(first) is not None


def test_another_node_sees_a_rotation_and_a_removal_in_time(tmp_path: Path, clock: Clock) -> None:
    here, there = ring(tmp_path, clock), ring(tmp_path, clock)
    first = here.signing().kid
    assert there.find(first) is not None
    clock.now += GRACE
    second = here.rotate()
    assert there.at_hand(second) is None
    clock.now += GRACE
    assert there.signing().kid == second
    [gone] = [path for path in tmp_path.iterdir() if first in path.name]
    gone.unlink()
    assert there.at_hand(first) is not None
    clock.now += REREAD
    assert there.at_hand(first) is None
    assert there.find(first) is None


def test_unknown_kids_cause_one_look_a_second(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ring(tmp_path, clock)
    keys.signing()
    looks: list[str] = []
    listdir = os.listdir

    def counted(path: str) -> list[str]:
        looks.append(path)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", counted)
    for number in range(100):
        assert keys.find(f"unknown{number}") is None
    assert looks == []
    clock.now += 1
    for number in range(100):
        assert keys.find(f"unknown{number}") is None
    assert len(looks) == 1


def test_rotating_in_the_same_second_or_with_a_slow_clock_keeps_the_order(
    tmp_path: Path, clock: Clock
) -> None:
    keys = ring(tmp_path, clock)
    kids = [keys.signing().kid, keys.rotate(), keys.rotate()]
    clock.now -= 500
    kids.append(keys.rotate())
    assert [key["kid"] for key in keys.jwks()["keys"]] == kids[::-1]
    clock.now += 500 + GRACE + 3
    assert keys.signing().kid == kids[-1]


def test_rotating_nothing_makes_the_first(tmp_path: Path, clock: Clock) -> None:
    keys = ring(tmp_path, clock)
    assert keys.rotate() == keys.signing().kid
    assert len(os.listdir(tmp_path)) == 1


def test_pruning_waits_until_no_token_is_left(tmp_path: Path, clock: Clock) -> None:
    keys = ring(tmp_path, clock)
    first = keys.signing().kid
    clock.now += 10
    second = keys.rotate()
    clock.now += GRACE + 3599
    assert keys.prune(3600) == []
    clock.now += 1
    assert keys.prune(3600) == [first]
    assert keys.find(first) is None
    clock.now += 1_000_000
    assert keys.prune(3600) == []
    assert keys.signing().kid == second


def test_a_broken_file_is_left_out_and_told_once(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ring(tmp_path, clock)
    kid = keys.signing().kid
    broken = {
        "20300101T000000Z-rsa.pem": pem(rsa.generate_private_key(65537, 2048)),
        "20300101T000000Z-p384.pem": pem(ec.generate_private_key(ec.SECP384R1())),
        "20300101T000000Z-empty.pem": b"",
        "20300101T000000Z-long.pem": b"x" * 70_000,
        "20300101T000000Z-half.pem": pem(ec.generate_private_key(ec.SECP256R1()))[:80],
    }
    for name, data in broken.items():
        (tmp_path / name).write_bytes(data)
        (tmp_path / name).chmod(0o600)
    (tmp_path / "20300101T000000Z-directory.pem").mkdir()
    for _ in range(3):
        clock.now += REREAD
        assert keys.signing().kid == kid
    for name in (*broken, "20300101T000000Z-directory.pem"):
        records = [record for record in caplog.records if name in record.getMessage()]
        assert [record.levelno for record in records] == [logging.ERROR], name
    assert len(keys.complaints) == 6


def test_an_operators_own_key_signs(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "ours.pem"
    path.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    path.chmod(0o600)
    os.utime(path, (START - 5000, START - 5000))
    key = ring(tmp_path, clock).signing()
    assert key.algorithm == "EdDSA"
    assert key.certificate is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_that_others_can_read_is_told(
    tmp_path: Path, clock: Clock, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    ring(tmp_path, clock).signing()
    [path] = tmp_path.iterdir()
    path.chmod(mode)
    keys = ring(tmp_path, clock)
    keys.signing()
    assert "can be read by others" in caplog.text
    [complaint] = keys.complaints
    assert path.name in complaint


def test_a_linked_key_is_told(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "keys"
    made = ring(directory, clock).signing()
    [path] = directory.iterdir()
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    keys = ring(directory, clock)
    assert keys.signing().kid == made.kid
    assert "symbolic link" in caplog.text


def test_a_sealing_key_that_others_can_read_is_told(tmp_path: Path, clock: Clock) -> None:
    keys = ring(tmp_path, clock)
    keys.signing()
    seal = Path(keys.directory, SEAL)
    (tmp_path / "elsewhere").write_text("secret")
    (tmp_path / "elsewhere").chmod(0o644)
    seal.symlink_to(tmp_path / "elsewhere")
    clock.now += REREAD
    keys.look()
    linked, readable = keys.complaints
    assert linked.startswith("sealing-key is a symbolic link")
    assert "sealing-key can be read by others (mode 0644)" in readable
    seal.unlink()
    seal.touch(mode=0o600)
    clock.now += REREAD
    keys.look()
    assert keys.complaints == ()


def test_a_directory_that_others_can_write_is_told(tmp_path: Path, clock: Clock) -> None:
    keys = ring(tmp_path, clock)
    tmp_path.chmod(0o777)
    keys.signing()
    assert "can be written by others" in " ".join(keys.complaints)


def test_no_place_for_a_key(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(KeysUnavailable, match="cannot be written"):
        ring(tmp_path / "file" / "keys", clock).signing()


def test_a_directory_full_of_rubbish_makes_no_key_silently(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "20300101T000000Z-x.pem").write_text("rubbish")
    with pytest.raises(KeysUnavailable, match="No key"):
        ring(tmp_path, clock).signing()
    assert len(os.listdir(tmp_path)) == 1


def test_keys_survive_a_directory_that_cannot_be_read_now(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ring(tmp_path, clock)
    kid = keys.signing().kid

    def refuse(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "listdir", refuse)
    clock.now += REREAD
    assert keys.signing().kid == kid
    assert "cannot be read" in " ".join(keys.complaints)


def test_a_slow_disk_holds_up_one_caller_only(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = ring(tmp_path, clock)
    kid = keys.signing().kid
    stuck, go = threading.Event(), threading.Event()
    listdir = os.listdir

    def slow(path: str) -> list[str]:
        stuck.set()
        go.wait(10)
        return listdir(path)

    monkeypatch.setattr(os, "listdir", slow)
    monkeypatch.setattr(keys, "_due", lambda: True)
    first = threading.Thread(target=keys.signing)
    first.start()
    assert stuck.wait(10)
    assert keys.signing().kid == kid
    assert first.is_alive()
    go.set()
    first.join(10)


def test_what_is_published_is_public(tmp_path: Path, clock: Clock) -> None:
    keys = ring(tmp_path, clock)
    key = keys.signing()
    [published] = keys.jwks()["keys"]
    assert set(published) == {"kty", "crv", "x", "y", "alg", "use", "kid"}
    read = from_jwk(published)
    assert read is not None
    assert read.kid == key.kid
    assert read.verifies("ES256", b"data", key.sign(b"data"))
    assert "private" not in repr(key).lower()


def test_the_certificates_are_of_the_keys(tmp_path: Path, clock: Clock) -> None:
    keys = ring(tmp_path, clock)
    keys.signing()
    keys.rotate()
    certificates = x509.load_pem_x509_certificates(keys.certificates())
    assert len(certificates) == 2
    for certificate in certificates:
        public = certificate.public_key()
        assert isinstance(public, ec.EllipticCurvePublicKey)
        assert len(libtrust_fingerprint(public)) == 59
