"""What a node asks of another to explain a key: all that it has of it, as it is."""

from __future__ import annotations

import msgspec

from everwrite.core.messages.message import Message


class Show(Message, tag=23, frozen=True):
    """What have you of this key? Nothing is changed by the question."""

    rid: int
    key: bytes


class Copy(Message, frozen=True):
    """One copy on a disk: its status as in FetchReply (FOUND, ABSENT, UNREADABLE)."""

    status: int
    record: bytes = b""
    reason: str = ""
    """Why it cannot be read."""
    corrupt: bool = False
    """Its bytes are there, and wrong."""


class Shown(Message, tag=38, frozen=True):
    """The answer: the node's own copy, and the one that it keeps for others."""

    rid: int
    status: int
    """FOUND; BUSY: it has too much to do, and says nothing."""
    own: Copy
    kept: Copy
    role: int
    """What it is to the partition, by its own view (cluster/holdings.py)."""
    time_ms: int
    """Its time of day."""
    owners: dict[bytes, int] = msgspec.field(default_factory=dict)
    """Whom it keeps a copy for, and since which second."""
