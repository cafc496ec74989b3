"""The judge of touches: whoever was told that a key lives longer finds it for so long.

    quorum      so many machines as the answer says have the later end of some dot, or what
                superseded it
    touched     at rest all owners of the key have it too, under each dot that was acknowledged

A touch makes no dot, so no clock says who has it: the ends in the copies do. A write that was
minted twice stands in a copy with two dots, of which each has an end of its own; so ends go by
dots, not by writes. It is no excuse to have the write under its other dot alone, or nothing of it:
a dot that so many had does not go, but by a collection of what superseded it. A disk that is lost
may take a touch with it although another has the same versions (the atlas goes by dots); so the
second rule is for worlds in which no disk fails.

Costs: a decoding of each record that is written to a key of which something ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.data import versions
from everwrite.core.data.versions import Dot
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import PutReply
from everwrite.core.records import OWN
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
        self._held: dict[tuple[bytes, Dot], dict[int, int]] = {}
        """(data key, dot) -> for each machine the latest end that it ever had of it."""

    def asked(self, connection: int, rid: int, key: KeyLedger, operation: Operation) -> None:
        """A client asks a node to touch a key."""
        self._asked[connection, rid] = key, operation

    def written(self, key: KeyLedger, index: int, data: bytes) -> None:
        """A machine writes a record of a key of which something ends."""
        for dot, end in _ends(key, data).items():
            held = self._held.setdefault((key.data_key, dot), {})
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
        for dot in _dots(key):
            held = self._held.get((key.data_key, dot), {})
            holders = sum(each >= message.ends for each in held.values())
            most = max(most, holders)
            if holders >= message.owners + message.fallbacks and message.ends in held.values():
                key.owed[dot] = max(key.owed.get(dot, 0), message.ends)
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
    owed = {dot: end for dot, end in key.owed.items() if end > now + CLOCK_ERROR_MS}
    for owner in world.owners(key.data_key, 0) if owed else ():
        held = world.machines[owner].disk.visible.get(OWN + key.data_key)
        if isinstance(held, Rotten):
            continue
        ends = _ends(key, held_record(OWN, held)) if held is not None else {}
        for dot, due in owed.items():
            if ends.get(dot, 0) >= due:
                continue
            what = f"{key.causality.names(key.named_by([dot]))} on {key.name}"
            if dot in ends:
                late = f"end {due - ends[dot]} ms before the end that was acknowledged"
                raise Violation("touched", f"node {owner + 1} lets {what} {late}")
            if key.named_by([dot]) & key.collected:
                continue  # it was superseded, and went with what superseded it
            raise Violation(
                "touched",
                f"node {owner + 1} knows nothing of the dot {dot[0].hex()}:{dot[1]} of {what}, "
                "which somebody was told lives longer",
            )


def _dots(key: KeyLedger) -> list[Dot]:
    """Return the dots of all writes that end."""
    return [dot for place in key.ends for dot in key.dots.get(place, ())]


def _ends(key: KeyLedger, data: bytes) -> dict[Dot, int]:
    """Return when a record has each dot end that it knows, of writes that end."""
    record = versions.decode(data)
    standing = {(version.actor, version.counter): version.expires for version in record.siblings}
    return {
        dot: standing.get(dot, SUPERSEDED)
        for dot in _dots(key)
        if versions.covers(record.clock, *dot)
    }
