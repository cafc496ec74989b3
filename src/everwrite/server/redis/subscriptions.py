"""Who has subscribed to what, among the connections of one node.

    CHANNEL   SUBSCRIBE    hears what is published to it
    PATTERN   PSUBSCRIBE   hears what is published to any channel that fits
    SHARD     SSUBSCRIBE   hears what is published to it by SPUBLISH

Each kind has its names, and each subscriber his own. Nothing here knows of sockets.

Costs: a look-up for each publication, and a match for each pattern.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from everwrite.core.channels import CHANNEL_BYTES_MAX
from everwrite.server.redis.patterns import Glob, glob
from everwrite.server.redis.replies import Problem

CHANNEL, PATTERN, SHARD = KINDS = range(3)
NAMES = ("channel", "pattern", "sharded")

OWN_MAX = 10_000
"""Of one connection: channels and patterns."""
OWN_PATTERNS_MAX = 128
"""To make one ready takes up to a millisecond."""
ALL_MAX = 65_536
"""Of all connections of a node,"""
ALL_BYTES_MAX = 32 << 20
"""what their names have,"""
PATTERNS_MAX = 1024
"""and the patterns that are different: each publication is matched with all of them."""

Names = dict[bytes, None]


Who = TypeVar("Who", bound=Hashable)


class Subscriptions(Generic[Who]):
    """See the module."""

    def __init__(self) -> None:
        self._by_name: tuple[dict[bytes, dict[Who, None]], ...] = tuple({} for _ in KINDS)
        self._by_who: dict[Who, tuple[Names, ...]] = {}
        self._fits: dict[bytes, Glob] = {}
        self.counts = [0 for _ in KINDS]
        """How many there are of each kind."""
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._by_who)

    def check(self, who: Who, kind: int, names: Sequence[bytes]) -> None:
        """Raise a Problem if these are too many, or too long."""
        longest = max(map(len, names))
        if longest > CHANNEL_BYTES_MAX:
            raise Problem(f"ERR a {NAMES[kind]} has at most {CHANNEL_BYTES_MAX} bytes here")
        mine = self._by_who.get(who)
        fresh = set(names).difference(mine[kind]) if mine else set(names)
        if self.own(who) + len(fresh) > OWN_MAX:
            raise Problem(f"ERR a connection has at most {OWN_MAX} channels and patterns here")
        size = sum(map(len, fresh))
        if sum(self.counts) + len(fresh) > ALL_MAX or self._bytes + size > ALL_BYTES_MAX:
            raise Problem("ERR this node has as many subscriptions as it takes: ask another node")
        if kind == PATTERN:
            if len(fresh) + (len(mine[kind]) if mine else 0) > OWN_PATTERNS_MAX:
                raise Problem(f"ERR a connection has at most {OWN_PATTERNS_MAX} patterns here")
            if len(self._fits) + len(fresh.difference(self._fits)) > PATTERNS_MAX:
                raise Problem("ERR this node has as many patterns as it takes: ask another node")

    def add(self, who: Who, kind: int, name: bytes) -> None:
        """Subscribe somebody who may (``check``)."""
        there = self._by_name[kind].setdefault(name, {})
        if who in there:
            return
        if kind == PATTERN and name not in self._fits:
            self._fits[name] = glob(name)
        there[who] = None
        self._by_who.setdefault(who, tuple({} for _ in KINDS))[kind][name] = None
        self.counts[kind] += 1
        self._bytes += len(name)

    def remove(self, who: Who, kind: int, name: bytes) -> None:
        """Take one away, if it is there."""
        there = self._by_name[kind].get(name)
        if there is None or who not in there:
            return
        del there[who]
        if not there:
            del self._by_name[kind][name]
            if kind == PATTERN:
                del self._fits[name]
        mine = self._by_who[who]
        del mine[kind][name]
        if not any(mine):
            del self._by_who[who]
        self.counts[kind] -= 1
        self._bytes -= len(name)

    def drop(self, who: Who) -> None:
        """Take away all of somebody."""
        for kind, names in enumerate(self._by_who.get(who, ())):
            for name in list(names):
                self.remove(who, kind, name)

    # -- questions ---------------------------------------------------------------------------------

    def own(self, who: Who) -> int:
        """Return how many of whatever kind somebody has."""
        return sum(map(len, self._by_who.get(who, ())))

    def told(self, who: Who, kind: int) -> int:
        """Return the number that stands in an answer: of the sharded ones, or of the others."""
        mine = self._by_who.get(who)
        if mine is None:
            return 0
        return len(mine[SHARD]) if kind == SHARD else len(mine[CHANNEL]) + len(mine[PATTERN])

    def names_of(self, who: Who, kind: int) -> list[bytes]:
        """Return what somebody has, in the order in which it came."""
        mine = self._by_who.get(who)
        return list(mine[kind]) if mine is not None else []

    def names(self, kind: int) -> list[bytes]:
        """Return all that anybody has."""
        return list(self._by_name[kind])

    def subscribers(self, kind: int, name: bytes) -> list[Who]:
        """Return who has subscribed to a channel, or to a pattern, by this name."""
        return list(self._by_name[kind].get(name, ()))

    def has(self, who: Who, kind: int, name: bytes) -> bool:
        return who in self._by_name[kind].get(name, ())

    def patterns(self) -> list[tuple[bytes, Glob]]:
        """Return all patterns, and what they fit."""
        return list(self._fits.items())
