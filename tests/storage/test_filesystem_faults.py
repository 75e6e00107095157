"""The driver `filesystem` when the system below it fails, lies or is slow to tell."""

from __future__ import annotations

import errno
import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.driver_errors import (
    Conflict,
    DriverError,
    InvalidKey,
    NoSpace,
    ObjectNotFound,
    Unavailable,
)
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.posix import translate
from storage.drivers.tree import STALE_TRIES
from tests.storage.driver_contract import content, grow, keys_below, names, opened, publish
from tests.storage.test_filesystem import LOCKS, TMP, descriptors_below, ended, python

MIB = 1024 * 1024

DIE_IN = """
def die(*_):
    os._exit(137)
os.{call} = die
driver.swap('a/key', b'new', expected=b'old')
"""

LIMITED_FILES = """
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
writer = driver.writer('growing', create=True)
for use in (
    lambda: writer.append([b'x' * 60_000] * 3),
    lambda: driver.write('key', b'x' * 100_001),
):
    try:
        use()
    except NoSpace as error:
        print('EFBIG' in str(error), writer.size)
"""

LIMITED_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
held = []
try:
    while True:
        held.append(driver.open('a/key'))
except Unavailable as error:
    print('EMFILE' in str(error))
for use in (
    lambda: driver.stat('a/absent'),
    lambda: driver.write('a/new', b'x'),
    lambda: driver.list('a'),
    lambda: driver.swap('a/new', b'x', expected=None),
    driver.check,
):
    try:
        use()
    except Unavailable as error:
        print('EMFILE' in str(error))
held.pop().close()
print(driver.read('a/key'))
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "root"
    assert descriptors_below(tmp_path) == []


@pytest.fixture
def driver(root: Path) -> FilesystemDriver:
    driver = FilesystemDriver(root)
    driver.prepare()
    return driver


