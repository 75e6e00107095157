"""The driver `filesystem`: the contract, and what is true of files only."""

from __future__ import annotations

import functools
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.driver import Child, Driver, Reader
from storage.driver_errors import Busy, InvalidKey, ObjectNotFound, Unavailable, WouldBlock
from storage.drivers import cached, locks, preparing
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.reading import PAGE
from tests.storage.driver_contract import (
    DriverContract,
    grow,
    keys_below,
    names,
    opened,
    publish,
)
from tests.storage.editions import settled

TMP = "docker/registry/v2/holdfast/tmp"
LOCKS = "docker/registry/v2/holdfast/locks"
CHECKOUT = Path(__file__).parents[2]
OURS = ["docker/registry/v2/holdfast/tmp/x", TMP, LOCKS, f"{LOCKS}/00"]


def descriptors_below(root: Path) -> list[str]:
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            continue
        if target.startswith(f"{root}/"):
            found.append(target)
    return found


class TestFilesystemDriver(DriverContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Iterator[Driver]:
        """Nothing may be left in `tmp`, nor any file open, whatever a case did."""
        driver = FilesystemDriver(tmp_path / "root")
        driver.prepare()
        yield driver
        assert os.listdir(tmp_path / "root" / TMP) == []
        assert descriptors_below(tmp_path) == []


def test_an_edition_changes_with_the_names_and_not_with_what_is_below_them(
    driver: FilesystemDriver,
) -> None:
    driver.write("a/1/link", b"x")
    first = settled(driver, "a")
    driver.write("a/1/link", b"y")
    driver.write("a/1/other", b"y")
    assert driver.edition("a") == first
    driver.write("a/2/link", b"x")
    second = settled(driver, "a")
    driver.delete_tree("a/2")
    third = settled(driver, "a")
    driver.prune("a/1")
    assert len({first, second, third, settled(driver, "a")}) == 4
    assert driver.edition("absent") is None


def test_a_name_that_could_not_be_removed_shows_in_the_editions_above(
    root: Path, driver: FilesystemDriver
) -> None:
    """In the second too: a change of the first may come of any other name."""
    driver.write("r/a/1/link", b"x")
    driver.write("r/b/1/link", b"x")
    before = {prefix: settled(driver, prefix) for prefix in ("", "r", "r/a", "r/b")}
    driver.prune("r/a/1")
    driver.prune("r/b/absent")
    after = {prefix: settled(driver, prefix) for prefix in before}
    assert {prefix for prefix in before if after[prefix] != before[prefix]} == {"r", "r/a"}
    outside = root.parent.stat().st_ctime_ns
    driver.prune("r")
    assert root.parent.stat().st_ctime_ns == outside, "nothing beyond the root is touched"
    assert settled(driver, "") != before[""]


def test_leaves_of_a_root_that_is_gone_are_not_absent(root: Path, driver: FilesystemDriver) -> None:
    driver.write("a/1/link", b"x")
    root.rename(root.parent / "moved")
    with pytest.raises(Unavailable, match="Mount it again"):
        driver.read_leaves("a", ["1"], "link", length=10)
    with pytest.raises(Unavailable, match="Mount it again"):
        driver.names("a")


def test_leaves_within_what_the_driver_keeps_for_itself_are_refused(
    driver: FilesystemDriver,
) -> None:
    above, _, own = TMP.rpartition("/")
    assert own not in driver.names(above)
    with pytest.raises(InvalidKey):
        driver.read_leaves(above, [own], "link", length=10)


def test_a_filesystem_of_a_server_has_no_editions(driver: FilesystemDriver) -> None:
    driver.write("a/1/link", b"x")
    settled(driver, "a")
    driver._tree.local = False
    assert driver.edition("a") is None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


@pytest.fixture
def driver(root: Path) -> FilesystemDriver:
    driver = FilesystemDriver(root)
    driver.prepare()
    return driver


def python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Another process. It has `driver`, on the root that is its first argument."""
    head = (
        "import contextlib, os, sys\nfrom pathlib import Path\n"
        "from storage.driver import *\nfrom storage.driver_errors import *\n"
        "from storage.drivers.filesystem import FilesystemDriver\n"
        "driver = FilesystemDriver(Path(sys.argv[1]))\ndriver.prepare()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", head + code, *map(str, arguments)],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    return output


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_constructor_touches_nothing(root: Path) -> None:
    driver = FilesystemDriver(root)
    assert not root.exists()
    with pytest.raises(Unavailable):
        driver.write("key", b"x")
    with pytest.raises(Unavailable):
        driver.stat("key")
    with pytest.raises(Unavailable):
        list(driver.list(""))
    with pytest.raises(Unavailable):
        driver.writer("a/key", create=True)
    assert not root.exists()


def test_prepare_may_be_repeated(root: Path, driver: FilesystemDriver) -> None:
    driver.prepare()
    FilesystemDriver(root).prepare()
    assert sorted(os.listdir(root / "docker/registry/v2/holdfast")) == ["locks", "tmp"]
    assert os.listdir(root / LOCKS) == []


def test_the_root_of_the_machine_is_refused() -> None:
    with pytest.raises(InvalidKey):
        FilesystemDriver(Path("/"))


def test_a_relative_root_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    driver = FilesystemDriver(Path("data"))
    monkeypatch.chdir("/")
    driver.prepare()
    assert (tmp_path / "data").is_dir()


def test_temporary_files_of_the_dead_are_removed_after_a_day(root: Path) -> None:
    driver = FilesystemDriver(root)
    driver.prepare()
    for name, age in (("old", preparing.ABANDONED + 60), ("young", preparing.ABANDONED - 60)):
        (root / TMP / name).touch()
        os.utime(root / TMP / name, (time.time() - age,) * 2)
    driver.prepare()
    assert os.listdir(root / TMP) == ["young"]


def test_objects_are_plain_files_at_their_keys(root: Path, driver: FilesystemDriver) -> None:
    driver.write("docker/registry/v2/link", b"written")
    driver.swap("docker/registry/v2/tag", b"swapped", expected=None)
    grow(driver, "_uploads/1/data", b"grown")
    assert (root / "docker/registry/v2/link").read_bytes() == b"written"
    assert (root / "docker/registry/v2/tag").read_bytes() == b"swapped"
    assert (root / "_uploads/1/data").read_bytes() == b"grown"
    assert driver.local_path("_uploads/1/data") == root / "_uploads/1/data"
    (root / "_uploads/1/data").write_bytes(b"grown by another registry")
    with driver.writer("_uploads/1/data", create=False) as writer:
        assert writer.size == 25


@pytest.mark.parametrize("size", [PAGE - 1, PAGE, PAGE + 1])
@pytest.mark.parametrize("length", [None, PAGE, 2 * PAGE])
def test_what_a_page_can_hold_and_what_it_cannot(
    driver: FilesystemDriver, size: int, length: int | None
) -> None:
    data = bytes(range(256)) * 17
    driver.write("key", data[:size])
    assert driver.read("key", length=length) == data[:size][:length]


@pytest.mark.parametrize(("mask", "file", "directory"), [(0, 0o666, 0o777), (0o027, 0o640, 0o750)])
def test_modes(root: Path, mask: int, file: int, directory: int) -> None:
    previous = os.umask(mask)
    try:
        driver = FilesystemDriver(root)
        driver.prepare()
        driver.write("a/written", b"x")
        driver.swap("b/swapped", b"x", expected=None)
        grow(driver, "c/growing", b"x")
        publish(driver, "c/growing", "d/published")
        driver.writer("e/growing", create=True).close()
    finally:
        os.umask(previous)
    for above, directories, files in os.walk(root):
        for name in directories:
            assert stat.S_IMODE(os.stat(f"{above}/{name}").st_mode) == directory
        for name in files:
            assert stat.S_IMODE(os.stat(f"{above}/{name}").st_mode) == file


def test_what_is_no_object_is_not_listed(root: Path, driver: FilesystemDriver) -> None:
    driver.write("tags/v1/link", b"x")
    driver.write("tags/.hidden", b"x")
    directory = root / "tags"
    for name in (
        ".nfs00000000012a3b4c00000001",
        ".fuse_hidden0000001200000001",
        ".DS_Store",
        "._v1",
        "link.0b0bd85c-2f0c-4b4a-9b2e-0d8ab54c9d0b.tmp",
        "a b",
        "ä",
        "a:b",
    ):
        (directory / name).touch()
    os.makedirs(directory / "lost found/v2")
    os.makedirs(directory / "x.0b0bd85c-2f0c-4b4a-9b2e-0d8ab54c9d0b.tmp")  # a tag may be called so
    (directory / os.fsdecode(b"\xff")).touch()
    assert names(driver, "tags") == [
        ".hidden",
        "v1",
        "x.0b0bd85c-2f0c-4b4a-9b2e-0d8ab54c9d0b.tmp",
    ]
    assert keys_below(driver, "tags") == ["tags/.hidden", "tags/v1/link"]
    driver.delete_tree("tags")
    assert not directory.exists()


def test_the_drivers_own_directories_are_out_of_reach(root: Path, driver: FilesystemDriver) -> None:
    driver.swap("key", b"x", expected=None)
    (root / TMP / "being-written").touch()
    driver.write("docker/registry/v2/holdfast/secret", b"x")
    assert list(driver.list("docker/registry/v2/holdfast")) == [Child("secret", is_prefix=False)]
    assert keys_below(driver, "") == ["docker/registry/v2/holdfast/secret", "key"]
    for key in OURS:
        with pytest.raises(InvalidKey):
            driver.write(key, b"x")
        with pytest.raises(InvalidKey):
            driver.delete_tree(key)
    driver.write("docker/registry/v2/holdfast/tmp2", b"x")
    driver.delete_tree("docker")
    driver.prune("docker")
    assert (root / TMP / "being-written").exists()
    assert len(os.listdir(root / LOCKS)) == 1
    assert keys_below(driver, "") == ["key"]


def test_a_key_that_is_too_long_is_invalid(driver: FilesystemDriver) -> None:
    uses: list[Callable[[str], object]] = [
        driver.stat,
        driver.read,
        driver.open,
        driver.delete,
        driver.list,
        driver.local_path,
        driver.delete_tree,
        functools.partial(driver.write, data=b"x"),
        functools.partial(driver.swap, data=b"x", expected=None),
        functools.partial(driver.writer, create=True),
        functools.partial(driver.writer, create=False),
        lambda key: driver.delete_many([key]),
        lambda key: list(driver.walk(key)),
    ]
    for use in uses:
        for key in ("a" * 256, "a/" * 3_000 + "a"):
            with pytest.raises(InvalidKey):
                use(key)


def test_an_object_cannot_be_a_directory_too(driver: FilesystemDriver) -> None:
    driver.write("a/b", b"x")
    for key in ("a", "a/b/c"):
        with pytest.raises(Unavailable):
            driver.write(key, b"y")
    grow(driver, "growing", b"x")
    with driver.writer("growing", create=False) as writer, pytest.raises(Unavailable):
        writer.publish("a")
    assert driver.read("a/b") == b"x"
    assert driver.stat_growing("growing").size == 1


def test_links_are_read_through_but_never_deleted_through(
    root: Path, tmp_path: Path, driver: FilesystemDriver
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "link").write_bytes(b"x")
    os.makedirs(root / "repositories/a")
    os.symlink(elsewhere, root / "repositories/a/moved")
    os.symlink(tmp_path / "nowhere", root / "repositories/a/dangling")
    os.symlink(elsewhere, root / "repositories/b")
    assert driver.read("repositories/a/moved/link") == b"x"
    assert Child("moved", is_prefix=True) in list(driver.list("repositories/a"))
    assert keys_below(driver, "repositories") == [
        "repositories/a/moved/link",
        "repositories/b/link",
    ]
    driver.prune("repositories")
    driver.delete_tree("repositories/b")
    driver.delete_tree("repositories/a")
    assert names(driver, "repositories") == []
    assert (elsewhere / "link").read_bytes() == b"x"


def test_a_descriptor_is_not_inherited(driver: FilesystemDriver) -> None:
    driver.write("key", b"data")
    with opened(driver, "key") as reader:
        descriptor = reader.fileno()
        assert descriptor is not None
        assert not os.get_inheritable(descriptor)


def test_a_file_that_lost_its_end_is_not_read_as_whole(
    root: Path, driver: FilesystemDriver
) -> None:
    driver.write("key", b"0123456789")
    with opened(driver, "key") as reader:
        os.truncate(root / "key", 4)
        assert reader.read_at(0, 4) == b"0123"
        with pytest.raises(Unavailable, match="4 of 10"):
            reader.read_at(0, 10)


def test_a_reader_does_not_see_what_is_appended_later(driver: FilesystemDriver) -> None:
    grow(driver, "growing", b"1234")
    reader = driver.open_growing("growing")
    with driver.writer("growing", create=False) as writer:
        writer.append([b"5678"])
    assert reader.read_at(2, 100) == b"34"
    reader.close()


def test_what_was_discarded_is_looked_for_in_every_batch(
    root: Path, driver: FilesystemDriver
) -> None:
    """Ended or not; what is not sound is passed over, and what comes back is as if written now."""
    for batch, content in (("run-1", b"old"), ("run-2", b"new"), ("run-3", b"odd")):
        driver.write("a/data", content)
        os.utime(root / "a/data", (0, 0))
        driver.begin_discards(batch)
        assert driver.discarder(batch, since=0, lifetime=0).discard("a/data")
    driver.end_discards("run-2")
    assert driver.recover("a/data", lambda reader: reader.read_at(0, 3) == b"new")
    assert driver.read("a/data") == b"new"
    assert driver.stat("a/data").modified > time.time() - 600
    assert not driver.recover("a/data", lambda reader: reader.read_at(0, 3) == b"new")
    for batch in ("run-1", "run-2", "run-3"):
        driver.forget_discards(batch)
    assert not driver.recover("a/data", lambda _: True)


def test_a_batch_that_is_ended_meanwhile_is_found_again(
    driver: FilesystemDriver,
) -> None:
    driver.write("a/data", b"x")
    driver.begin_discards("run-1")
    driver.discarder("run-1", since=0, lifetime=0).discard("a/data")

    def sound(_: Reader) -> bool:
        driver.end_discards("run-1")
        return True

    assert driver.recover("a/data", sound)
    assert driver.read("a/data") == b"x"


def test_swap_creation_has_one_winner_among_processes(root: Path, driver: FilesystemDriver) -> None:
    code = (
        "print('ready', flush=True)\nsys.stdin.readline()\n"
        "for n in range(40):\n"
        "    with contextlib.suppress(Conflict):\n"
        "        driver.swap(f'race/{n}', sys.argv[2].encode(), expected=None)\n"
        "        print(n)\n"
        "for n in range(20):\n"
        "    while True:\n"
        "        held = driver.read('counter')\n"
        "        with contextlib.suppress(Conflict):\n"
        "            driver.swap('counter', b'%d' % (int(held) + 1), expected=held)\n"
        "            break\n"
    )
    driver.write("counter", b"0")
    processes = [python(code, root, str(number)) for number in range(4)]
    assert [said(process) for process in processes] == ["ready"] * 4
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won = [[int(line) for line in ended(process).split()] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(number for each in won for number in each) == list(range(40))
    for number, each in enumerate(won):
        for key in each:
            assert driver.read(f"race/{key}") == b"%d" % number
    assert driver.read("counter") == b"80"


def test_a_writer_of_another_process_is_busy_until_it_dies(
    root: Path, driver: FilesystemDriver
) -> None:
    process = python(
        "writer = driver.writer('growing', create=True)\nwriter.append([b'x' * 1000])\n"
        "print('has it', flush=True)\nsys.stdin.readline()\nos._exit(137)\n",
        root,
    )
    assert said(process) == "has it"
    with pytest.raises(Busy):
        driver.writer("growing", create=False)
    assert driver.stat_growing("growing").size == 1_000
    process.kill()
    ended(process)
    with driver.writer("growing", create=False) as writer:
        assert writer.size == 1_000


def test_a_child_does_not_hold_on_to_a_lock(driver: FilesystemDriver) -> None:
    """Between fork and exec it has a copy of every descriptor."""
    with driver.writer("growing", create=True):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
    try:
        driver.writer("growing", create=False).close()
    finally:
        os.close(write)
        os.waitpid(child, 0)


def test_a_lock_that_stays_held_is_given_up(
    root: Path, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.2)
    with locks.Stripes(str(root / LOCKS)).held("key"):
        with pytest.raises(Unavailable, match="still locked"):
            driver.swap("key", b"x", expected=None)
    driver.swap("key", b"x", expected=None)
    assert len(os.listdir(root / LOCKS)) == 1


def test_a_writer_does_not_take_what_was_renamed_before_it_had_the_lock(
    root: Path, driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker publishes between our open and our lock: what we hold is a blob by now."""
    grow(driver, "uploads/1/data", b"verified")
    real = locks.try_lock

    def publish_first(descriptor: int) -> bool:
        os.rename(root / "uploads/1/data", root / "blob")
        return real(descriptor)

    monkeypatch.setattr("storage.drivers.growing.try_lock", publish_first)
    with pytest.raises(ObjectNotFound):
        driver.writer("uploads/1/data", create=False)
    assert driver.read("blob") == b"verified"


def test_publication_does_not_take_anothers_file(root: Path, driver: FilesystemDriver) -> None:
    with driver.writer("uploads/1/data", create=True) as writer:
        writer.append([b"verified"])
        writer.sync()
        os.unlink(root / "uploads/1/data")
        (root / "uploads/1/data").write_bytes(b"another!")
        with pytest.raises(ObjectNotFound):
            writer.publish("blob")
    assert not (root / "blob").exists()


def test_prune_leaves_no_empty_directory(root: Path, driver: FilesystemDriver) -> None:
    driver.write("tags/1/index/sha256/a/link", b"x")
    driver.write("tags/10/current/link", b"x")
    driver.delete("tags/1/index/sha256/a/link")
    assert (root / "tags/1/index/sha256/a").is_dir()
    driver.prune("tags/1")
    assert os.listdir(root / "tags") == ["10"]


def test_a_view_answers_from_memory_without_a_change_to_the_tree(
    root: Path, driver: FilesystemDriver
) -> None:
    view = driver.immediate()
    if view is None:
        pytest.skip("the kernel or the filesystem below has no reads that never wait")
    driver.write("a/key", b"data")
    assert view.read("a/key") == b"data"
    assert view.stat("a/key") == driver.stat("a/key")
    driver.write("a/large", b"x" * (cached.LARGEST_READ + 1))
    with pytest.raises(WouldBlock):
        view.read("a/large")
    assert view.read("a/large", offset=1) == b"x" * cached.LARGEST_READ
    for use in (
        lambda: view.write("a/new", b"x"),
        lambda: view.swap("a/new", b"x", expected=None),
        lambda: view.writer("a/new", create=True),
        lambda: view.list("a"),
        lambda: view.walk("a"),
        lambda: view.delete("a/key"),
        lambda: view.delete_many(["a/key"]),
        lambda: view.delete_tree("a"),
        lambda: view.prune("a"),
        view.check,
    ):
        with pytest.raises(WouldBlock):
            use()
    assert keys_below(driver, "") == ["a/key", "a/large"]
    assert descriptors_below(root) == []


def test_a_view_is_of_local_filesystems_only(
    driver: FilesystemDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "LOCAL", frozenset({"none"}))
    assert driver.immediate() is None
