"""How many blobs are held at once while all are listed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from registry_gc import blob_listing
from registry_gc.blob_listing import ShardedListing

from storage import layout
from storage.drivers.memory import MemoryDriver
from storage.model.digest import Digest


@pytest.mark.parametrize(("held", "begun"), [(2, [1, 2, 3]), (6, [1, 4, 5])])
def test_so_many_shards_are_begun_as_fit(
    monkeypatch: pytest.MonkeyPatch, held: int, begun: list[int]
) -> None:
    monkeypatch.setattr(blob_listing, "HELD", held)
    driver = MemoryDriver()
    for shard in range(5):
        for number in range(2):
            driver.write(layout.blob(Digest("sha256", f"{shard:02x}{number:062x}")), b"")
    submitted = 0

    class Counting(ThreadPoolExecutor):
        def submit(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            nonlocal submitted
            submitted += 1
            return super().submit(*args, **kwargs)

    with Counting(1) as pool:
        listing = ShardedListing(driver, pool)
        seen = []
        for shard in range(3):
            assert len(listing.shard(shard)) == 2
            seen.append(submitted)
    assert seen == begun