class Recorder:
    """What is made durable, in which order: names below the root, temporary files as TMP."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.events: list[tuple[str, str]] = []
        self._root = root
        for name in ("fsync", "fdatasync"):
            monkeypatch.setattr(os, name, self._on_descriptor(name, getattr(os, name)))
        for name in ("rename", "mkdir", "unlink"):
            monkeypatch.setattr(os, name, self._on_path(name, getattr(os, name)))

    def _name(self, path: str) -> str:
        name = os.path.relpath(path, self._root)
        return TMP if name.startswith(TMP) else name

    def _on_descriptor(self, name: str, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            real(descriptor)
            self.events.append((name, self._name(os.readlink(f"/proc/self/fd/{descriptor}"))))

        return call

    def _on_path(self, name: str, real: Callable[..., None]) -> Callable[..., None]:
        def call(*paths: str) -> None:
            real(*paths)
            self.events.append((name, self._name(paths[-1])))

        return call


@pytest.fixture
def recorder(
    root: Path, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Recorder]:
    with monkeypatch.context() as patch:
        yield Recorder(root, patch)


def test_a_write_is_durable_before_it_returns(driver: FilesystemDriver, recorder: Recorder) -> None:
    driver.write("a/b/c/key", b"data")
    assert recorder.events == [
        ("fsync", TMP),
        ("mkdir", "a"),
        ("mkdir", "a/b"),
        ("mkdir", "a/b/c"),
        ("rename", "a/b/c/key"),
        ("fsync", "a/b/c"),
        ("fsync", "."),
        ("fsync", "a"),
        ("fsync", "a/b"),
    ]
    recorder.events.clear()
    driver.write("a/b/c/key", b"new")
    assert recorder.events == [("fsync", TMP), ("rename", "a/b/c/key"), ("fsync", "a/b/c")]


def test_a_swap_is_durable_before_it_returns(driver: FilesystemDriver, recorder: Recorder) -> None:
    driver.swap("a/key", b"data", expected=None)
    assert recorder.events == [
        ("fsync", TMP),
        ("mkdir", "a"),
        ("rename", "a/key"),
        ("fsync", "a"),
        ("fsync", "."),
    ]
    recorder.events.clear()
    driver.swap("a/key", None, expected=b"data")
    assert recorder.events == [("unlink", "a/key"), ("fsync", "a")]


def test_a_publication_is_durable_before_it_returns(
    driver: FilesystemDriver, recorder: Recorder
) -> None:
    with driver.writer("up/1/data", create=True) as writer:
        writer.append([b"data"])
        writer.sync()
        writer.append([b" and more"])
        writer.publish("blobs/ab/data")
    assert recorder.events == [
        ("mkdir", "up"),
        ("mkdir", "up/1"),
        ("fdatasync", "up/1/data"),
        ("fsync", "up/1"),
        ("fsync", "."),
        ("fsync", "up"),
        ("fdatasync", "up/1/data"),
        ("mkdir", "blobs"),
        ("mkdir", "blobs/ab"),
        ("rename", "blobs/ab/data"),
        ("fsync", "blobs/ab"),
        ("fsync", "."),
        ("fsync", "blobs"),
    ]


def test_what_another_published_is_made_durable_too(
    driver: FilesystemDriver, recorder: Recorder
) -> None:
    """It may have renamed it a moment ago, and not have synced the directory yet."""
    driver._tree.local = False  # elsewhere it would be replaced
    driver.write("blobs/data", b"data")
    grow(driver, "up/data", b"data")
    recorder.events.clear()
    publish(driver, "up/data", "blobs/data")
    assert recorder.events == [("unlink", "up/data"), ("fsync", "blobs")]


def test_a_writer_that_is_taken_up_makes_its_name_durable(
    driver: FilesystemDriver, recorder: Recorder
) -> None:
    """The one that made it may never have synced."""
    driver.writer("up/data", create=True).close()
    recorder.events.clear()
    with driver.writer("up/data", create=False) as writer:
        writer.append([b"data"])
        writer.sync()
        writer.sync()
    assert recorder.events == [("fdatasync", "up/data"), ("fsync", "up"), ("fdatasync", "up/data")]


def test_deletions_are_durable(driver: FilesystemDriver, recorder: Recorder) -> None:
    for key in ("a/1", "a/2", "a/3", "b/4", "c/d/5"):
        driver.write(key, b"x")
    recorder.events.clear()
    driver.delete("a/1")
    assert recorder.events == [("unlink", "a/1"), ("fsync", "a")]
    recorder.events.clear()
    driver.delete_many(["a/2", "a/3", "b/4"])
    assert sorted(recorder.events[3:]) == [("fsync", "a"), ("fsync", "b")]
    recorder.events.clear()
    driver.delete_tree("c")
    assert recorder.events == [("unlink", "c/d/5"), ("fsync", ".")]


@pytest.mark.parametrize(
    ("number", "reading", "kind"),
    [
        (errno.ENOSPC, False, NoSpace),
        (errno.EDQUOT, True, NoSpace),
        (errno.EFBIG, False, NoSpace),
        (errno.ENOENT, True, ObjectNotFound),
        (errno.ENOTDIR, True, ObjectNotFound),
        (errno.EISDIR, True, ObjectNotFound),
        (errno.ENOENT, False, Unavailable),
        (errno.ENOTDIR, False, Unavailable),
        (errno.ENAMETOOLONG, True, InvalidKey),
        *(
            (number, reading, Unavailable)
            for number in (
                errno.EIO,
                errno.EROFS,
                errno.EACCES,
                errno.EPERM,
                errno.EMFILE,
                errno.ENFILE,
                errno.ESTALE,
                errno.ETIMEDOUT,
                errno.EBUSY,
                errno.EXDEV,
                errno.ELOOP,
                errno.ENOLCK,
                errno.EINVAL,
            )
            for reading in (True, False)
        ),
    ],
)
def test_errors_of_the_system(number: int, reading: bool, kind: type[DriverError]) -> None:
    error = translate(OSError(number, os.strerror(number)), "stat", "a/key", reading=reading)
    assert type(error) is kind
    assert "stat a/key" in str(error)
    if kind in (NoSpace, Unavailable):
        assert errno.errorcode[number] in str(error)


def failing(number: int) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize(
    ("call", "number", "kind"),
    [
        ("write", errno.ENOSPC, NoSpace),
        ("fsync", errno.EIO, Unavailable),
        ("fsync", errno.EDQUOT, NoSpace),
        ("close", errno.EDQUOT, NoSpace),
        ("rename", errno.EIO, Unavailable),
        ("rename", errno.EXDEV, Unavailable),
        ("mkdir", errno.ENOSPC, NoSpace),
        ("mkdir", errno.EACCES, Unavailable),
    ],
)
@pytest.mark.parametrize("use", ["write", "swap"])
def test_a_write_that_fails_leaves_nothing(
    root: Path,
    driver: FilesystemDriver,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
    kind: type[DriverError],
    use: str,
) -> None:
    driver.write("a/key", b"old")

    def write(key: str) -> None:
        if use == "write":
            driver.write(key, b"new")
        else:
            driver.swap(key, b"new", expected=b"old" if key == "a/key" else None)

    key = "b/c/key" if call == "mkdir" else "a/key"
    real = os.close
    with monkeypatch.context() as patch:
        if call == "close":

            def close(descriptor: int) -> None:
                name = os.readlink(f"/proc/self/fd/{descriptor}")
                real(descriptor)
                if TMP in name:
                    raise OSError(number, os.strerror(number))

            patch.setattr(os, "close", close)
        else:
            patch.setattr(os, call, failing(number))
        with pytest.raises(kind) as caught:
            write(key)
        assert isinstance(caught.value.__cause__, OSError)
    assert driver.read("a/key") == b"old"
    assert keys_below(driver, "") == ["a/key"]
    assert os.listdir(root / TMP) == []
    write(key)
    assert driver.read(key) == b"new"


def test_short_writes_are_gone_on_with(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, pwritev, pread = os.write, os.pwritev, os.pread

    def less(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        return pwritev(descriptor, [buffers[0][:777]], offset)

    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1_000]))
    monkeypatch.setattr(os, "pwritev", less)
    monkeypatch.setattr(os, "pread", lambda fd, size, at: pread(fd, min(size, 900), at))
    data = content(100_000)
    driver.write("written", data)
    grow(driver, "growing", data[:40_000], b"", data[40_000:])
    publish(driver, "growing", "grown")
    assert driver.read("written") == driver.read("grown") == data


def test_a_failed_append_says_what_was_kept(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, room = os.pwritev, [2_500]

    def pwritev(descriptor: int, buffers: list[memoryview], offset: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, [b"".join(buffers)[: room[0]]], offset)
        room[0] -= written
        return written

    data = content(4_000)
    with driver.writer("growing", create=True) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", pwritev)
            with pytest.raises(NoSpace):
                writer.append([data[:1_000], data[1_000:2_000], data[2_000:]])
        assert writer.size == 2_500
        writer.append([data[2_500:]])
        writer.sync()
        writer.publish("finished")
    assert driver.read("finished") == data


@pytest.mark.parametrize("call", ["fdatasync", "fsync"])
def test_after_a_failed_sync_a_writer_is_of_no_use(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A second fsync may call lost pages durable, so what was not synced before is sent again."""
    with driver.writer("growing", create=True) as writer:
        writer.append([b"x" * 1_000])
        if call == "fdatasync":
            writer.sync()
        writer.append([b"y" * 1_000])
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(errno.EIO))
            with pytest.raises(Unavailable, match="EIO"):
                writer.sync()
        for use in (
            writer.sync,
            functools.partial(writer.append, [b"z"]),
            functools.partial(writer.publish, "finished"),
        ):
            with pytest.raises(Unavailable, match="an earlier sync failed"):
                use()
    kept = 1_000 if call == "fdatasync" else 0
    assert writer.size == kept
    assert driver.stat_growing("growing").size == kept
    with driver.writer("growing", create=False) as writer:
        writer.append([b"z"])
        writer.sync()
        writer.publish("finished")
    assert driver.read("finished") == b"x" * kept + b"z"


