"""Laws of the values, as functions of the implementation that they judge."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.core.data.histories import dots

from everwrite.core.data import versions
from everwrite.core.data.context import sign
from everwrite.core.data.versions import EMPTY, Record, Seen
from everwrite.core.errors import BadContext

Merge = Callable[[Record, Record], Record]
Verify = Callable[[bytes, bytes, bytes], Seen]


def merge_is_a_join(merge: Merge, a: Record, b: Record, c: Record) -> None:
    """Merge is commutative, associative and idempotent, to the byte, and EMPTY is its unit."""

    def same(one: Record, other: Record) -> None:
        assert versions.encode(one) == versions.encode(other)

    same(merge(a, b), merge(b, a))
    same(merge(merge(a, b), c), merge(a, merge(b, c)))
    same(merge(a, a), a)
    same(merge(a, EMPTY), a)


def merge_keeps_what_none_superseded(merge: Merge, a: Record, b: Record) -> None:
    """A dot is there afterwards if one side shows it and the other shows it or never knew it."""
    merged = merge(a, b)
    known_a, known_b = set(dots(a)), set(dots(b))
    due = {
        dot
        for dot in known_a | known_b
        if (dot in known_a or not versions.covers(a.clock, *dot))
        and (dot in known_b or not versions.covers(b.clock, *dot))
    }
    assert dots(merged) == sorted(due)
    assert versions.descends(merged.clock, a.clock)
    assert versions.descends(merged.clock, b.clock)
    versions.validate(merged)


def verify_takes_only_its_own(verify: Verify, secret: bytes, key: bytes, seen: Seen) -> None:
    """Of all contexts only the one signed under this secret for this key is taken."""
    token = sign(secret, key, seen)
    assert verify(secret, key, token) == seen
    assert verify(secret, key, b"") == Seen({}, [])
    assert verify(secret, key, token + token) == seen

    def refused(secret: bytes, key: bytes, token: bytes) -> None:
        with pytest.raises(BadContext):
            verify(secret, key, token)

    refused(secret, key + b"x", token)
    refused(secret + b"x", key, token)
    refused(secret, key, token[:-1])
    refused(secret, key, token + sign(secret, key + b"x", seen))
    for bit in range(len(token) * 8):
        flipped = bytearray(token)
        flipped[bit // 8] ^= 1 << bit % 8
        refused(secret, key, bytes(flipped))
