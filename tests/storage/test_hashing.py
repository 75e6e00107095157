"""Hashes whose state travels: exact bytes, resumed at every boundary, and without libcrypto."""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import hashing
from storage.hashing import Hasher

ALGORITHMS = ["sha256", "sha512"]
LENGTHS = {"sha256": 108, "sha512": 204}
BLOCKS = {"sha256": 64, "sha512": 128}
INITIAL = {
    # FIPS 180-4, sections 5.3.3 and 5.3.5.
    "sha256": "6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19",
    "sha512": (
        "6a09e667f3bcc908bb67ae8584caa73b3c6ef372fe94f82ba54ff53a5f1d36f1"
        "510e527fade682d19b05688c2b3e6c1f1f83d9abfb41bd6b5be0cd19137e2179"
    ),
}
DATA = bytes(range(256)) * 3


def exported(hasher: Hasher) -> bytes:
    state = hasher.export()
    assert state is not None, "libcrypto is not there"
    return state


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("length", range(300))
def test_resumed_at_every_boundary(algorithm: str, length: int) -> None:
    first = Hasher(algorithm)
    first.update(DATA[:length])
    state = exported(first)
    assert len(state) == LENGTHS[algorithm]
    second = Hasher.resume(algorithm, state)
    assert second is not None
    assert second.length == length
    assert exported(second) == state
    second.update(DATA[length:])
    assert second.digest().hex == hashlib.new(algorithm, DATA).hexdigest()
    assert second.length == len(DATA)


@pytest.mark.parametrize(("algorithm", "magic"), [("sha256", b"sha\x03"), ("sha512", b"sha\x07")])
def test_the_state_is_what_go_marshals(algorithm: str, magic: bytes) -> None:
    """Magic, chaining words, block with zeros behind, length in bytes; all big-endian."""
    block = BLOCKS[algorithm]
    fresh = Hasher(algorithm)
    words = bytes.fromhex(INITIAL[algorithm])
    assert exported(fresh) == magic + words + bytes(block) + struct.pack(">Q", 0)

    fresh.update(b"abc")
    padded = b"abc".ljust(block, b"\0")
    assert exported(fresh) == magic + words + padded + struct.pack(">Q", 3)

    fresh.update(bytes(block))  # what is left of the block before must not shine through
    state = exported(fresh)
    header = len(magic) + len(words)
    assert state[4:header] != words
    assert state[header : header + block] == bytes(block)
    assert state[header + block :] == struct.pack(">Q", block + 3)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_digest_is_of_what_came_so_far(algorithm: str) -> None:
    hasher = Hasher(algorithm)
    for length in range(0, len(DATA), 37):
        assert hasher.digest().hex == hashlib.new(algorithm, DATA[:length]).hexdigest()
        assert hasher.digest() == hasher.digest()
        hasher.update(DATA[length : length + 37])


@given(st.lists(st.binary(max_size=200)), st.sampled_from(ALGORITHMS))
@settings(deadline=None)
def test_any_pieces(pieces: list[bytes], algorithm: str) -> None:
    hasher = Hasher(algorithm)
    for piece in pieces:
        resumed = Hasher.resume(algorithm, exported(hasher))
        assert resumed is not None
        hasher = resumed
        hasher.update(piece)
    assert hasher.digest().hex == hashlib.new(algorithm, b"".join(pieces)).hexdigest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_lengths_beyond_what_one_word_of_bits_holds(algorithm: str) -> None:
    """512 MiB are 2^32 bits: the high word of a sha256 context."""
    length = 512 * 1024 * 1024
    state = bytearray(exported(Hasher(algorithm)))
    state[-8:] = struct.pack(">Q", length)
    hasher = Hasher.resume(algorithm, bytes(state))
    assert hasher is not None
    assert hasher.length == length
    hasher.update(b"abc")
    assert exported(hasher)[-8:] == struct.pack(">Q", length + 3)
    # The padding holds the length in bits, so a word that was lost would show in the digest.
    state[-8:] = struct.pack(">Q", 0)
    short = Hasher.resume(algorithm, bytes(state))
    assert short is not None
    short.update(b"abc")
    assert short.digest() != hasher.digest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_real_data_beyond_2_to_the_32_bits(algorithm: str) -> None:
    block = bytes(64 * 1024 * 1024)
    ours, theirs = Hasher(algorithm), hashlib.new(algorithm)
    for _ in range(8):
        ours.update(block)
        theirs.update(block)
    resumed = Hasher.resume(algorithm, exported(ours))
    assert resumed is not None
    resumed.update(b"end")
    theirs.update(b"end")
    assert resumed.digest().hex == theirs.hexdigest()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_is_no_state_is_refused(algorithm: str) -> None:
    state = exported(Hasher(algorithm))
    other = exported(Hasher("sha512" if algorithm == "sha256" else "sha256"))
    for wrong in (b"", state[:-1], state + b"\0", b"sha\x02" + state[4:], other, bytes(len(state))):
        assert Hasher.resume(algorithm, wrong) is None


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_without_libcrypto(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    state = exported(Hasher(algorithm))
    monkeypatch.setattr(hashing, "_libcrypto", None)
    hasher = Hasher(algorithm)
    hasher.update(DATA[:100])
    assert hasher.digest().hex == hashlib.new(algorithm, DATA[:100]).hexdigest()
    hasher.update(DATA[100:])
    assert hasher.digest().hex == hashlib.new(algorithm, DATA).hexdigest()
    assert hasher.length == len(DATA)
    assert hasher.export() is None
    assert Hasher.resume(algorithm, state) is None


def test_a_library_without_the_functions_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: "libm.so.6")
    real = ctypes.CDLL

    def load(name: str) -> object:
        if name == "libcrypto.so.3":
            raise OSError(name)
        return real(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert hashing._load() is None
    monkeypatch.setattr(ctypes.util, "find_library", lambda _: None)
    assert hashing._load() is None