@pytest.mark.parametrize("call", ["rename", "fsync", "utime"])
def test_a_publication_that_fails_may_be_repeated(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    grow(driver, "growing", b"data")
    with driver.writer("growing", create=False) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(os, call, failing(errno.EIO))
            with pytest.raises(Unavailable):
                writer.publish("blob")
        if call != "fsync":
            writer.publish("blob")
    assert driver.read("blob") == b"data"


def test_a_negative_answer_is_not_believed_at_once(
    root: Path, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an NFS client does: a name that was absent stays absent until its directory is opened."""
    driver.write("a/b/key", b"data")
    grow(driver, "a/b/growing", b"data")
    for name in ("to-unlink", "to-swap"):
        driver.write(f"a/b/{name}", b"data")
    forgotten: set[str] = set()
    real_open, real_unlink, real_scandir = os.open, os.unlink, os.scandir

    def absent(path: str) -> None:
        if any(path == each or path.startswith(f"{each}/") for each in forgotten):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    def fake_open(path: str, flags: int, mode: int = 0o777) -> int:
        absent(path)
        descriptor = real_open(path, flags, mode)
        if flags & os.O_DIRECTORY:
            forgotten.difference_update(
                [each for each in forgotten if os.path.dirname(each) == path]
            )
        return descriptor

    def fake_unlink(path: str) -> None:
        absent(path)
        real_unlink(path)

    def fake_scandir(path: str) -> Any:
        absent(path)
        return real_scandir(path)

    monkeypatch.setattr(os, "open", fake_open)
    monkeypatch.setattr(os, "unlink", fake_unlink)
    monkeypatch.setattr(os, "scandir", fake_scandir)
    for hidden in ("a/b/key", "a/b", "a"):
        forgotten.add(f"{root}/{hidden}")
        assert driver.stat("a/b/key").size == 4
        forgotten.add(f"{root}/{hidden}")
        assert driver.read("a/b/key") == b"data"
    forgotten.add(f"{root}/a/b/growing")
    assert driver.stat_growing("a/b/growing").size == 4
    forgotten.add(f"{root}/a/b/growing")
    driver.writer("a/b/growing", create=False).close()
    forgotten.add(f"{root}/a/b")
    assert names(driver, "a/b") == ["growing", "key", "to-swap", "to-unlink"]
    forgotten.add(f"{root}/a/b/to-unlink")
    driver.delete("a/b/to-unlink")
    forgotten.add(f"{root}/a/b/to-swap")
    with pytest.raises(Conflict):
        driver.swap("a/b/to-swap", b"new", expected=None)
    with pytest.raises(ObjectNotFound):
        driver.stat("a/b/absent")
    with pytest.raises(ObjectNotFound):
        driver.stat("a/absent/key")


@pytest.mark.parametrize("times", [1, 2])
def test_a_stale_handle_is_opened_again_but_not_for_ever(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    data = content(10_000)
    driver.write("a/key", data)
    left = {"open": 1 if times == 1 else STALE_TRIES + 2, "pread": 0}

    def stale(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if left[name] and not (name == "open" and arguments[1] & os.O_DIRECTORY):
                left[name] -= 1
                raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
            return real(*arguments)

        return call

    for name in left:
        monkeypatch.setattr(os, name, stale(name, getattr(os, name)))
    if times == 1:
        assert driver.read("a/key") == data
    else:
        with pytest.raises(Unavailable, match="ESTALE"):
            driver.read("a/key")
    with opened(driver, "a/key") as reader:
        descriptor = reader.fileno()
        left["pread"] = times
        if times == 1:
            assert reader.read_at(5, 100) == data[5:105]
        else:
            with pytest.raises(Unavailable, match="ESTALE"):
                reader.read_at(5, 100)
        assert reader.fileno() == descriptor
        driver.write("a/key", data)
        left["pread"] = 1
        with pytest.raises(Unavailable, match="replaced"):
            reader.read_at(5, 100)
        assert reader.read_at(5, 100) == data[5:105]


def test_a_leaf_that_cannot_be_read_is_not_absent(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the error names it."""
    real = os.open

    def refuse(path: str, *arguments: int, **options: int) -> int:
        if path == "b/link":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        return real(path, *arguments, **options)

    driver.write("a/b/link", b"x")
    for call, fail, number in (
        ("open", refuse, errno.EACCES),
        ("read", failing(errno.EIO), errno.EIO),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail)
            with pytest.raises(Unavailable, match=rf"a/b/link: {errno.errorcode[number]}"):
                driver.read_leaves("a", ["absent", "b"], "link", length=10)
    assert driver.read_leaves("a", ["absent", "b"], "link", length=10) == {"b": b"x"}


def test_a_directory_that_cannot_be_read_is_not_empty(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.write("a/b/key", b"x")
    for number in (errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE):
        with monkeypatch.context() as patch:
            patch.setattr(os, "scandir", failing(number))
            for use in (driver.list, lambda key: list(driver.walk(key)), driver.delete_tree):
                with pytest.raises(Unavailable, match=errno.errorcode[number]):
                    use("a")
            driver.prune("a")
    assert driver.read("a/b/key") == b"x"


def test_a_file_held_open_elsewhere_outlives_its_tree(
    root: Path, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS keeps it as .nfsXXXX, will not remove it, and so not its directory either."""
    driver.write("up/1/data", b"x")
    held = root / "up/1/.nfs000000000000abcd00000001"
    held.touch()
    real = os.unlink

    def unlink(path: str) -> None:
        if path == str(held):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", unlink)
        driver.delete_tree("up/1")
    assert names(driver, "up/1") == []
    with pytest.raises(ObjectNotFound):
        driver.stat("up/1/data")
    driver.delete_tree("up/1")
    assert names(driver, "up") == []


def test_a_storage_that_went_away_is_not_an_empty_one(
    root: Path, tmp_path: Path, driver: FilesystemDriver
) -> None:
    """What is left of an unmounted volume is its empty mount point, or nothing."""
    driver.write("docker/registry/v2/blobs/data", b"x")
    root.rename(tmp_path / "away")
    for empty in (False, True):
        if empty:
            root.mkdir()
        for use in (
            driver.stat,
            driver.read,
            driver.delete,
            driver.local_path,
            driver.list,
            functools.partial(driver.write, data=b"x"),
            functools.partial(driver.swap, data=b"x", expected=None),
            functools.partial(driver.writer, create=True),
            functools.partial(driver.writer, create=False),
        ):
            with pytest.raises(Unavailable):
                use("docker/registry/v2/blobs/data")
        with pytest.raises(Unavailable):
            driver.check()
        assert not root.exists() or os.listdir(root) == []
    root.rmdir()
    (tmp_path / "away").rename(root)
    assert driver.read("docker/registry/v2/blobs/data") == b"x"


def test_a_process_that_dies_in_a_write_leaves_the_old_value(
    root: Path, driver: FilesystemDriver
) -> None:
    driver.write("a/key", b"old")
    for call in ("fsync", "rename"):
        process = python(DIE_IN.format(call=call), root)
        ended(process)
        assert process.returncode == 137
        assert driver.read("a/key") == b"old"
        driver.check()
    assert keys_below(driver, "") == ["a/key"]
    assert len(os.listdir(root / TMP)) == 2
    driver.swap("a/key", b"new", expected=b"old")


def mount(*arguments: str | Path) -> None:
    try:
        subprocess.run(
            ["mount", *map(str, arguments)], check=True, capture_output=True, text=True, timeout=60
        )
    except FileNotFoundError:
        pytest.skip("there is no mount(8)")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"mounting is not permitted here: {error.stderr.strip()}")


def unmount(path: Path) -> None:
    subprocess.run(["umount", "--lazy", str(path)], check=True, timeout=60)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount("-t", "tmpfs", "-o", "size=4m", "none", path)
    try:
        yield path
        assert descriptors_below(path) == []
    finally:
        unmount(path)


def test_a_full_disk(small: Path) -> None:
    driver = FilesystemDriver(small)
    driver.prepare()
    driver.write("tag", b"old")
    driver.write("ballast/1", b"x" * MIB)
    data = content(8 * MIB)
    with driver.writer("up/data", create=True) as writer:
        with pytest.raises(NoSpace):
            writer.append([data[start : start + MIB] for start in range(0, len(data), MIB)])
        kept = writer.size
        assert 2 * MIB < kept < 3 * MIB
        writer.sync()
    assert driver.stat_growing("up/data").size == kept
    with pytest.raises(NoSpace):
        driver.write("tag", b"x" * 10_000)
    with pytest.raises(NoSpace):
        driver.swap("tag", b"new", expected=b"old")
    with pytest.raises(NoSpace):
        driver.check()
    assert driver.read("tag") == b"old"
    assert os.listdir(small / TMP) == []
    driver.delete("ballast/1")
    with driver.writer("up/data", create=False) as writer:
        assert writer.size == kept
        writer.append([data[kept : kept + 1_000]])
        writer.sync()
        writer.publish("blob")
    assert driver.read("blob") == data[: kept + 1_000]


def test_deletions_on_a_full_disk(small: Path) -> None:
    driver = FilesystemDriver(small)
    driver.prepare()
    for key in ("tags/1/link", "tags/2/link", "tags/3/link", "tags/4/link"):
        driver.swap(key, b"x", expected=None)
    with driver.writer("up/data", create=True) as writer, pytest.raises(NoSpace):
        writer.append([b"x" * 5 * MIB])
    driver.swap("tags/1/link", None, expected=b"x")
    driver.delete("tags/2/link")
    driver.delete_many(["tags/3/link"])
    driver.delete_tree("up")
    driver.delete_tree("tags/4")
    assert keys_below(driver, "") == []
    driver.write("key", b"x" * MIB)


def test_a_read_only_disk(small: Path) -> None:
    driver = FilesystemDriver(small)
    driver.prepare()
    driver.write("tag", b"old")
    grow(driver, "up/data", b"data")
    mount("-o", "remount,ro", small)
    for use in (
        lambda: driver.write("tag", b"new"),
        lambda: driver.swap("tag", b"new", expected=b"old"),
        lambda: driver.swap("tag", None, expected=b"old"),
        lambda: driver.writer("up/data", create=False),
        lambda: driver.writer("up/other", create=True),
        lambda: driver.delete("tag"),
        lambda: driver.delete_tree("up"),
        driver.check,
        driver.prepare,
    ):
        with pytest.raises(Unavailable, match="EROFS"):
            use()
    assert driver.read("tag") == b"old"
    assert driver.stat_growing("up/data").size == 4
    assert keys_below(driver, "") == ["tag", "up/data"]


@pytest.mark.parametrize("directory", ["docker", "docker/registry/v2/blobs", TMP])
@pytest.mark.parametrize("bound", [True, False])
def test_a_root_of_several_mounts_is_refused(tmp_path: Path, directory: str, bound: bool) -> None:
    """Renames between them would fail, be they two filesystems or one that is mounted twice."""
    root = tmp_path / "root"
    (tmp_path / "other").mkdir()
    driver = FilesystemDriver(root)
    os.makedirs(root / directory)
    if bound:
        mount("--bind", tmp_path / "other", root / directory)
    else:
        mount("-t", "tmpfs", "-o", "size=1m", "none", root / directory)
    try:
        if directory == "docker":
            driver.prepare()  # all of the tree is on the other mount: nothing is wrong with that
            driver.write("docker/key", b"x")
        else:
            with pytest.raises(Unavailable, match="is on another mount than"):
                driver.prepare()
    finally:
        unmount(root / directory)
    if directory != "docker":
        driver.prepare()


def test_a_limit_on_the_size_of_files(root: Path, driver: FilesystemDriver) -> None:
    process = python(LIMITED_FILES, root)
    assert ended(process).splitlines() == ["True 100000", "True 100000"]
    assert driver.stat_growing("growing").size == 100_000
    assert keys_below(driver, "") == ["growing"]
    assert os.listdir(root / TMP) == []


def test_a_limit_on_open_files(root: Path, driver: FilesystemDriver) -> None:
    """Out of descriptors is never "not found", and passes."""
    driver.write("a/key", b"data")
    process = python(LIMITED_DESCRIPTORS, root)
    assert ended(process).split() == ["True"] * 6 + ["b'data'"]
    assert names(driver, "a") == ["key"]


def test_a_lock_file_belongs_to_many_keys(root: Path, driver: FilesystemDriver) -> None:
    for number in range(600):
        driver.swap(f"key{number}", b"x", expected=None)
    assert len(os.listdir(root / LOCKS)) <= 256
