"""A partition as a range of keys, read in slices; and the digests by which slices are compared.

A data key begins with its hash, so a partition is one range for every number of partitions. A slice
is named by the last key before it and its own last key, so that two nodes with different keys can
speak of the same part.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import xxhash

from everwrite.core.records import OWN, Damaged, Records

HASH_BITS = 64

WINDOW = 32
"""Records of a slice that wait for one disk at a time: fewer where it says that it is busy. All of
them come back with one fsync, and the next ones are merged in one tick, in which no client is
served."""

Item = tuple[bytes, bytes]
"""(data key, record)."""


class Scan(NamedTuple):
    """A read of a range of the disk that the shell is asked for; ``Node.scanned`` gets it."""

    rid: int
    start: bytes
    """The first disk key."""
    end: bytes
    """The disk key behind the last one."""
    keys: int
    """At most so many, and not many more than"""
    size: int
    """so many bytes."""
    quick: bool = False
    """Whether nobody else wants the processor: read on without a rest."""


class Scanned(NamedTuple):
    """What stands in the beginning of a range."""

    pairs: list[tuple[bytes, bytes | Damaged]]
    """(disk key, payload), in order."""
    more: bool
    """Whether the range has more than that."""


def first_key(partition: int, partitions: int) -> bytes:
    """Return the least that a data key of this partition can begin with."""
    shift = HASH_BITS - (partitions.bit_length() - 1)
    return (partition << shift).to_bytes(8, "big")


def scan_of(
    rid: int, partition: int, partitions: int, after: bytes, until: bytes, keys: int, size: int
) -> Scan:
    """Return the read of a partition's data keys above ``after`` (empty: from its beginning) up to
    and with ``until`` (empty: to its end).
    """
    start = after + b"\0" if after else first_key(partition, partitions)
    if until:
        end = OWN + until + b"\0"
    elif partition + 1 < partitions:
        end = OWN + first_key(partition + 1, partitions)
    else:
        end = bytes((OWN[0] + 1,))
    return Scan(rid, OWN + start, end, keys, size)


def items_of(scanned: Scanned, records: Records) -> tuple[list[Item], list[bytes]]:
    """Return what is known of a slice of own copies, and the data keys of what cannot be read.
    What is damaged, but whole in memory, is written anew.
    """
    items: list[Item] = []
    damaged: list[bytes] = []
    for key, payload in scanned.pairs:
        whole = records.rewrite(key) if isinstance(payload, Damaged) else payload
        if whole is None:
            damaged.append(key[1:])
        else:
            items.append((key[1:], whole[8:]))
    return items, damaged


def digest_of(items: Iterable[Item]) -> bytes:
    """Return 16 bytes that are equal for equal items in equal order."""
    digest = xxhash.xxh3_128()
    for key, record in items:
        digest.update(len(key).to_bytes(4, "big") + key)
        digest.update(len(record).to_bytes(4, "big") + record)
    return digest.digest()
