"""The driver `s3` when requests fail, answers are lost, and stores lack what others have."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from storage.driver import ANYTHING, Driver
from storage.driver_errors import Conflict, NoSpace, ObjectNotFound, Overloaded, Unavailable
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.settings import S3Settings
from tests.storage.driver_contract import at_once, content, grow, names, publish
from tests.support.s3 import S3Store
from tests.support.s3proxy import Answer, CutAnswer, LoseAnswer, S3Proxy, Silence

CHUNK = 8 * 1024 * 1024


@pytest.fixture
def make(proxy: S3Proxy, bucket: str) -> Iterator[Callable[..., S3Driver]]:
    drivers = []

    def make(**more: object) -> S3Driver:
        given: dict[str, object] = {
            "chunksize": CHUNK,
            "uploadmemory": 8 * CHUNK,
            "attempts": 3,
            "readtimeout": 2.0,
        }
        given |= more
        drivers.append(S3Driver(S3Settings(**proxy.store.parameters(bucket, **given))))
        return drivers[-1]

    yield make
    proxy.heal()
    for driver in drivers:
        driver.close()


@pytest.fixture
def driver(make: Callable[..., S3Driver]) -> S3Driver:
    return make()


def push(driver: Driver, data: bytes, key: str = "blob", *, staging: str = "u/data") -> None:
    """Naming the digest last."""
    with driver.writer(staging, create=True) as writer:
        writer.append([data])
        writer.sync()
        state = writer.state
    with driver.writer(staging, create=False, state=state, final=key) as writer:
        writer.publish(key)


def push_straight(driver: Driver, data: bytes, key: str = "blob") -> None:
    """Naming the digest first."""
    with driver.writer("u/data", create=True, final=key) as writer:
        writer.append([data])
        writer.sync()
        writer.publish(key)


@pytest.mark.parametrize(
    "use",
    [
        lambda driver: driver.stat("key"),
        lambda driver: driver.read("key"),
        lambda driver: driver.write("key", b"data"),
        lambda driver: [*driver.list("")],
        lambda driver: push(driver, b"data"),
        lambda driver: push(driver, content(CHUNK + 1)),
        lambda driver: push_straight(driver, content(CHUNK + 1)),
    ],
)
def test_a_store_that_is_busy_is_asked_again(
    driver: S3Driver, proxy: S3Proxy, use: Callable[[S3Driver], object]
) -> None:
    driver.write("key", b"data")
    proxy.inject(Answer(503, "SlowDown"))
    use(driver)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (Answer(403, "AccessDenied"), Unavailable),
        (Answer(403, "RequestTimeTooSkewed"), Unavailable),
        (Answer(404, "NoSuchBucket"), Unavailable),
        (Answer(500, "InternalError"), Unavailable),
        (Answer(403, "QuotaExceeded"), NoSpace),
        (Answer(507, "InsufficientStorage"), NoSpace),
    ],
)
@pytest.mark.parametrize("method", ["stat", "read", "open", "delete", "write", "swap"])
def test_a_refusal_is_never_taken_for_absence(
    make: Callable[..., S3Driver],
    proxy: S3Proxy,
    method: str,
    answer: Answer,
    kind: type[Exception],
) -> None:
    driver = make(attempts=1)
    driver.write("key", b"data")
    proxy.inject(answer, times=None)
    uses: dict[str, Callable[[], object]] = {
        "stat": lambda: driver.stat("key"),
        "read": lambda: driver.read("key"),
        "open": lambda: driver.open("key"),
        "delete": lambda: driver.delete("key"),
        "write": lambda: driver.write("key", b""),
        "swap": lambda: driver.swap("key", b"", expected=ANYTHING),
    }
    # The answer to a HEAD has no body, so it says only its status.
    expected = Unavailable if method in ("stat", "delete") and answer.status != 507 else kind
    with pytest.raises(expected) as caught:
        uses[method]()
    assert not isinstance(caught.value, ObjectNotFound)
    proxy.heal()
    assert driver.read("key") == b"data"


def test_a_bucket_that_is_missing_is_not_an_object_that_is(rgw: S3Store) -> None:
    driver = S3Driver(S3Settings(**rgw.parameters("no-such-bucket")))
    for use in (driver.stat, driver.read, driver.open, driver.delete):
        with pytest.raises(Unavailable, match="does not exist; create it"):
            use("key")
    with pytest.raises(Unavailable, match="does not exist; create it"):
        driver.check()


def test_a_bucket_that_may_not_be_asked_for_exists(driver: S3Driver, proxy: S3Proxy) -> None:
    proxy.inject(Answer(403, "AccessDenied"), operation="HeadBucket")
    with pytest.raises(ObjectNotFound):
        driver.stat("key")


def test_a_bucket_that_cannot_be_told_of_is_no_absence(driver: S3Driver, proxy: S3Proxy) -> None:
    proxy.inject(Answer(500, "InternalError"), operation="HeadBucket", times=None)
    with pytest.raises(Unavailable):
        driver.stat("key")


def test_wrong_keys_are_named(rgw: S3Store, bucket: str) -> None:
    driver = S3Driver(S3Settings(**rgw.of("nobody", "secret").parameters(bucket)))
    with pytest.raises(Unavailable, match="correct `accesskey`"):
        driver.check()


def test_a_store_that_is_gone_is_unavailable(rgw: S3Store) -> None:
    nobody = rgw.at("http://127.0.0.1:9")
    driver = S3Driver(S3Settings(**nobody.parameters("bucket", attempts=1)))
    with pytest.raises(Unavailable, match="cannot be reached"):
        driver.read("key")


def test_a_store_that_says_nothing_is_given_up(
    make: Callable[..., S3Driver], proxy: S3Proxy
) -> None:
    driver = make(attempts=2, readtimeout=0.3)
    proxy.inject(Silence(), times=None)
    begun = time.monotonic()
    with pytest.raises(Unavailable):
        driver.read("key")
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("reset", [True, False])
def test_reading_goes_on_where_the_connection_broke(
    driver: S3Driver, proxy: S3Proxy, reset: bool
) -> None:
    data = content(12_000_000)
    driver.write("blob", data)
    for after in (500_000, 3_000_000, 3_000_000):
        proxy.inject(CutAnswer(after, reset), operation="GetObject")
    reader = driver.open("blob")
    found = bytearray()
    while part := reader.read_at(len(found), 1_000_000):
        found += part
    assert found == data
    proxy.inject(CutAnswer(500_000, reset), operation="GetObject")
    assert reader.read_at(5_000_000, 1_000_000) == data[5_000_000:6_000_000]
    reader.close()
    proxy.inject(CutAnswer(500_000, reset), operation="GetObject")
    assert driver.read("blob") == data


def test_reading_ends_when_every_connection_breaks(driver: S3Driver, proxy: S3Proxy) -> None:
    driver.write("blob", content(3_000_000))
    reader = driver.open("blob")
    proxy.inject(CutAnswer(0), operation="GetObject", times=None)
    with pytest.raises(Unavailable):
        reader.read_at(2_000_000, 100_000)
    with pytest.raises(Unavailable):
        reader.read_at(1024 * 1024, 100_000)
    with pytest.raises(Unavailable):
        driver.read("blob")
    reader.close()


def test_bytes_of_two_versions_are_never_mixed(driver: S3Driver) -> None:
    driver.write("key", b"old" * 1_000_000)
    reader = driver.open("key")
    driver.write("key", b"new" * 1_000_000)
    assert reader.read_at(0, 6) == b"oldold"
    with pytest.raises(Unavailable, match="replaced or deleted"):
        reader.read_at(2_000_000, 6)
    reader.close()


@pytest.mark.parametrize("lost", ["PutObject", "GetObject"])
def test_a_swap_whose_answer_was_lost_has_happened(
    driver: S3Driver, proxy: S3Proxy, lost: str
) -> None:
    proxy.inject(LoseAnswer(), operation=lost)
    driver.swap("key", b"1", expected=None)
    assert driver.read("key") == b"1"
    proxy.inject(LoseAnswer(), operation=lost)
    driver.swap("key", b"2", expected=b"1")
    proxy.inject(LoseAnswer(), operation=lost)
    driver.swap("key", b"3", expected=b"2")
    assert driver.read("key") == b"3"
    with pytest.raises(Conflict):
        driver.swap("key", b"4", expected=b"2")


@pytest.mark.parametrize("code", ["NotImplemented", "InvalidRequest"])
def test_swaps_without_conditions(driver: S3Driver, proxy: S3Proxy, code: str) -> None:
    proxy.inject(Answer(501, code), operation="PutObject")
    driver.swap("key", b"1", expected=None)
    proxy.inject(Answer(501, code), operation="PutObject")
    driver.swap("key", b"2", expected=b"1")
    proxy.inject(Answer(501, code), operation="DeleteObject")
    driver.swap("key", None, expected=b"2")
    assert names(driver, "") == []


def test_swaps_of_two_nodes(make: Callable[..., S3Driver]) -> None:
    """Each has locks of its own; what keeps them apart is the store."""
    nodes = [make(), make()]
    nodes[0].write("counter", b"0")

    def add(number: int) -> None:
        done = 0
        while done < 10:
            held = nodes[number].read("counter")
            try:
                nodes[number].swap("counter", b"%d" % (int(held) + 1), expected=held)
            except Conflict:
                continue
            done += 1

    at_once(2, add)
    assert nodes[0].read("counter") == b"20"


@pytest.mark.parametrize(
    "operation",
    ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject", "CopyObject"],
)
@pytest.mark.parametrize("size", [100, 2 * CHUNK + 1])
@pytest.mark.parametrize("push_by", [push, push_straight])
def test_a_push_survives_a_lost_answer(
    driver: S3Driver,
    proxy: S3Proxy,
    operation: str,
    size: int,
    push_by: Callable[[Driver, bytes], None],
) -> None:
    data = content(size)
    proxy.inject(LoseAnswer(), operation=operation)
    push_by(driver, data)
    assert driver.read("blob") == data


@pytest.mark.parametrize("push_by", [push, push_straight])
def test_a_completion_that_was_lost_is_looked_for(
    driver: S3Driver, proxy: S3Proxy, push_by: Callable[[Driver, bytes], None]
) -> None:
    """Some stores say to the second try that there is no such upload."""
    data = content(CHUNK + 1)
    proxy.inject(LoseAnswer(), operation="CompleteMultipartUpload")
    proxy.inject(Answer(404, "NoSuchUpload"), operation="CompleteMultipartUpload")
    push_by(driver, data)
    assert driver.read("blob") == data


def test_an_upload_that_was_aborted_is_gone(
    driver: S3Driver, proxy: S3Proxy, rgw: S3Store, bucket: str
) -> None:
    writer = driver.writer("u/data", create=True)
    writer.append([content(CHUNK + 1)])
    proxy.inject(Answer(404, "NoSuchUpload"), operation="CompleteMultipartUpload", times=None)
    with pytest.raises(ObjectNotFound):
        writer.sync()
    assert writer.size == 0
    writer.close()
    assert rgw.keys(bucket) == {}
    assert rgw.unfinished(bucket) == []


def test_a_completion_that_fails_late_is_tried_again(driver: S3Driver, proxy: S3Proxy) -> None:
    """With the status 200 and an error in the body."""
    for operation in ("CompleteMultipartUpload", "CopyObject"):
        proxy.inject(Answer(200, "InternalError"), operation=operation)
    push(driver, content(CHUNK + 1))
    push(driver, b"small", "other", staging="u/2/data")
    assert driver.stat("blob").size == CHUNK + 1
    assert driver.read("other") == b"small"


@pytest.mark.parametrize("final", ["", "blob"])
@pytest.mark.parametrize(
    "error", [Answer(507, "InsufficientStorage"), Answer(500, "InternalError")]
)
def test_a_part_that_fails_ends_the_writer(
    make: Callable[..., S3Driver],
    proxy: S3Proxy,
    rgw: S3Store,
    bucket: str,
    final: str,
    error: Answer,
) -> None:
    driver = make(attempts=1)
    proxy.inject(error, operation="UploadPart", times=None)
    kind = NoSpace if error.status == 507 else Unavailable
    writer = driver.writer("u/data", create=True, final=final)
    with pytest.raises(kind):
        for _ in range(10):
            writer.append([content(CHUNK)])
        writer.sync()
    assert writer.size == 0
    with pytest.raises(Unavailable):
        writer.append([b"more"])
    writer.close()
    assert rgw.keys(bucket) == {}
    assert rgw.unfinished(bucket) == []
    assert driver._workshop.budget.taken == 0


def test_a_sync_that_failed_keeps_what_was_durable(
    make: Callable[..., S3Driver], proxy: S3Proxy
) -> None:
    driver = make(attempts=1)
    with driver.writer("u/data", create=True) as writer:
        writer.append([b"first"])
        writer.sync()
        writer.append([b"second"])
        proxy.inject(Answer(500, "InternalError"), operation="PutObject")
        with pytest.raises(Unavailable):
            writer.sync()
        assert writer.size == 5
    assert driver.stat_growing("u/data").size == 5


def test_a_state_is_checked_against_what_is_there(make: Callable[..., S3Driver]) -> None:
    """Two nodes append to one upload at the same place; neither sees the other."""
    one, two = make(), make()
    grow(one, "u/data", b"0123456789")
    state = one.writer("u/data", create=False).state
    first = one.writer("u/2/data", create=True)
    first.close()
    a, b = make(), make()
    with (
        a.writer("u/data", create=False, state=state) as by_a,
        b.writer("u/data", create=False, state=state) as by_b,
    ):
        by_a.append([b"AAAA"])
        by_b.append([b"BB"])
        by_a.sync()
        by_b.sync()
        states = by_a.state, by_b.state
    with two.writer("u/data", create=False, state=state) as stale:
        assert stale.size == 14
    for number, (node, left, expected) in enumerate(
        [(a, states[0], b"0123456789AAAA"), (b, states[1], b"0123456789BB")]
    ):
        with node.writer("u/data", create=False, state=left) as writer:
            assert writer.size == len(expected)
        key = f"blob{number}"
        with node.writer("u/data", create=False, state=left, final=key) as writer:
            writer.publish(key)
        assert node.read(key) == expected


def test_an_upload_cancelled_by_another_node(make: Callable[..., S3Driver]) -> None:
    one, two = make(), make()
    for size in (4, 2 * CHUNK):
        with one.writer("u/data", create=True) as writer:
            writer.append([content(size)])
            writer.sync()
            two.delete_tree("u")
            with pytest.raises(ObjectNotFound):
                writer.publish("blob")
            state = writer.state
        with pytest.raises(ObjectNotFound):
            two.writer("u/data", create=False, state=state)
        with pytest.raises(ObjectNotFound):
            two.writer("u/data", create=False, state=state, final="blob").publish("blob")
        two.close()
        two = make()
        assert names(one, "") == []


@pytest.mark.parametrize("push_by", [push, push_straight])
@pytest.mark.parametrize("size", [100, CHUNK + 1])
def test_what_is_there_is_kept_if_it_is_as_long_and_replaced_if_not(
    driver: S3Driver, size: int, push_by: Callable[[Driver, bytes], None]
) -> None:
    data = content(size)
    driver.write("blob", b"torn")
    push_by(driver, data)
    assert driver.read("blob") == data
    driver.flush()
    push_by(driver, data)
    assert driver.read("blob") == data


@pytest.mark.parametrize("operation", ["PutObject", "CompleteMultipartUpload"])
@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_publication_without_conditions(
    driver: S3Driver, proxy: S3Proxy, operation: str, status: int, code: str
) -> None:
    data = content(CHUNK + 1 if operation != "PutObject" else 100)
    proxy.inject(Answer(status, code), operation=operation)
    push_straight(driver, data)
    assert driver.read("blob") == data
    proxy.forget()
    push_straight(driver, data, "again")
    sent = [call for call in proxy.calls if call.operation == operation]
    assert len(sent) == 1
    assert "if-none-match" not in sent[0].headers


def test_another_writer_published_first(
    driver: S3Driver, proxy: S3Proxy, rgw: S3Store, bucket: str
) -> None:
    """A store that heeds If-None-Match at a completion refuses it; the upload is given up."""
    data = content(CHUNK + 1)
    driver.write("blob", data)
    proxy.inject(Answer(412, "PreconditionFailed"), operation="CompleteMultipartUpload")
    push_straight(driver, data)
    assert rgw.unfinished(bucket) == []
    proxy.inject(Answer(409, "ConditionalRequestConflict"), operation="PutObject", key="^small$")
    push_straight(driver, b"data", "small")
    assert driver.read("small") == b"data"


@pytest.mark.parametrize(
    ("answer", "operation", "size"),
    [
        (Answer(501, "NotImplemented"), "CopyObject", 100),
        (Answer(404, "NoSuchKey"), "CopyObject", 100),
        (Answer(501, "NotImplemented"), "CopyObject", 3 * CHUNK),
        (Answer(501, "NotImplemented"), "UploadPartCopy", 3 * CHUNK),
        (Answer(400, "EntityTooSmall"), "CompleteMultipartUpload", 3 * CHUNK),
    ],
)
def test_a_store_that_cannot_copy(
    make: Callable[..., S3Driver], proxy: S3Proxy, answer: Answer, operation: str, size: int
) -> None:
    driver = make(multipartcopythresholdsize=CHUNK, multipartcopychunksize=CHUNK)
    data = [content(size, seed=number) for number in range(2)]
    for number in range(2):
        grow(driver, f"u/{number}", data[number])
    lacking = operation != "CompleteMultipartUpload"
    if operation == "CopyObject":
        proxy.inject(Answer(501, "NotImplemented"), operation="UploadPartCopy", times=None)
    proxy.inject(answer, operation=operation, times=None if lacking else 1)
    for number in range(2):
        proxy.forget()
        publish(driver, f"u/{number}", f"blob/{number}")
        assert driver.read(f"blob/{number}") == data[number]
    if lacking:
        assert operation not in proxy.counts()  # it is remembered


def test_uploads_are_turned_away_when_memory_is_full(make: Callable[..., S3Driver]) -> None:
    driver = make(uploadmemory=CHUNK)
    driver._workshop.budget.patience = 0.05
    with (
        driver.writer("u/1", create=True) as first,
        driver.writer("u/2", create=True) as second,
        driver.writer("u/3", create=True) as small,
    ):
        first.append([b"x" * 2_000_000])
        with pytest.raises(Overloaded):
            second.append([b"y" * 1_000_000, b"y" * 1_000_000])
        assert second.size == 1_000_000
        small.append([b"z" * 1_000_000])
        first.sync()
        second.append([b"y" * 1_000_000])
        second.sync()
        second.publish("blob")
    assert driver.read("blob") == b"y" * 2_000_000
    assert driver.stat_growing("u/3").size == 1_000_000
    assert driver._workshop.budget.taken == 0
