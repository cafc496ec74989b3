"""The on-disk layout: which key prefix holds what.

    b"d" + data key   this node's copy of a key: own epoch (8 bytes, big endian) + the record
    b"h" + data key   a hint: whom a stand-in's copy is for
    b"m" + name       node state: identity, epoch lease, members

A data key begins with the key's 64-bit hash, so that within "d" and "h" a partition (or a tree
leaf, or a scan slice) is one contiguous range for every number of partitions: ``hash_range``.

This layout is format 1 of the manifest; another layout is another format number.
"""

from __future__ import annotations

from everwrite.core.errors import check

DATA = b"d"
HINT = b"h"
NODE = b"m"

EPOCH_BYTES = 8
NO_EPOCH = bytes(EPOCH_BYTES)


def own_record(epoch: int, record: bytes) -> bytes:
    """Return what "d" holds: the record, after the epoch that this node minted under (0: none)."""
    return epoch.to_bytes(EPOCH_BYTES, "big") + record


def split_own_record(value: bytes) -> tuple[int, bytes]:
    """Return (own epoch, record bytes) of a value that ``own_record`` made."""
    return int.from_bytes(value[:EPOCH_BYTES], "big"), value[EPOCH_BYTES:]


def whole(prefix: bytes) -> tuple[bytes, bytes]:
    """Return (start, end) of everything under a one-byte prefix."""
    return prefix, bytes((prefix[0] + 1,))


def hash_range(prefix: bytes, index: int, count: int) -> tuple[bytes, bytes]:
    """Return (start, end) of slice ``index`` of ``count`` equal slices of the ring; count is a
    power of two.

    >>> hash_range(b"d", 1, 256)
    (b'd\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x00', b'd\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00')
    """
    check(count > 0 and count & (count - 1) == 0, "slices are a power of two", count=count)
    check(0 <= index < count, "a slice is one of those there are", index=index, count=count)
    width = (1 << 64) // count
    start = prefix + (index * width).to_bytes(8, "big")
    if index + 1 == count:
        return start, whole(prefix)[1]
    return start, prefix + ((index + 1) * width).to_bytes(8, "big")
