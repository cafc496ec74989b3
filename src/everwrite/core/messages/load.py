"""What nodes on one machine say to each other of their load (core/pace/neighbours.py)."""

from __future__ import annotations

from everwrite.core.messages.message import Message


class Load(Message, tag=72, frozen=True):
    """To nodes on the same machine: how this one's requests fare beside background work."""

    strain_pct: int
    """The worst p99 of requests, in parts of a hundred of what it may be; -1: not known."""
    per_s: int
    """Slices of background work that were granted lately, each second."""
    serves: bool
    """Whether it serves requests."""
    unhurried_per_s: int = 0
    """Those of the slices for which nobody waits."""
