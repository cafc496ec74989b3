"""What nodes say to each other of partitions on their way: docs/design/moving.md."""

from __future__ import annotations

from everwrite.core.messages.message import Message


class Pull(Message, tag=50, frozen=True):
    """A new owner asks for a range of a partition, unless it has the same: disk keys without
    prefix, above ``after`` up to and with ``until`` (empty: to the end).
    """

    rid: int
    partition: int
    after: bytes
    until: bytes
    digest: bytes
    step: int = 0
    """Which question of this move it is. Its answer bears the same: one that comes twice is not
    taken for the answer to the next."""


class Slice(Message, tag=51, frozen=True):
    """The answer to Pull: what stands in the beginning of the range, or that it is the same."""

    rid: int
    status: int
    """FOUND: ``items`` are all up to ``last``; SAME: equal digests; NOT_HERE, BUSY, UNREADABLE."""
    items: list[tuple[bytes, bytes]]
    """(data key, record)."""
    last: bytes = b""
    """The last key that was looked at; empty: the range is at its end."""
    damaged: bool = False
    """Whether records are missing since the sender cannot read them."""
    step: int = 0


class GiveUp(Message, tag=52, frozen=True):
    """A new owner has copied a partition: who served it so far, and owns it not, is to stop."""

    rid: int
    partition: int


class GaveUp(Message, tag=53, frozen=True):
    """The answer to GiveUp: done, for good, or not."""

    rid: int
    done: bool


class Match(Message, tag=54, frozen=True):
    """A node that owns a partition no more asks an owner whether it has all of a range."""

    rid: int
    partition: int
    after: bytes
    until: bytes
    digest: bytes
    step: int = 0
    """As in Pull."""


class Matched(Message, tag=55, frozen=True):
    """The answer to Match: SAME, FOUND (something differs), NOT_HERE, BUSY or UNREADABLE."""

    rid: int
    status: int
    step: int = 0
