"""What a storage driver promises.

A driver keeps objects under keys. It knows nothing of repositories, digests or HTTP, blocks its
caller, and may be used by any number of threads, processes and nodes at once. Whatever it is asked
to write is durable when the call returns (fsync, or the store's own answer), unless the method says
otherwise. Each promise below has cases in `tests/storage/driver_contract.py`, which every driver
passes.

Keys are components of `[A-Za-z0-9._-]+`, none of them `.` or `..`, joined by `/`; anything else
raises `InvalidKey` before the storage is touched. No key is a directory of another: a driver need not
be able to keep both `a` and `a/b`.

Its errors are those of `driver_errors.py`, and no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Protocol, Self

from storage.driver_errors import InvalidKey

STATE_LIMIT = 1024
"""Characters in the state of a growing object: it travels in a URL."""

_DOTS = frozenset({".", ".."})
_KEY = re.compile(r"[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*", re.ASCII)


def check_key(key: str) -> str:
    """`key` itself, or InvalidKey."""
    if not _KEY.fullmatch(key) or ("." in key and not _DOTS.isdisjoint(key.split("/"))):
        raise InvalidKey(f"not a storage key: {key[:300]!r}")
    return key


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    key: str
    size: int
    modified: float  # seconds since the epoch, by the store's clock
    fingerprint: str = field(default="", compare=False)
    """From a listing, where the store has one: the MD5 of the content in hex, or something else that is
    no other content's MD5. So it can prove what an object holds, and never what it does not hold."""


class Leaf(NamedTuple):
    """An object by the one component of its key that is not known beforehand."""

    name: str
    size: int
    modified: float


class Child(NamedTuple):
    """One name directly below a prefix: an object, or a prefix of further keys."""

    name: str
    is_prefix: bool


class Anything:
    """The type of ANYTHING."""


ANYTHING: Final = Anything()
"""As `expected` of swap(): whatever is there, or nothing."""


class Reader(Protocol):
    """An object opened for reading. It stays readable, unchanged, if the object is deleted or replaced."""

    @property
    def info(self) -> ObjectInfo: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """At most `length` bytes from `offset`; fewer only at the end, b"" beyond it."""

    def fileno(self) -> int | None:
        """A descriptor that sendfile can read with explicit offsets, or None. Owned by the reader."""

    def close(self) -> None:
        """Idempotent."""


