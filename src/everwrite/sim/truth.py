"""What is true of one key: its writes, their dots, and what their writers knew.

The dots come from records, the knowledge from clients; ``ledger.py`` holds each against the other.
"""

from __future__ import annotations

from typing import NamedTuple

from everwrite.core.data.versions import Actor, Clock, Dot
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
    one that the later write's context named by a single dot, which its coordinator could not find.
    Of what is ``doubtful`` nothing is asked: such a later write was itself minted twice, and found
    the dot only once.
    """

    __slots__ = (
        "causality",
        "chains",
        "data_key",
        "dots",
        "doubtful",
        "failed",
        "hard",
        "known_of",
        "lingering",
        "name",
        "named",
        "operations",
        "pending",
        "prefixes",
        "soft",
        "weakened",
    )

    def __init__(self, data_key: bytes, name: str) -> None:
        self.data_key = data_key
        self.name = name
        self.causality = Causality()
        self.operations: list[Operation] = []
        self.chains: dict[Actor, list[int]] = {}
        """For each actor the place of the write of its dot 1, 2, ...; -1: not seen yet."""
        self.prefixes: dict[Dot, tuple[int, int]] = {}
        self.dots: dict[int, list[Dot]] = {}
        self.known_of: dict[bytes, int] = {}
        self.named: dict[int, Knowledge] = {}
        self.pending = self.hard = self.soft = self.failed = 0
        """Writes that are under way; acknowledged as safe on a disk; acknowledged without that;
        surely not happened."""
        self.lingering = self.doubtful = self.weakened = 0

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


def record_in(prefix: bytes, payload: bytes) -> bytes:
    """Return the record in a payload of core/records.py."""
    return payload[8:] if prefix == OWN else payload[9 + 8 * payload[8] :]


def owners_in(payload: bytes) -> list[bytes]:
    """Return the owners in a hint's payload."""
    return [payload[at : at + 8] for at in range(9, 9 + 8 * payload[8], 8)]


def held_record(prefix: bytes, held: Held | None) -> bytes:
    """Return the record in what a disk holds; empty if it is damaged or not there."""
    return b"" if held is None or isinstance(held, Rotten) else record_in(prefix, held)
