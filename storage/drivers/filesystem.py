"""Objects as plain files below a directory, in CNCF Distribution's tree, on a local disk or on NFS.

Files are made 0666 and directories 0777, less the umask, so that another registry on the same tree may
read and remove them. An OSError never leaves this package: `posix.system_errors` translates it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from storage.driver import Anything, Child, Driver, Leaf, ObjectInfo, Reader, check_key
from storage.driver_errors import Conflict, ObjectNotFound, WouldBlock
from storage.drivers import cached, discarding, preparing, walking
from storage.drivers.discarding import TrashedFiles
from storage.drivers.growing import GrowingFile, open_growing_file
from storage.drivers.locks import Stripes
from storage.drivers.plain import (
    leaves_by_walking,
    names_by_listing,
    read_each_leaf,
)
from storage.drivers.posix import sync_directories, system_errors
from storage.drivers.reading import PAGE, Changed, FileReader, read_page, read_pages
from storage.drivers.tree import Tree

CHANGED_TRIES = 3
"""How often an object that is read in one go may be replaced, or written in place, meanwhile."""


class FilesystemDriver:
    """A `storage.driver.Driver`. Call prepare() before the first write.

    `tmp` and `locks` are directories below `root`, kept out of every list. Temporary files are renamed
    from `tmp` to their names, so all of `root` must be one mount. No key may be a directory of another:
    `a` and `a/b` cannot both be objects. A directory stays when its last object goes by delete(), and
    is listed until prune() or delete_tree().
    """

    name = "filesystem"
    remote = False

    def __init__(
        self,
        root: Path,
        *,
        tmp: str = "docker/registry/v2/holdfast/tmp",
        locks: str = "docker/registry/v2/holdfast/locks",
        trash: str = "docker/registry/v2/gc/trash",
    ) -> None:
        self._trash = check_key(trash)
        self._tree = Tree(os.path.abspath(root), tmp, locks)
        self._stripes = Stripes(self._tree.locks)

    def prepare(self, *, readonly: bool = False) -> None:
        """Make the directories the driver needs, and refuse a root that it cannot work with.

        Removes what writers that died left in `tmp`. With `readonly` it only looks whether there is a
        root. Raises Unavailable with a sentence for the operator, or NoSpace.
        """
        (preparing.look if readonly else preparing.prepare)(self._tree)

    def stat(self, key: str) -> ObjectInfo:
        path = self._tree.path(key)
        with system_errors("stat", key, reading=True):
            status = self._tree.status(path)
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        if self._tree.local and not offset:
            path = self._tree.path(key)
            wanted = PAGE if length is None else min(length, PAGE)
            with system_errors("read", key, reading=True):
                data = read_page(self._tree, path, wanted)
            if wanted == length or len(data) < wanted:  # else there is more than a page of it
                return data
        for _ in range(CHANGED_TRIES):
            with contextlib.suppress(Changed):
                return self._read(key, offset, length)
        return self._read(key, offset, length)

    def open(self, key: str) -> FileReader:
        path = self._tree.path(key)
        with system_errors("open", key, reading=True):
            return FileReader(self._tree, key, path)

    def write(self, key: str, data: bytes) -> None:
        path = self._tree.path(key)
        with system_errors("write", key):
            self._tree.write(path, data)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        path = self._tree.path(key)
        with system_errors("swap", key), self._stripes.held(key):
            if data is not None and isinstance(expected, Anything):
                self._tree.write(path, data)
                return
            self._tree.look_at_directory(path)
            try:
                current = self.read(key)
            except ObjectNotFound:
                current = None
            if not isinstance(expected, Anything) and current != expected:
                raise Conflict(f"swap {key}: it holds another value than expected")
            if data is not None:
                self._tree.write(path, data)
            elif current is not None:
                with contextlib.suppress(FileNotFoundError):  # a deletion of the tree was faster
                    os.unlink(path)
                sync_directories([os.path.dirname(path)])

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> GrowingFile:
        return open_growing_file(self._tree, key, create=create)

    def stat_growing(self, key: str) -> ObjectInfo:
        return self.stat(key)

    def open_growing(self, key: str) -> FileReader:
        return self.open(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[Child]:
        directory = self._directory(prefix)
        with system_errors("list", prefix):
            found = walking.children(self._tree, directory)
        if after:
            found = [child for child in found if f"{child.name}/" > f"{after}/"]
        return iter(sorted(found, key=lambda child: f"{child.name}/"))

    def has_children(self, prefix: str) -> bool:
        directory = self._directory(prefix)
        with system_errors("list", prefix):
            return walking.has_children(self._tree, directory)

    def edition(self, prefix: str) -> Hashable | None:
        return walking.edition(self._directory(prefix)) if self._tree.local else None

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        found = walking.walk(self._tree, self._directory(prefix), prefix)
        return (info for info in found if info.key > after) if after else found

    def leaves(self, prefix: str, leaf: str) -> Sequence[Leaf]:
        if self._tree.local:
            return walking.leaves(self._tree, self._directory(prefix), prefix, check_key(leaf))
        return leaves_by_walking(self, prefix, leaf)

    def names(self, prefix: str) -> Sequence[str]:
        directory = self._directory(prefix)
        if self._is_plain(directory):
            with system_errors("list", prefix):
                return self._tree.names(directory)
        return names_by_listing(self, prefix)

    def read_leaves(
        self, prefix: str, names: Sequence[str], leaf: str, *, length: int
    ) -> Mapping[str, bytes]:
        directory = self._directory(prefix)
        if not (self._is_plain(directory) and length <= PAGE):
            return read_each_leaf(self, prefix, names, leaf, length=length)
        check_key("/".join([*names, leaf]))
        with system_errors("read", prefix):
            return read_pages(self._tree, prefix, names, leaf, length)

    def delete(self, key: str) -> None:
        path = self._tree.path(key)
        with system_errors("delete", key, reading=True):
            self._tree.unlink(path)
        with system_errors("delete", key):
            sync_directories([os.path.dirname(path)])

    def delete_many(self, keys: Iterable[str]) -> None:
        shrunk = set()
        for key in keys:
            path = self._tree.path(key)
            try:
                with system_errors("delete", key, reading=True):
                    self._tree.unlink(path)
            except ObjectNotFound:
                continue
            shrunk.add(os.path.dirname(path))
        with system_errors("delete", f"{len(shrunk)} directories"):
            sync_directories(shrunk)

    def delete_tree(self, prefix: str) -> None:
        directory = self._tree.path(prefix)
        with system_errors("delete below", prefix):
            walking.remove(self._tree, directory)

    discards_expire = False

    def begin_discards(self, batch: str) -> None:
        with system_errors("begin discards", batch):
            discarding.begin(self._tree, self._tree.path(f"{self._trash}/{batch}"))

    def discarder(self, batch: str, *, since: float, lifetime: float) -> TrashedFiles:
        return TrashedFiles(self._tree, self._tree.path(f"{self._trash}/{batch}"))

    def end_discards(self, batch: str) -> None:
        with system_errors("end discards", batch):
            discarding.end(self._tree.path(f"{self._trash}/{batch}"))

    def forget_discards(self, batch: str) -> None:
        self.end_discards(batch)
        self.delete_tree(f"{self._trash}/{batch}{discarding.ENDED}")

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        path, trash = self._tree.path(key), self._tree.path(self._trash)
        with system_errors("recover", key):
            return discarding.recover(self._tree, trash, key, path, sound)

    def abort_unfinished(self, prefix: str, *, before: float) -> int:
        return 0

    def prune(self, prefix: str) -> None:
        walking.prune(self._tree, self._tree.path(prefix))

    def presign(self, key: str, *, lifetime: int, patient: bool = True) -> str | None:
        check_key(key)
        return None

    def local_path(self, key: str) -> Path | None:
        try:
            self.stat(key)
        except ObjectNotFound:
            return None
        return Path(self._tree.path(key))

    def immediate(self) -> Driver | None:
        if not (cached.is_local(self._tree.root) and cached.works(self._tree.root)):
            return None
        return CachedFilesystem(self._tree)

    def close(self) -> None:
        """Nothing is left to do."""

    def check(self) -> None:
        preparing.probe(self._tree)

    def _read(self, key: str, offset: int, length: int | None) -> bytes:
        reader = self.open(key)
        try:
            return reader.read_at(offset, reader.info.size if length is None else length)
        finally:
            reader.close()

    def _is_plain(self, directory: str) -> bool:
        """Whether nothing in it is kept out of lists, nor can be other than this machine remembers it."""
        return self._tree.local and directory not in self._tree.above_own

    def _directory(self, prefix: str) -> str:
        return self._tree.path(prefix) if prefix else self._tree.root


class CachedFilesystem(FilesystemDriver):
    """The immediate view: what it does not know by heart is WouldBlock."""

    def __init__(self, tree: Tree) -> None:
        self._tree = cached.CachedTree(tree)
        self._stripes = Stripes(tree.locks)

    def stat(self, key: str) -> ObjectInfo:
        descriptor, status = self._tree.open(self._tree.path(key))
        os.close(descriptor)
        return ObjectInfo(key, status.st_size, status.st_mtime)

    def read(self, key: str, *, offset: int = 0, length: int | None = None) -> bytes:
        path = self._tree.path(key)
        if length is not None and offset + length <= cached.PAGE:
            return cached.read_page(path, offset, length)
        descriptor, status = self._tree.open(path)
        try:
            rest = max(status.st_size - offset, 0)
            length = rest if length is None else min(length, rest)
            if length > cached.LARGEST_READ:
                raise WouldBlock(f"read {key}: {length} bytes")
            return cached.read_cached(descriptor, offset, length)
        finally:
            os.close(descriptor)

    def swap(self, key: str, data: bytes | None, *, expected: bytes | None | Anything) -> None:
        raise WouldBlock(key)

    def writer(self, key: str, *, create: bool, state: str = "", final: str = "") -> GrowingFile:
        raise WouldBlock(key)

    def walk(self, prefix: str, *, after: str = "") -> Iterator[ObjectInfo]:
        raise WouldBlock(prefix)

    def recover(self, key: str, sound: Callable[[Reader], bool]) -> bool:
        raise WouldBlock(key)

    def delete(self, key: str) -> None:
        raise WouldBlock(key)

    def delete_many(self, keys: Iterable[str]) -> None:
        raise WouldBlock(str(keys))

    def delete_tree(self, prefix: str) -> None:
        raise WouldBlock(prefix)

    def prune(self, prefix: str) -> None:
        raise WouldBlock(prefix)

    def check(self) -> None:
        raise WouldBlock("check")
