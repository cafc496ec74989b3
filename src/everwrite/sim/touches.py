"""The judge of touches: whoever was told that a key lives longer finds it for so long.

    quorum      so many machines as the answer says have the later end of something, or what
                superseded it
    touched     at rest all owners of the key have it too

A touch makes no dot, so no clock says who has it: the ends in the copies do. A disk that is lost
may take a touch with it although another has the same versions (the atlas goes by dots); so the
second rule is for worlds in which no disk fails.

Costs: a decoding of each record that is written to a key of which something ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.data import versions
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import OWN
from everwrite.sim.causality import indices
from everwrite.sim.disk import Rotten
from everwrite.sim.history import Operation
from everwrite.sim.truth import CLOCK_ERROR_MS, KeyLedger, Violation, held_record, time_ms

if TYPE_CHECKING:
    from everwrite.sim.world import World

SUPERSEDED = 1 << 62

DISK_FAULTS = ("lost_disk", "old_disk", "bit_rot", "power_cut", "fsync_error", "blackout", "remove")
"""Faults with which a touch may go."""


class Touches:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: dict[tuple[int, int], tuple[KeyLedger, Operation]] = {}
        self._held: dict[tuple[bytes, int], dict[int, int]] = {}
        """(data key, write) -> for each machine the latest end that it ever had of it."""

    def asked(self, connection: int, rid: int, key: KeyLedger, operation: Operation) -> None:
        """A client asks a node to touch a key."""
        self._asked[connection, rid] = key, operation

    def written(self, key: KeyLedger, index: int, data: bytes, known: int) -> None:
        """A machine writes a record of a key of which something ends."""
        standing = {
            key.causality.place[version.op.decode()]: version.expires
            for version in versions.decode(data).siblings
        }
        for place in key.ends:
            if known >> place & 1:
                held = self._held.setdefault((key.data_key, place), {})
                end = standing.get(place, SUPERSEDED)
                held[index] = max(held.get(index, 0), end)

    def answering(self, connection: int, message: Message) -> None:
        """A node says this to a client."""
        if not isinstance(message, PutReply):
            return
        tried = self._asked.pop((connection, message.rid), None)
        if tried is None:
            return
        key, operation = tried
        if not message.siblings:  # there was nothing to be touched
            return
        acks = message.owners if operation.strict else message.owners + message.fallbacks
        asked = min(operation.q, message.required) if self._world.options.changing else operation.q
        if acks < asked or message.durable < min(operation.dw, asked):
            raise Violation(
                "quorum",
                f"{operation.describe()}: acknowledged with {acks} copies, {message.durable} of "
                f"them durable; asked for were w = {operation.q}, dw = {operation.dw}",
            )
        if not message.ends:
            return
        most = 0
        for place, end in key.ends.items():
            held = self._held.get((key.data_key, place), {})
            holders = sum(each >= message.ends for each in held.values())
            most = max(most, holders)
            if holders >= message.owners + message.fallbacks and message.ends in held.values():
                end.owed = max(end.owed, message.ends)
        if most < message.owners + message.fallbacks:
            raise Violation(
                "quorum",
                f"{operation.describe()}: the answer says that {message.owners} owners and "
                f"{message.fallbacks} fallbacks let it live longer, and {most} machines do",
            )


def judge_touches(world: World) -> None:
    """At rest, all owners have every end that was acknowledged and has not come yet."""
    if any(world.faults[kind] for kind in DISK_FAULTS):
        return
    for key in world.keys:
        _judge_key(world, key)


def _judge_key(world: World, key: KeyLedger) -> None:
    now = time_ms(world.now)
    owed = {place: end.owed for place, end in key.ends.items() if end.owed > now + CLOCK_ERROR_MS}
    for owner in world.owners(key.data_key, 0) if owed else ():
        held = world.machines[owner].disk.visible.get(OWN + key.data_key)
        if held is None or isinstance(held, Rotten):
            continue
        record = held_record(OWN, held)
        known = key.known_of.get(record, 0)
        ends = {
            key.causality.place[version.op.decode()]: version.expires
            for version in versions.decode(record).siblings
        }
        for place in indices(known):
            if ends.get(place, SUPERSEDED) < owed.get(place, 0):
                raise Violation(
                    "touched",
                    f"node {owner + 1} lets {key.causality.ids[place]} on {key.name} end "
                    f"{owed[place] - ends[place]} ms before the end that was acknowledged",
                )
