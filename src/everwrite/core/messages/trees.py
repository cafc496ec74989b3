"""What two owners say to each other to find out where they differ: docs/design/exchange.md.

Each question is answered by itself, from the answerer's tree or its disk.
"""

from __future__ import annotations

import msgspec

from everwrite.core.messages.message import Message

DIFFERENT, OTHER_SHAPE, NOT_WHOLE, OTHER_HORIZON = range(9, 13)
"""What two trees may be to each other beside SAME; the last three are not compared: another format
or seed, a tree that is being made anew, and one whose expired versions were retired further."""


class Roots(Message, tag=56, frozen=True):
    """An owner asks another whether they have the same."""

    rid: int
    shape: bytes
    """Of the asker's trees; those of another shape are not compared."""
    roots: list[tuple[int, int, int]]
    """(partition, horizon, root)."""
    doubts: list[int] = msgspec.field(default_factory=list)
    """Leaves of these partitions whose sums differed while no key did: to be made anew."""
    step: int = 1
    """Slots from one horizon of the asker to its next: see expiry/expiry.py."""


class Rooted(Message, tag=57, frozen=True):
    """The answer to Roots: for each, in order, SAME, DIFFERENT, or why it is not compared."""

    rid: int
    verdicts: list[int]


class Sums(Message, tag=58, frozen=True):
    """An owner asks for sums of leaves, each over ``width`` of them."""

    rid: int
    partition: int
    shape: bytes
    horizon: int
    width: int
    spans: list[tuple[int, int]]
    """(first, count), counted in widths from the partition's first leaf."""


class Summed(Message, tag=59, frozen=True):
    """The answer to Sums: FOUND and the sums, all spans in order; or why not."""

    rid: int
    status: int
    sums: list[int]


class Entries(Message, tag=60, frozen=True):
    """An owner says which copies it has in some ranges, and asks for those that it lacks."""

    rid: int
    partition: int
    shape: bytes
    horizon: int
    ranges: list[tuple[bytes, bytes]]
    """(first data key, the one behind the last), in order."""
    entries: list[int]
    """What each copy adds to its leaf."""


class Differing(Message, tag=61, frozen=True):
    """The answer to Entries: FOUND and what differs; or why not."""

    rid: int
    status: int
    items: list[tuple[bytes, bytes]]
    """(data key, record) that the asker has not."""
    wanted: list[int]
    """The asker's entries that were not found here."""
    last: bytes = b""
    """Only what is before this data key was looked at; empty: all."""
