"""The judge of what is forgotten for good: a copy that goes without another in its place.

A copy may go because it belongs elsewhere (``ledger.py`` sees to that), or because nothing is left
of it that anybody will ever need: tombstones that all have confirmed, versions that have ended.
Then

    collected       nothing that the copy shows is a value that lives, and no disk of a member, be
                    it up or down, synced or not, has a value that lives and that the copy knew of:
                    that one would be found again, since nobody is left who knows better. Not so
                    of what the copy itself shows, with an end: elsewhere that lives by a touch that
                    did not come here, and it would live beside this copy as well
    resurrection    what was known with it is never again a value that lives, on any disk

A value lives until its end, by the true time, and for as long as clocks may be wrong. What lies on
no member's disk (a backup, a frame on its way) is judged when it comes.

Costs: a look at the copies of one key on all disks for each copy that goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from everwrite.core.data import versions
from everwrite.core.data.versions import Record, Version
from everwrite.core.records import HINT, OWN
from everwrite.sim.disk import Rotten
from everwrite.sim.truth import CLOCK_ERROR_MS, KeyLedger, Violation, held_record, time_ms

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World


class Collected:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.count = 0
        """Of copies that went for good."""

    def why_not(self, key: KeyLedger, record: Record) -> str:
        """Return why this copy may not go for good, in words; empty if it may."""
        if living := [each for each in record.siblings if self._lives(each)]:
            return f"it shows {_names(living)}, which has not ended"
        for machine in self._world.machines:
            if machine.retired:
                continue
            for where, held in _copies(machine, key):
                known = [
                    each
                    for each in held.siblings
                    if self._lives(each)
                    and versions.covers(record.clock, each.actor, each.counter)
                    and not _shows_earlier(record, each)
                ]
                if known:
                    return f"{machine.me.name} has {_names(known)} {where}, which it superseded"
        return ""

    def gone(self, key: KeyLedger, known: int, record: Record) -> None:
        """A copy that knew this went, rightly. What it showed may have been touched before."""
        self.count += 1
        for version in record.siblings:
            place = key.place_of(version)
            if version.expires and self._is_ahead(key.ends[place].last):
                known &= ~(1 << place)
        key.collected |= known

    def lengthened(self, key: KeyLedger, place: int, last: int) -> None:
        """A record shows a write with an end later than any before, the last of which was this."""
        if not self._is_ahead(last):
            raise Violation(
                "resurrection",
                f"{key.causality.ids[place]} on {key.name} is given a later end, and had ended "
                "everywhere",
            )

    def written(self, key: KeyLedger, index: int, data: bytes) -> None:
        """A record is written of a key of which something was collected."""
        for version in versions.decode(data).siblings:
            place = key.place_of(version)
            again = key.collected & ~key.lingering & ~key.doubtful
            if again >> place & 1 and self._lives(version):
                name = key.causality.ids[place]
                raise Violation(
                    "resurrection",
                    f"node {index + 1} writes {key.name} with {name}, which was "
                    "superseded or had ended, and of which everything had been collected",
                )

    def _lives(self, version: Version) -> bool:
        if version.value is None:
            return False
        return not version.expires or version.expires > time_ms(self._world.now) + CLOCK_ERROR_MS

    def _is_ahead(self, end: int) -> bool:
        """Say whether there may be a node by whose clock an end has not come yet."""
        return end + CLOCK_ERROR_MS > time_ms(self._world.now)


def _shows_earlier(record: Record, other: Version) -> bool:
    """Say whether a record shows a version as well, and has it end earlier."""
    return any(
        version.actor == other.actor
        and version.counter == other.counter
        and 0 < version.expires < other.expires
        for version in record.siblings
    )


def _copies(machine: Machine, key: KeyLedger) -> Iterator[tuple[str, Record]]:
    """Yield what a disk has of a key, now and after a power cut."""
    disk = machine.disk
    for prefix, what in ((OWN, "as its own"), (HINT, "as a hint")):
        disk_key = prefix + key.data_key
        now, safe = disk.visible.get(disk_key), disk.safe.get(disk_key)
        if now is not None and not isinstance(now, Rotten):
            yield what, versions.decode(held_record(prefix, now))
        if safe is not None and safe is not now and not isinstance(safe, Rotten):
            yield f"{what}, after a power cut", versions.decode(held_record(prefix, safe))


def _names(siblings: list[Version]) -> str:
    return " ".join(version.op.decode(errors="backslashreplace") for version in siblings)
