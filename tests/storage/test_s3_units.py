"""Parts of the driver `s3` that need no store."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import botocore.auth
import pytest

from storage.driver import STATE_LIMIT
from storage.driver_errors import Overloaded, Unavailable, WouldBlock
from storage.drivers.s3 import client, presigning
from storage.drivers.s3.client import make_client
from storage.drivers.s3.collecting import Collector
from storage.drivers.s3.driver import S3Driver
from storage.drivers.s3.growing import (
    Chunk,
    Found,
    agrees,
    chunk_key,
    chunks_of,
    path_through,
    state_of,
)
from storage.drivers.s3.memory import Budget
from storage.drivers.s3.settings import S3Settings
from storage.per_process import PerProcess


def chunk(start: int, size: int, nonce: str = "0") -> Chunk:
    return Chunk(f"u/data/{start:020d}-{nonce * 16}", start, size)


def test_a_path_has_no_gap_and_reaches_furthest() -> None:
    assert path_through([]) == ()
    assert path_through([chunk(0, 0)]) == ()
    assert path_through([chunk(5, 5)]) == ()
    chunks = [chunk(0, 5, "a"), chunk(0, 7, "b"), chunk(5, 5, "c"), chunk(10, 1), chunk(12, 9)]
    for order in (chunks, chunks[::-1]):
        assert path_through(order) == (chunks[0], chunks[2], chunks[3])


def test_every_node_takes_the_same_of_equal_paths() -> None:
    chunks = [chunk(0, 5, "b"), chunk(0, 5, "a"), chunk(5, 0, "0"), chunk(5, 5, "d"), chunk(5, 5)]
    assert path_through(chunks) == path_through(chunks[::-1]) == (chunks[1], chunks[4])


def test_a_state_names_the_chunks() -> None:
    path = []
    start = 0
    for size in (1, 36**5, 35, 2**40):
        path.append(Chunk(chunk_key("u/data", start), start, size))
        start += size
    state = state_of(path)
    assert state.startswith("v1:")
    assert chunks_of("u/data", state) == tuple(path)
    assert state_of([]) == ""
    assert len(state_of(path * 10)) <= STATE_LIMIT
    assert state_of(path * 20) == ""


@pytest.mark.parametrize(
    "state",
    [
        "",
        "v1:",
        "v2:0000000000000000.1",
        "v1:0000000000000000",
        "v1:000000000000000.1",
        "v1:0000000000000000.1,",
        "v1:000000000000000/.1",
        "v1:0000000000000000.-1",
        "v1:0000000000000000." + "z" * 13,
        "v1:" + ",".join(["0000000000000000.1"] * 100),
    ],
)
def test_what_is_no_state_counts_as_none(state: str) -> None:
    assert chunks_of("u/data", state) == ()


def test_a_state_agrees_with_what_is_there() -> None:
    path = (chunk(0, 5), chunk(5, 5))
    rival = chunk(0, 7, "f")
    assert agrees(path, Found(path, path))
    assert agrees(path, Found(path, (*path, rival, chunk(10, 0))))
    assert not agrees(path, Found(path, (*path, chunk(10, 1))))
    assert not agrees(path, Found(path, (*path, chunk(12, 1))))
    assert not agrees(path, Found((), path[1:]))


def test_the_budget_is_shared_and_bounded() -> None:
    budget = Budget(10, patience=0.02)
    budget.take(6)
    with pytest.raises(Overloaded, match="uploadmemory"):
        budget.take(6)
    budget.patience = 30
    waiting = threading.Thread(target=budget.take, args=(6,))
    waiting.start()
    budget.give_back(6)
    waiting.join(10)
    assert budget.taken == 6


def test_few_uploads_are_wide_and_none_while_memory_is_scarce() -> None:
    budget = Budget(32)
    assert [budget.widen(1) for _ in range(3)] == [True, True, False]
    budget.narrow()
    budget.take(17)
    assert not budget.widen(1)
    budget.give_back(1)
    assert budget.widen(1)


class Store:
    def __init__(self) -> None:
        self.removed: list[list[str]] = []
        self.changed = threading.Condition()
        self.fails = False

    def remove(self, keys: Sequence[str]) -> None:
        with self.changed:
            if self.fails:
                raise Unavailable("the store is down")
            self.removed.append([*keys])
            self.changed.notify_all()


def test_the_collector_removes_in_batches_and_hides_at_once() -> None:
    store = Store()
    collector = Collector(store.remove, patience=0.05)
    collector.add([])
    collector.add(["a", "b"])
    collector.add(["b", "c"])
    assert "a" in collector
    assert "x" not in collector
    with store.changed:
        assert store.changed.wait_for(lambda: store.removed, 10)
    collector.close()
    collector.close()
    assert sorted(key for batch in store.removed for key in batch) == ["a", "b", "c"]
    assert "a" in collector  # a listing may have been answered before it was removed


def test_the_collector_does_not_wait_when_a_batch_is_full() -> None:
    store = Store()
    collector = Collector(store.remove, patience=300)
    collector.add(f"{number}" for number in range(2500))
    with store.changed:
        assert store.changed.wait_for(lambda: len(store.removed) == 3, 10)
    assert [len(batch) for batch in store.removed] == [1000, 1000, 500]
    collector.close()


def test_the_collector_leaves_what_the_store_refuses(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.fails = True
    collector = Collector(store.remove, patience=300)
    collector.add(["a"])
    with caplog.at_level(logging.WARNING):
        collector.flush()
    assert "wait for the purge: the store is down" in caplog.text
    assert "a" not in collector
    store.fails = False
    collector.add(["b"])
    collector.close()
    assert store.removed == [["b"]]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_makes_its_own() -> None:
    made: PerProcess[object] = PerProcess(object)
    assert made.peek() is None
    mine = made.get()
    assert made.get() is mine
    with made._lock:  # as another thread may hold it at the moment of the fork
        child = os.fork()
        if child == 0:
            os._exit(0 if made.peek() is None and made.get() is not mine else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert made.get() is mine


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"bucket": ""}, "`bucket`"),
        ({"region": ""}, "`region`"),
        ({"accesskey": "a"}, "`secretkey`"),
        ({"keyid": "a"}, "`encrypt: true`"),
        ({"chunksize": 5_000_000}, "`chunksize` is 5000000: make it 8388608 or more"),
        ({"uploadmemory": 1}, "`uploadmemory`"),
        ({"multipartcopychunksize": 1}, "`multipartcopychunksize`"),
    ],
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        S3Settings(**{"bucket": "b", "region": "eu-central-1"} | wrong)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({}, "https://images.s3.eu-central-1.amazonaws.com/a/key"),
        ({"forcepathstyle": True}, "https://s3.eu-central-1.amazonaws.com/images/a/key"),
        ({"secure": False}, "http://images.s3.eu-central-1.amazonaws.com/a/key"),
        ({"usedualstack": True}, "https://images.s3.dualstack.eu-central-1.amazonaws.com/a/key"),
        ({"accelerate": True}, "https://images.s3-accelerate.amazonaws.com/a/key"),
        ({"usefipsendpoint": True}, "https://images.s3-fips.eu-central-1.amazonaws.com/a/key"),
        ({"regionendpoint": "http://10.0.0.1:9000"}, "http://10.0.0.1:9000/images/a/key"),
        ({"regionendpoint": "minio:9000"}, "https://minio:9000/images/a/key"),
        ({"regionendpoint": "minio:9000", "secure": False}, "http://minio:9000/images/a/key"),
        (
            {"regionendpoint": "https://store.example/", "forcepathstyle": False},
            "https://images.store.example/a/key",
        ),
        (
            {"regionendpoint": "http://10.0.0.1:9000", "forcepathstyle": False},
            "http://10.0.0.1:9000/images/a/key",
        ),
        ({"redirectendpoint": "https://cdn.example"}, "https://cdn.example/a/key"),
        ({"rootdirectory": "/root/"}, "https://images.s3.eu-central-1.amazonaws.com/root/a/key"),
        ({"bucket": "b"}, "https://s3.eu-central-1.amazonaws.com/b/a/key"),
        ({"bucket": "a.b"}, "https://s3.eu-central-1.amazonaws.com/a.b/a/key"),
    ],
)
def test_where_the_bucket_is_looked_for(given: dict[str, Any], url: str) -> None:
    settings = S3Settings(
        **{"bucket": "images", "region": "eu-central-1", "accesskey": "a", "secretkey": "s"} | given
    )
    signed = S3Driver(settings).presign("a/key", lifetime=60)
    assert signed is not None
    assert signed.partition("?")[0] == url


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"forcepathstyle": True, "region": "cn-north-1"},
        {"accelerate": True, "rootdirectory": "/a root/ä~+"},
        {"regionendpoint": "http://10.0.0.1:9000", "bucket": "a.b"},
        {"bucket": "arn:aws:s3:eu-west-3:123456789012:accesspoint/images"},
        {"accesskey": "", "secretkey": ""},
    ],
)
def test_a_url_is_signed_as_botocore_does_it(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda: datetime(2026, 1, 2, 3, 4))
    for name, value in [
        ("ACCESS_KEY_ID", "a/b"),
        ("SECRET_ACCESS_KEY", "s"),
        ("SESSION_TOKEN", "t/"),
    ]:
        monkeypatch.setenv(f"AWS_{name}", value)
    settings = S3Settings(
        **{"bucket": "images", "region": "eu-central-1", "accesskey": "a", "secretkey": "s"} | given
    )
    driver, botocores = S3Driver(settings), make_client(settings)
    for key, lifetime in [("blobs/0a/0a1-_.x/data", 77), ("x", 77), ("x", 78), ("a/x", 77)]:
        expected = botocores.generate_presigned_url(
            "get_object",
            Params={"Bucket": settings.bucket, "Key": settings.root + key},
            ExpiresIn=lifetime,
        )
        assert driver.presign(key, lifetime=lifetime) == expected


def test_a_url_is_signed_for_the_second_in_which_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver = S3Driver(S3Settings("images", "eu-central-1", accesskey="a", secretkey="s"))
    for second in range(3):
        now = datetime(2026, 1, 2, 3, 4, second, tzinfo=UTC)
        monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda now=now: now)
        monkeypatch.setattr(presigning, "time", SimpleNamespace(time=now.timestamp))
        for key in ("a/key", "another"):
            signed = driver.presign(key, lifetime=60)
            assert signed is not None
            assert f"X-Amz-Date=20260102T03040{second}Z&" in signed


def test_the_first_url_is_not_made_while_an_event_loop_waits() -> None:
    driver = S3Driver(S3Settings("images", "eu-central-1", accesskey="a", secretkey="s"))
    with pytest.raises(WouldBlock):
        driver.presign("a/key", lifetime=60, patient=False)
    driver.presign("a/key", lifetime=60)
    assert driver.presign("a/key", lifetime=60, patient=False)


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-29T11:22:33.000Z",
        "2026-11-29T11:22:33Z",
        "2026-11-29T12:22:33+01:00",
        "Sun, 29 Nov 2026 11:22:33 GMT",
        "Sun, 29 Nov 2026 11:22:33 +0000",
        "Sunday, 29-Nov-26 11:22:33 GMT",
        "1795951353",
        1795951353,
        "20261129T112233Z",
    ],
)
def test_times_are_read_in_every_form_that_is_written(value: str | float) -> None:
    assert client.parse_time(value) == datetime(2026, 11, 29, 11, 22, 33, tzinfo=UTC)


def test_what_is_no_time_is_refused() -> None:
    for text in ("", "yesterday", "2026-11-29Tnoon", "Sun, 29 Foo"):
        with pytest.raises(ValueError, match="timestamp"):
            client.parse_time(text)


def test_a_client_is_bounded_in_time() -> None:
    settings = S3Settings("b", "eu-central-1", attempts=3, readtimeout=7, useragent="holdfast-test")
    config: Any = make_client(settings).meta.config
    assert config.read_timeout == 7
    assert config.retries == {"mode": "standard", "total_max_attempts": 3}
    assert "holdfast-test" in config.user_agent
    assert config.request_checksum_calculation == "when_required"


def test_every_object_is_made_with_the_same_options() -> None:
    settings = S3Settings(
        "b", "r", encrypt=True, keyid="key", storageclass="STANDARD_IA", objectacl="public-read"
    )
    assert S3Driver(settings)._bucket.options() == {
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key",
        "StorageClass": "STANDARD_IA",
        "ACL": "public-read",
    }
    plain = S3Settings("b", "r", encrypt=True, storageclass="NONE")
    assert S3Driver(plain)._bucket.options() == {"ServerSideEncryption": "AES256"}
