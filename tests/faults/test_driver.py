"""The driver that fails on purpose: with an empty plan it is any driver, and its plans hold."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from storage.driver import Driver
from storage.driver_errors import NoSpace, ObjectNotFound, Unavailable
from storage.drivers.filesystem import FilesystemDriver
from storage.drivers.memory import MemoryDriver
from tests.faults.driver import KILLED, Call, Fault, FaultyDriver, Moment
from tests.storage.driver_contract import DriverContract, grow, publish

CHECKOUT = Path(__file__).parents[2]


class TestFaultyDriver(DriverContract):
    @pytest.fixture
    def driver(self, tmp_path: Path) -> Driver:
        inner = FilesystemDriver(tmp_path / "root")
        inner.prepare()
        return FaultyDriver(inner)


def everything(driver: Driver) -> None:
    """Each method once, in this order."""
    driver.write("a", b"data")
    driver.swap("b", b"data", expected=None)
    driver.stat("a")
    driver.read("a")
    reader = driver.open("a")
    reader.fileno()
    reader.read_at(0, 1)
    reader.close()
    with driver.writer("up/1", create=True) as writer:
        writer.append([b"x"])
        writer.sync()
    driver.stat_growing("up/1")
    driver.open_growing("up/1").close()
    with driver.writer("up/1", create=False) as writer:
        writer.publish("c")
    list(driver.list(""))
    list(driver.walk(""))
    driver.presign("a", lifetime=1)
    driver.local_path("a")
    driver.delete("a")
    driver.delete_many(["b", "c"])
    driver.delete_tree("d")
    driver.prune("d")
    driver.check()


STEPS = [
    ("write", "a"),
    ("swap", "b"),
    ("stat", "a"),
    ("read", "a"),
    ("open", "a"),
    ("reader.fileno", "a"),
    ("reader.read_at", "a"),
    ("reader.close", "a"),
    ("writer", "up/1"),
    ("writer.append", "up/1"),
    ("writer.sync", "up/1"),
    ("writer.close", "up/1"),
    ("stat_growing", "up/1"),
    ("open_growing", "up/1"),
    ("reader.close", "up/1"),
    ("writer", "up/1"),
    ("writer.publish", "up/1 c"),
    ("writer.close", "up/1"),
    ("list", ""),
    ("walk", ""),
    ("presign", "a"),
    ("local_path", "a"),
    ("delete", "a"),
    ("delete_many", "b c"),
    ("delete_tree", "d"),
    ("prune", "d"),
    ("check", ""),
]
CALLS = [Call(step, method, key) for step, (method, key) in enumerate(STEPS, start=1)]


def test_every_call_is_recorded() -> None:
    driver = FaultyDriver(MemoryDriver())
    everything(driver)
    assert driver.calls == CALLS


@pytest.mark.parametrize("moment", Moment)
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.step}-{call.method}")
def test_every_step_can_fail(call: Call, moment: Moment) -> None:
    inner = MemoryDriver()
    driver = FaultyDriver(
        inner, [Fault.fail(Unavailable("planned"), step=call.step, moment=moment)]
    )
    with pytest.raises(Unavailable, match="planned"):
        everything(driver)
    assert driver.calls[call.step - 1] == call
    with contextlib.suppress(ObjectNotFound):  # no writer is left behind, whatever failed
        inner.writer("up/1", create=False).close()


@pytest.mark.parametrize(
    ("use", "happened"),
    [
        (lambda driver: driver.write("key", b"new"), lambda driver: driver.read("key") == b"new"),
        (
            lambda driver: driver.swap("key", b"new", expected=b"old"),
            lambda driver: driver.read("key") == b"new",
        ),
        (lambda driver: driver.delete("key"), lambda driver: not list(driver.walk(""))),
        (lambda driver: driver.delete_many(["key"]), lambda driver: not list(driver.walk(""))),
        (
            lambda driver: publish(driver, "growing", "blob"),
            lambda driver: driver.stat("blob").size == 4,
        ),
    ],
)
@pytest.mark.parametrize("moment", Moment)
def test_before_is_without_effect_and_after_is_with_it(
    use: Callable[[Driver], None], happened: Callable[[Driver], bool], moment: Moment
) -> None:
    inner = MemoryDriver()
    inner.write("key", b"old")
    grow(inner, "growing", b"data")
    driver = FaultyDriver(inner)
    use_only = ("write", "swap", "delete", "delete_many", "writer.publish")
    driver.arm(
        *(Fault.fail(NoSpace("planned"), method=method, moment=moment) for method in use_only)
    )
    with pytest.raises(NoSpace):
        use(driver)
    try:
        outcome = happened(inner)
    except ObjectNotFound:
        outcome = False
    assert outcome == (moment is Moment.AFTER)


def test_a_fault_chooses_by_method_and_key_and_wears_out() -> None:
    driver = FaultyDriver(
        MemoryDriver(), [Fault.fail(NoSpace("full"), method="write", key="/tags/", times=2)]
    )
    driver.write("a/blobs/1", b"x")
    for _ in range(2):
        with pytest.raises(NoSpace):
            driver.write("a/tags/1", b"x")
    with pytest.raises(ObjectNotFound):
        driver.read("a/tags/1")
    driver.write("a/tags/1", b"x")
    assert driver.read("a/tags/1") == b"x"


def test_arming_begins_anew() -> None:
    driver = FaultyDriver(MemoryDriver(), [Fault.fail(NoSpace("full"))])
    with pytest.raises(NoSpace):
        driver.write("a", b"x")
    driver.arm(Fault.fail(Unavailable("gone"), step=2))
    driver.write("a", b"x")
    with pytest.raises(Unavailable):
        driver.read("a")
    driver.arm()
    driver.read("a")
    assert driver.calls == [Call(1, "read", "a")]


def test_slowness_is_injected() -> None:
    slept: list[float] = []
    driver = FaultyDriver(MemoryDriver(), [Fault.slow(2.0, method="read")], sleep=slept.append)
    driver.write("a", b"x")
    assert slept == []
    driver.read("a")
    driver.read("a")
    assert slept == [2.0, 2.0]


def test_slow_and_then_failing() -> None:
    slept: list[float] = []
    driver = FaultyDriver(
        MemoryDriver(), [Fault.slow(60.0), Fault.fail(Unavailable("late"))], sleep=slept.append
    )
    with pytest.raises(Unavailable):
        driver.check()
    assert slept == [60.0]


def test_without_zero_copy_every_byte_is_read_through_a_step(tmp_path: Path) -> None:
    inner = FilesystemDriver(tmp_path)
    inner.prepare()
    driver = FaultyDriver(inner, zero_copy=False)
    driver.write("key", b"data")
    reader = driver.open("key")
    assert reader.fileno() is None
    reader.close()
    assert driver.local_path("key") is None
    driver.zero_copy = True
    assert driver.local_path("key") == tmp_path / "key"


@pytest.mark.parametrize("moment", Moment)
def test_the_process_dies(tmp_path: Path, moment: Moment) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from storage.drivers.filesystem import FilesystemDriver\n"
        "from tests.faults.driver import Fault, FaultyDriver, Moment\n"
        "inner = FilesystemDriver(Path(sys.argv[1]))\n"
        "inner.prepare()\n"
        "plan = [Fault.die(method='write', moment=Moment(sys.argv[2]))]\n"
        "FaultyDriver(inner, plan).write('key', b'data')\n"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), moment.value],
        cwd=CHECKOUT,
        timeout=60,
        check=False,
    )
    assert process.returncode == KILLED
    inner = FilesystemDriver(tmp_path)
    assert [info.key for info in inner.walk("")] == (["key"] if moment is Moment.AFTER else [])
