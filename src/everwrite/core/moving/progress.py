"""How far the moves of one node are, for ``everwrite transfers`` and metrics."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["gain", "shed", "offer"]
"""It comes; it goes, or is given to those who own it; it stays, and the other owners are given what
they lack of it."""


class Progress(msgspec.Struct, frozen=True):
    """One partition on its way."""

    partition: int
    kind: Kind
    peer: bytes
    """Whom it comes from, or goes to; empty: nobody yet."""
    phase: str
    """"waits", "copies", "takes over", "proves"; "compares" for what is shed or offered."""
    keys: int
    """Looked at so far in this walk."""
    bytes: int
    """Carried so far."""
    since_ms: int
    waiting: str
    """What for, in words; empty if for nothing."""


class MoveCounters(msgspec.Struct):
    """What was moved since the start."""

    keys_in: int = 0
    bytes_in: int = 0
    keys_out: int = 0
    bytes_out: int = 0
    partitions_gained: int = 0
    partitions_shed: int = 0
    partitions_given: int = 0
