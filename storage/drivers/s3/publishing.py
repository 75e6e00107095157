"""Chunks into a finished object: by the store where it can, else through this node.

The store copies a small object in one request, and a large one in parts at once; or that too in one,
where copies of small ones were too quick for anything to have been moved. It can put several chunks
together if each but the last has the 5 MiB that a part must have. What it cannot do, this node does: it
reads the chunks and writes the object, in parts of one size. A store that says it cannot copy is not
asked again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from storage.driver_errors import ObjectNotFound, Unavailable
from storage.drivers.s3.errors import BadParts, ConditionRefused, Unsupported, Vanished
from storage.drivers.s3.growing import Chunk, GrowingReader
from storage.drivers.s3.multipart import MultipartUpload, published
from storage.drivers.s3.settings import LARGEST_COPY, MEBIBYTE, MOST_PARTS, SMALLEST_PART
from storage.drivers.s3.workshop import Workshop


def publish(workshop: Workshop, sources: Sequence[Chunk], tail: bytes, key: str) -> None:
    """Make `key` of the chunks and what follows them. Raises ObjectNotFound if a chunk is gone."""
    if not sources:
        put_final(workshop, key, tail)
    elif not _copied(workshop, sources, tail, key):
        _stream(workshop, sources, tail, key)


def put_final(workshop: Workshop, key: str, data: bytes) -> None:
    """Put an object that is the same whoever puts it, unless it is there already."""
    bucket, abilities = workshop.bucket, workshop.abilities
    unsupported = False
    if abilities.conditions:
        try:
            bucket.put(key, data, absent=True)
            return
        except ConditionRefused:
            if published(bucket, key, len(data)):
                return
        except Unsupported:
            unsupported = True
    bucket.put(key, data)
    if unsupported:
        abilities.conditions = False


def complete_final(workshop: Workshop, upload: MultipartUpload, size: int) -> None:
    """As put_final(), of an upload whose parts have all been sent."""
    abilities = workshop.abilities
    unsupported = False
    if abilities.conditions:
        try:
            upload.complete(size, absent=True)
            return
        except ConditionRefused:  # what is there has another size: it is damaged
            pass
        except Unsupported:
            unsupported = True
    upload.complete(size)
    if unsupported:
        abilities.conditions = False


def _copied(workshop: Workshop, sources: Sequence[Chunk], tail: bytes, key: str) -> bool:
    size = sources[-1].end
    alone = len(sources) == 1 and not tail
    threshold = min(workshop.settings.multipartcopythresholdsize, LARGEST_COPY)
    if workshop.abilities.copies_by_reference:
        threshold = LARGEST_COPY
    if alone and size <= threshold and _copied_whole(workshop, sources[0], key):
        return True
    last = None if tail else sources[-1]
    if all(source.size >= SMALLEST_PART or source is last for source in sources) and (
        _copied_in_parts(workshop, sources, tail, key)
    ):
        return True
    return alone and threshold < size <= LARGEST_COPY and _copied_whole(workshop, sources[0], key)


def _copied_whole(workshop: Workshop, source: Chunk, key: str) -> bool:
    if not workshop.abilities.copy:
        return False
    begun = time.monotonic()
    try:
        workshop.bucket.copy(source.key, key)
        workshop.abilities.copied(source.size, time.monotonic() - begun)
        return True
    except Unsupported:
        pass
    except ObjectNotFound:  # rclone also says so of an object that was uploaded in parts
        workshop.bucket.head(source.key)
    except Unavailable:  # perhaps it took too long
        workshop.abilities.copies_by_reference = False
        raise
    workshop.abilities.copy = False
    return False


def _copied_in_parts(workshop: Workshop, sources: Sequence[Chunk], tail: bytes, key: str) -> bool:
    if not workshop.abilities.part_copy:
        return False
    upload = MultipartUpload(workshop.bucket, workshop.copiers, key)
    try:
        for source, first, last in pieces(sources, workshop.settings.multipartcopychunksize):
            upload.copy(source.key, first, last, whole=last - first + 1 == source.size)
        if tail:
            upload.send(tail)
        complete_final(workshop, upload, sources[-1].end + len(tail))
        return True
    except Unsupported:
        workshop.abilities.part_copy = False
        return False
    except BadParts:  # a store that wants parts of one size
        return False
    finally:
        upload.abort()


def pieces(sources: Sequence[Chunk], size: int) -> Iterator[tuple[Chunk, int, int]]:
    """Each chunk in pieces of `size`, the last of them up to twice as long: none is too small.

    They are larger where they would be too many. A piece is its chunk, its first byte and its last.
    """
    size = max(size, -(-sources[-1].end // (MOST_PARTS // 2)))
    for source in sources:
        count = max(source.size // size, 1)
        for number in range(count):
            last = source.size if number == count - 1 else (number + 1) * size
            yield source, number * size, last - 1


def _stream(workshop: Workshop, sources: Sequence[Chunk], tail: bytes, key: str) -> None:
    part_size = workshop.settings.chunksize
    size = sources[-1].end + len(tail)
    reader = GrowingReader(workshop.bucket, key, sources, 0)
    try:
        if size <= part_size:
            put_final(workshop, key, reader.read_at(0, reader.info.size) + tail)
            return
        upload = MultipartUpload(workshop.bucket, workshop.senders, key)
        try:
            for start in range(0, size, part_size):
                workshop.budget.take(part_size)
                upload.send(
                    _part(reader, tail, start, part_size),
                    sent=lambda: workshop.budget.give_back(part_size),
                )
            complete_final(workshop, upload, size)
        finally:
            upload.abort()
    except Vanished as error:
        raise ObjectNotFound(f"publish {key}: the chunks are gone") from error
    finally:
        reader.close()


def _part(reader: GrowingReader, tail: bytes, start: int, length: int) -> bytes:
    """`length` bytes from `start` of what the reader has and what follows it, fewer at the end."""
    end = min(start + length, reader.info.size)
    pieces = [
        reader.read_at(position, min(MEBIBYTE, end - position))
        for position in range(start, end, MEBIBYTE)
    ]
    rest = max(start, reader.info.size)
    pieces.append(tail[rest - reader.info.size : start + length - reader.info.size])
    return b"".join(pieces)
