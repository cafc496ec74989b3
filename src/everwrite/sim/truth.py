"""What is true of one key: its writes, their dots, and what their writers knew.

The dots come from records, the knowledge from clients; ``ledger.py`` holds each against the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from everwrite.core.data import versions
from everwrite.core.data.versions import Actor, Clock, Dot, Version
from everwrite.core.hints.kept import split_hint
from everwrite.core.records import OWN
from everwrite.sim.causality import Causality
from everwrite.sim.disk import Held, Rotten
from everwrite.sim.history import Operation


class Source(NamedTuple):
    """Where a record is written: the machine's number, the disk key, the record written over."""

    machine: int
    disk_key: bytes
    had: bytes


class Violation(Exception):
    """A rule that was broken, in words."""

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(f"{rule}: {sentence}")
        self.rule = rule
        self.sentence = sentence


CLOCK_ERROR_MS = 1_500
"""How far the clock that a node goes by may be from the true time: what it calls far itself, and
what it may fall behind before it follows.
"""


TIME_ZERO_MS = 1_700_000_000_000
"""The time of day when a world begins."""


def time_ms(now_us: int) -> int:
    """Return the true time of day, so many microseconds after a world began."""
    return TIME_ZERO_MS + now_us // 1000


class End:
    """When a write ends, by the clock of those who decided it, in milliseconds since 1970."""

    __slots__ = ("first", "last")

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        """The first and the last end that any copy of it ever had."""


def bounds_us(end: End) -> tuple[int, int]:
    """Return when a write may be hidden for the first time, and found for the last time."""
    first, last = end.first - CLOCK_ERROR_MS, end.last + CLOCK_ERROR_MS
    return (first - TIME_ZERO_MS) * 1000, (last - TIME_ZERO_MS) * 1000


class Knowledge(NamedTuple):
    """A context, and what its holder really saw: the writes that its clock stands for, and those
    that it only names by single dots.
    """

    token: bytes
    mask: int
    named: int = 0


NO_KNOWLEDGE = Knowledge(b"", 0)


class KeyLedger:
    """All that is true of one key.

    Exceptions to "shown = frontier(known)", both of them documented limits of the store. Writes
    that are ``lingering`` may stand beside a later write that knew them: a put that was retried
    through another node and minted there too, of which the later write knew the first copy; and
    one that the later write's context named by a single dot, which its coordinator could not find,
    or did so to a write of which that coordinator had not heard.
    Of what is ``doubtful`` nothing is asked: such a later write was itself minted twice, and found
    the dot only once.
    """

    __slots__ = (
        "causality",
        "chains",
        "collected",
        "data_key",
        "dots",
        "doubtful",
        "ends",
        "ever_named",
        "failed",
        "hard",
        "known_of",
        "lingering",
        "name",
        "named",
        "operations",
        "owed",
        "pending",
        "prefixes",
        "soft",
        "time_ms",
        "weakened",
    )

    def __init__(self, data_key: bytes, name: str, time_ms: Callable[[], int]) -> None:
        self.data_key = data_key
        self.name = name
        self.time_ms = time_ms
        """Returns the true time of day."""
        self.causality = Causality()
        self.operations: list[Operation] = []
        self.chains: dict[Actor, list[int]] = {}
        """For each actor the place of the write of its dot 1, 2, ...; -1: not seen yet."""
        self.prefixes: dict[Dot, tuple[int, int]] = {}
        self.dots: dict[int, list[Dot]] = {}
        self.known_of: dict[bytes, int] = {}
        self.named: dict[int, Knowledge] = {}
        self.ever_named = 0
        """Writes that some context has named by a single dot."""
        self.ends: dict[int, End] = {}
        self.owed: dict[Dot, int] = {}
        """The latest end of a dot that was acknowledged to who touched it."""
        self.pending = self.hard = self.soft = self.failed = 0
        """Writes that are under way; acknowledged as safe on a disk; acknowledged without that;
        surely not happened."""
        self.lingering = self.doubtful = self.weakened = 0
        self.collected = 0
        """Writes of which a copy went for good, since nobody would need them any more."""

    def place_of(self, version: Version) -> int:
        """Return the write that a sibling is of."""
        return self.causality.place[version.op.decode()]

    def prefix(self, actor: Actor, counter: int) -> tuple[int, int]:
        """Return the writes that a clock's entry covers, and all that is in their past."""
        found = self.prefixes.get((actor, counter))
        if found is not None:
            return found
        chain = self.chains.get(actor, [])
        known = past = 0
        for place in chain[:counter]:
            if place >= 0:
                known |= 1 << place
                past |= self.causality.past[place]
        if len(chain) >= counter and -1 not in chain[:counter]:
            self.prefixes[actor, counter] = known, past
        return known, past

    def known(self, clock: Clock) -> int:
        """Return the writes that a clock covers."""
        known = 0
        for actor, counter in clock.items():
            known |= self.prefix(actor, counter)[0]
        return known

    def named_by(self, dots: list[Dot]) -> int:
        """Return the writes of single dots."""
        named = 0
        for actor, counter in dots:
            chain = self.chains.get(actor, [])
            if counter <= len(chain) and chain[counter - 1] >= 0:
                named |= 1 << chain[counter - 1]
        return named


def as_of(record: bytes, horizon: int) -> bytes:
    """Return a record as it is once all that ended before a time is retired: copies that differ
    in nothing else are the same to every reader, and will be the same.
    """
    if not record:
        return b""
    decoded = versions.decode(record)
    retired = versions.retire(decoded, horizon)
    if retired is decoded:
        return record
    return versions.encode(retired) if retired is not None else b""


def record_in(prefix: bytes, payload: bytes) -> bytes:
    """Return the record in a payload of core/records.py."""
    return payload[8:] if prefix == OWN else split_hint(payload)[2]


def owners_in(payload: bytes) -> list[bytes]:
    """Return the owners in a hint's payload."""
    return list(split_hint(payload)[1])


def held_record(prefix: bytes, held: Held | None) -> bytes:
    """Return the record in what a disk holds; empty if it is damaged or not there."""
    return b"" if held is None or isinstance(held, Rotten) else record_in(prefix, held)
