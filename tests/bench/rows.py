"""All rows, in the order in which they run. A new one goes into its family's ROWS."""

from __future__ import annotations

from typing import Any

from tests.bench import (
    accelerated,
    beside,
    bucket,
    bulk,
    collecting,
    crowds,
    guarded,
    lists,
    scale,
    small,
    whole,
)
from tests.bench.measure import Row

ROWS: tuple[Row[Any], ...] = (
    *bulk.ROWS,
    *accelerated.ROWS,
    *small.ROWS,
    *crowds.ROWS,
    *guarded.ROWS,
    *lists.ROWS,
    *whole.ROWS,
    *collecting.ROWS,
    *beside.ROWS,
    *bucket.ROWS,
    *scale.ROWS,
)
