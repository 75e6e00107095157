r"""SHA-256 and SHA-512 whose state can leave the process and go on elsewhere.

hashlib cannot export a half-done hash. OpenSSL's own functions can: the state is a plain structure
(openssl/sha.h), the same on every version. It travels in the form that Go's crypto packages
marshal, because that is what Distribution keeps in `hashstates/`:

    sha256: "sha\x03" + 8 x uint32 + 64 bytes of block + uint64 length     108 bytes, big-endian
    sha512: "sha\x07" + 8 x uint64 + 128 bytes of block + uint64 length    204 bytes, big-endian

Speed is hashlib's: it is the same code. Where libcrypto cannot be loaded, hashing works through
hashlib and `export` gives None; a half-done upload is then read again.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final, Self

from storage.model.digest import Digest


@dataclass(frozen=True, slots=True)
class _Shape:
    magic: bytes
    word: str
    block: int
    context: type[ctypes.Structure]
    functions: str

    @property
    def header(self) -> struct.Struct:
        return struct.Struct(f">4s8{self.word}")


class _Sha256Context(ctypes.Structure):
    _fields_ = (
        ("h", ctypes.c_uint32 * 8),
        ("low", ctypes.c_uint32),  # length in bits, low word first
        ("high", ctypes.c_uint32),
        ("block", ctypes.c_ubyte * 64),
        ("used", ctypes.c_uint),
        ("digest_length", ctypes.c_uint),
    )


class _Sha512Context(ctypes.Structure):
    _fields_ = (
        ("h", ctypes.c_uint64 * 8),
        ("low", ctypes.c_uint64),
        ("high", ctypes.c_uint64),
        ("block", ctypes.c_ubyte * 128),
        ("used", ctypes.c_uint),
        ("digest_length", ctypes.c_uint),
    )


_SHAPES: Final = {
    "sha256": _Shape(b"sha\x03", "I", 64, _Sha256Context, "SHA256"),
    "sha512": _Shape(b"sha\x07", "Q", 128, _Sha512Context, "SHA512"),
}


def _load() -> ctypes.CDLL | None:
    for name in ("libcrypto.so.3", ctypes.util.find_library("crypto")):
        if name is None:
            continue
        try:
            library = ctypes.CDLL(name)
            for shape in _SHAPES.values():
                for step, arguments in (
                    ("Init", [ctypes.c_void_p]),
                    ("Update", [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]),
                    ("Final", [ctypes.c_char_p, ctypes.c_void_p]),
                ):
                    getattr(library, f"{shape.functions}_{step}").argtypes = arguments
        except (OSError, AttributeError):
            continue
        return library
    return None


_libcrypto = _load()


def _address(data: bytes | memoryview) -> Any:
    """For a parameter that is a pointer, without copying. The memory stays while the result does."""
    if isinstance(data, bytes):
        return data
    return bytes(data) if data.readonly else ctypes.byref(ctypes.c_char.from_buffer(data))


class Hasher:
    """A running hash. `length` counts the bytes so far. Not thread-safe."""

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.length = 0
        self._shape = _SHAPES[algorithm]
        self._context: ctypes.Structure | None = None
        if _libcrypto is None:
            self._fallback = hashlib.new(algorithm)
            return
        self._context = self._shape.context()
        self._init, self._update, self._final = (
            getattr(_libcrypto, f"{self._shape.functions}_{step}")
            for step in ("Init", "Update", "Final")
        )
        self._init(ctypes.byref(self._context))

    def update(self, data: bytes | memoryview) -> None:
        """The interpreter is free for other threads meanwhile."""
        if self._context is None:
            self._fallback.update(data)
        elif data:
            self._update(ctypes.byref(self._context), _address(data), len(data))
        self.length += len(data)

    def digest(self) -> Digest:
        """Of what came so far; more may follow."""
        if self._context is None:
            return Digest(self.algorithm, self._fallback.hexdigest())
        context = self._shape.context.from_buffer_copy(self._context)
        result = ctypes.create_string_buffer(hashlib.new(self.algorithm).digest_size)
        self._final(result, ctypes.byref(context))
        return Digest(self.algorithm, result.raw.hex())

    def export(self) -> bytes | None:
        if self._context is None:
            return None
        shape, context = self._shape, self._context
        used = self.length % shape.block
        return (
            shape.header.pack(shape.magic, *context.h)
            + bytes(context.block[:used]).ljust(shape.block, b"\0")
            + struct.pack(">Q", self.length)
        )

    @classmethod
    def resume(cls, algorithm: str, state: bytes) -> Self | None:
        """Go on from an exported state; None if it is not one, or cannot be used here."""
        hasher = cls(algorithm)
        shape, context = hasher._shape, hasher._context
        if context is None or len(state) != shape.header.size + shape.block + 8:
            return None
        magic, *words = shape.header.unpack_from(state)
        if magic != shape.magic:
            return None
        (length,) = struct.unpack_from(">Q", state, shape.header.size + shape.block)
        used = length % shape.block
        block = state[shape.header.size : shape.header.size + used]
        word_bits = 8 * (shape.block // 16)
        context.h[:] = words
        context.low = (length * 8) & ((1 << word_bits) - 1)
        context.high = (length * 8) >> word_bits
        context.block[:used] = block
        context.used = used
        hasher.length = length
        return hasher
