"""What clients ask, and coordinators of replicas, about the keys of a bucket."""

from __future__ import annotations

import msgspec

from everwrite.core.messages.message import Message


class List(Message, tag=14, frozen=True):
    """Which keys of a bucket lie behind a place on the ring? The answer tells those of a short
    range, and where to go on.
    """

    rid: int
    bucket: bytes
    prefix: bytes
    """Of the keys; empty: all."""
    after: bytes
    """A data key, or a place that an answer gave; empty: the ring's beginning."""
    timeout_ms: int
    r: int = 0
    also: list[bytes] = msgspec.field(default_factory=list)
    """More buckets. If there are any, the answer tells data keys."""


class Names(Message, tag=22, frozen=True):
    """Ask one replica for its part of the answer; the fields are those of List."""

    rid: int
    bucket: bytes
    prefix: bytes
    after: bytes
    left_ms: int
    also: list[bytes] = msgspec.field(default_factory=list)
    """A node of a version without this tells of ``bucket`` alone."""


class Named(Message, tag=32, frozen=True):
    """The answer to Names."""

    rid: int
    status: int
    """FOUND; NOT_HERE: it does not serve the partition, what it has is told; BUSY, UNREADABLE."""
    keys: list[bytes]
    """Data keys of what lives here, in their order but for those of hints."""
    last: bytes = b""
    """All up to this one are told; empty: to the end of the partition."""


class Listed(Message, tag=37, frozen=True):
    """The answer to List."""

    rid: int
    keys: list[bytes]
    """In the order of the ring; data keys if several buckets were asked for."""
    next: bytes
    """Where to go on; empty: the ring is at its end."""
    owners: int
    fallbacks: int
    required: int
