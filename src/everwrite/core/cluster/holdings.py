"""Which partitions a node serves and keeps: bitmaps, and who serves a partition now.

Bit p of byte p // 8, the lowest first, stands for partition p; missing bytes are zeros.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

NONE, SERVES, FILLS = range(3)
"""What a node is to a partition: nothing; its copies count; it owns it and its copies do not."""


def bits(data: bytes) -> int:
    """Return a bitmap as a number: bit p is partition p."""
    return int.from_bytes(data, "little")


def packed(number: int) -> bytes:
    """Return a number's bitmap, without zeros at its end."""
    return number.to_bytes((number.bit_length() + 7) // 8, "little")


def partitions_in(number: int) -> list[int]:
    """Return the partitions of a bitmap, in ascending order."""
    found = []
    while number:
        lowest = number & -number
        found.append(lowest.bit_length() - 1)
        number ^= lowest
    return found


def all_bits(partitions: Iterable[int]) -> int:
    """Return the bitmap of these partitions."""
    number = 0
    for partition in partitions:
        number |= 1 << partition
    return number


def encode_held(serves: int, keeps: int) -> bytes:
    """Return the bytes under which a node keeps what it serves and keeps."""
    return msgspec.msgpack.encode([packed(serves), packed(keeps)])


def decode_held(data: bytes) -> tuple[int, int]:
    """Return (serves, keeps) as bitmaps."""
    serves, keeps = msgspec.msgpack.decode(data, type=tuple[bytes, bytes])
    return bits(serves), bits(keeps)


def displaced(
    preference: Sequence[bytes],
    owners: Sequence[bytes],
    serves: Mapping[bytes, int],
    partition: int,
) -> list[bytes]:
    """Return who serves a partition and does not own it: by preference, then by id."""
    ranked = [node for node in preference if node not in owners]
    rest = sorted(serves.keys() - set(preference))
    return [node for node in (*ranked, *rest) if serves.get(node, 0) >> partition & 1]
