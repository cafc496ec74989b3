"""A fuse: a crash that is set to happen at an effect boundary of a machine (sim/machine.py).

After the batch is written and before anything is sent, in the midst of the sending, or after a sync
and before its acks.
"""

from __future__ import annotations

from typing import NamedTuple

CRASH_POINTS = ("now", "written", "sending", "synced")


class Fuse(NamedTuple):
    """Where the next crash happens, whether the power goes with it, and when the node is back."""

    point: str
    power: bool
    down_us: int


NO_FUSE = Fuse("", False, 0)
