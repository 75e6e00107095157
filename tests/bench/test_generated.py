"""The bucket that is computed is one that the collector understands."""

from __future__ import annotations

from pathlib import Path

from tests.bench.generated import BLOBS_PER_IMAGE, LOST, OBJECTS_PER_IMAGE, look


def test_the_collector_sees_what_there_should_be(tmp_path: Path) -> None:
    images = 500
    report = look(images * OBJECTS_PER_IMAGE, tmp_path)
    garbage = images // LOST * BLOBS_PER_IMAGE
    assert report.totals.manifests == images - images // LOST
    assert report.totals.dangling == 0
    assert report.totals.repositories == 5
    assert report.totals.blobs == images * BLOBS_PER_IMAGE
    assert report.condemned_blobs == report.waiting == garbage
    assert sum(report.totals.unique.values()) == (images * BLOBS_PER_IMAGE - garbage) * 4_600_000