class Writer(Protocol):
    """The one writer of an object that grows. Not thread-safe; a second writer is refused with Busy.

    Of a growing object only writer(), the two methods named after it and delete_tree() may be
    asked; what the others say of it differs between drivers.
    """

    @property
    def size(self) -> int:
        """Bytes the object holds, with those this writer has appended."""

    def append(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Append the chunks in order. After NoSpace or Unavailable, `size` says what was kept."""

    def sync(self) -> None:
        """Make everything appended so far durable. A writer with `final` may leave it to publish().

        After an error nothing since the last sync is, the object may have been cut back as far as to
        nothing (`size` says), and this writer refuses all but close().
        """

    @property
    def state(self) -> str:
        """What lets any node take the object up at `size`, for the `state` of Driver.writer().

        Printable ASCII, at most STATE_LIMIT characters; "" if the driver finds the object by its key
        alone. Changes with sync(). Its bearer is believed, so it is given away only under a signature.
        """

    def publish(self, key: str) -> None:
        """Turn the growing object into the finished object `key`, and end the writer.

        Everything appended must be synced. Atomic: `key` is absent, then whole. If `key` exists
        with the same size, it may be kept and the growing object dropped, or it may be replaced, as
        is cheaper; with another size it is damaged, and is replaced. Any number of writers may
        publish one key at once, and all succeed. The modification time becomes now. Raises
        ObjectNotFound if the growing object was deleted meanwhile.
        """

    def close(self) -> None:
        """Let go of the object. Promises no durability; idempotent."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Discarder(Protocol):
    """Removals that cannot take effect late, however long a request or its process was held up."""

    def discard(self, key: str) -> bool:
        """Remove an object; False if it was not there.

        Raises Void once the batch is over. After any other error it is not known whether the object
        was removed, nor whether it will be, until the batch is over. Thread-safe.
        """


class Driver(Protocol):
    @property
    def name(self) -> str:
        """As in the configuration: `filesystem`, `s3`, `inmemory`."""

    @property
    def remote(self) -> bool:
        """Whether every call is a request to another machine, which takes milliseconds and money.

        Then a growing object costs nothing until its first byte, and its writer gives out a state.
        """

    def stat(self, key: str) -> ObjectInfo:
        """Raises ObjectNotFound."""

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """All of a small object, or a range of it; b"" from beyond its end. Raises ObjectNotFound."""

    def open(self, key: str) -> Reader:
        """Raises ObjectNotFound. The caller closes the reader."""

    def write(self, key: str, data: bytes) -> None:
        """Create or replace an object. Readers see the old bytes or the new, whole; so does a crash."""

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        """Replace an object only if it holds `expected`. Raises Conflict, having changed nothing.

        None means "no object": as `expected`, create, with a single winner among any number; as
        `data`, delete. swap() calls on one key take effect one after the other. A key that is
        changed by swap() is changed by nothing else.
        """

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> Writer:
        """Create an empty growing object, or take up one that exists.

        Raises Busy if another writer, of any process, has it; with `create`, Conflict if it exists,
        and without, ObjectNotFound if it does not. `state` is what the last writer gave out, and saves
        looking for the object; one that the driver cannot read counts as none. `final` says that this
        writer either publishes as that key or loses what it appended, so the driver may write there
        at once; it may then also leave to publish() the check whether the object was there at all.
        """

    def stat_growing(self, key: str) -> ObjectInfo:
        """What a growing object holds, also while a writer has it. Raises ObjectNotFound.

        Never answered from a cache: another node may have appended a moment ago.
        """

    def open_growing(self, key: str) -> Reader:
        """A growing object, for reading what was synced of it. Raises ObjectNotFound."""

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        """The names directly below `prefix`, in the order of `name + "/"`, each once.

        Only names whose `name + "/"` sorts after `after + "/"`, if `after` is given. Nothing below:
        an empty iterator, never ObjectNotFound. `prefix` "" is the root. A temporary file of the
        driver, and names that are not a key component, never appear. A prefix may still be listed
        when its last object is gone, until delete_tree() or prune().
        """

    def has_children(self, prefix: str) -> bool:
        """Whether list(prefix) has a name; cheaper than a list where the driver can tell it from less."""

    def edition(self, prefix: str) -> Hashable | None:
        """Changes whenever a name comes or goes directly below `prefix`.

        Also when prune() could not remove such a name, or one directly below it. So what was listed after
        it was asked for is the list for as long as it is the same. None where the driver cannot tell, or
        not yet: the last change is too young to be told from the next.
        """

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        """Every object below `prefix`, in no promised order. Ones that vanish meanwhile are left out.

        Only those whose whole key sorts after `after`, if it is given; it need not be a key.
        """

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        """The objects `<prefix>/<name>/<leaf>`, whatever the name, in no promised order, all at once.

        As walk() finds them, and faster where that would open a directory for each.
        """

    def names(self, prefix: str) -> Sequence[str]:
        """The names of list(prefix), in no promised order, all at once: cheaper where there are many.

        Names that are nobody's object may be among them.
        """

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        """Of each of the names, what read() gives of `<prefix>/<name>/<leaf>`, at most `length` bytes.

        Those that are absent are left out.
        """

    def delete(self, key: str) -> None:
        """Remove an object. Raises ObjectNotFound. Works on a full store."""

    def delete_many(self, keys: Iterable[str]) -> None:
        """Remove objects; those absent already are passed over."""

    def delete_tree(self, prefix: str) -> None:
        """Remove every object, finished or growing, below `prefix`, and nothing else.

        `a/1` is not below `a/10`, nor the other way round. Nothing there: nothing done. "" is refused
        with InvalidKey.
        """

    @property
    def discards_expire(self) -> bool:
        """Whether a batch is over by itself, at a time that the store knows; else somebody ends it."""

    def begin_discards(self, batch: str) -> None:
        """Once for each batch, a key component, before anybody else can know its name to end it."""

    def discarder(self, batch: str, *, since: float, lifetime: float) -> Discarder:
        """Removals of a batch that was begun.

        If discards_expire, it is over `lifetime` seconds after `since`, both by the store's clock.
        """

    def end_discards(self, batch: str) -> None:
        """Once this returns, no removal of the batch takes effect any more, whoever asked for it.

        Idempotent. Does nothing if discards_expire: then it is over when its time is.
        """

    def forget_discards(self, batch: str) -> None:
        """Give back the room that what a batch removed still takes; ends the batch. Idempotent."""

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        """Put an object back that discard() removed, if a batch that was not forgotten still has it.

        `sound` is asked of what the batches have under that key, until it is satisfied: only that is put
        back, as if written now. False if there is none, as always where a driver keeps nothing. An object
        that is there meanwhile may be replaced, so the key must say what its content is.
        """

    def abort_unfinished(self, prefix: str, *, before: float) -> int:
        """Give up writes below `prefix` that nobody finished and no key shows; the number given up.

        Of each, the newest part must be older than `before`, in seconds since the epoch. 0 where a
        driver has no such thing: a multipart upload to an object store is one.
        """

    def prune(self, prefix: str) -> None:
        """Remove empty directories at and below `prefix`, where a driver has such; best effort."""

    def presign(self, key: str, *, lifetime: int, patient: bool = True) -> str | None:
        """A URL from which a client can GET the object for `lifetime` seconds, or None.

        Without `patient`, raises WouldBlock rather than wait, for credentials to be renewed.
        """

    def local_path(self, key: str) -> Path | None:
        """Where the object is on this machine, or None."""

    def immediate(self) -> Driver | None:
        """A view for an event loop: read(), stat() and open() answer at once or raise WouldBlock.

        None where the driver has no such thing. What else the view is asked raises WouldBlock or
        does as the driver does, but never waits. "Not there" is never answered: that too is WouldBlock.
        """

    def close(self) -> None:
        """Do now what was to be done a little later, and let go of everything. Idempotent; never fails."""

    def check(self) -> None:
        """Write, read and delete a probe object. Raises Unavailable or NoSpace."""
