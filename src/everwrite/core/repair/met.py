"""What was compared and repaired, for ``everwrite repairs`` and metrics."""

from __future__ import annotations

import msgspec

from everwrite.core.messages.message import Message
from everwrite.core.messages.trees import Differing

CARRY_BYTES = 32
"""What a record's Store and its acknowledgement take beside the key and the record."""


class RepairCounters(msgspec.Struct):
    """What was compared and repaired since the start."""

    asked: int = 0
    """Messages with roots that were sent."""
    compared: int = 0
    """Roots that a peer has compared with its own."""
    differed: int = 0
    exchanges: int = 0
    broken_off: int = 0
    leaves: int = 0
    """Leaves that still differed when they were looked at again."""
    doubted: int = 0
    """Leaves that differed while no key did, and are made anew."""
    keys_in: int = 0
    """Copies that came here in exchanges which this node began, and were news."""
    bytes_in: int = 0
    """All that came so, with what was no news."""
    keys_out: int = 0
    """Copies that went to the peer in these exchanges, and were taken."""
    bytes_out: int = 0
    mended: int = 0
    """Damaged copies, here or there, that were met on the way."""
    said: int = 0
    """Bytes of all that was said to find out what differs, without the records themselves."""


class Met(msgspec.Struct):
    """What one exchange or more have found between this node and a peer in a partition."""

    exchanges: int = 0
    leaves: int = 0
    keys_in: int = 0
    keys_out: int = 0
    bytes: int = 0
    why: str = ""
    """Why it is not compared, or was broken off, when it was tried last."""


def weight(message: Message) -> int:
    """Return the bytes of a message of an exchange, without the records in it."""
    if isinstance(message, Differing):
        message = msgspec.structs.replace(message, items=[])
    return len(msgspec.msgpack.encode(message))
