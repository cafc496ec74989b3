"""The judge of moves: ownership leaves no holder before the new one has proved itself (P6).

When a node says that it serves a partition it must know

    all that the one which gave it up to it knows
    all that those who serve or keep it had safe on their disks when it began to take it over

and the one in whose place it serves must have stopped. What its sources had is looked at when the
move begins. A disk that was damaged or put back meanwhile may have lost it, so then only the first
rule stands.

It need not know a copy of which nothing is left at the horizon of one of the two: its source has
purged that before it was asked for it, or it let that go as it came (docs/design/expiry.md). Of a
tombstone, and of what ended beside one or beside what lives, something is left at every horizon.

Costs: a look at all keys of a partition for each of its sources and each move.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from everwrite.core.cluster.holdings import NONE
from everwrite.core.data import versions
from everwrite.core.records import OWN
from everwrite.sim.disk import Rotten
from everwrite.sim.truth import KeyLedger, Violation, held_record

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World

DISK_FAULTS = ("bit_rot", "old_disk", "lost_disk")


class Begun(NamedTuple):
    """A move as it began."""

    life: int
    rid: int
    at: int
    had: dict[int, list[bytes]]
    """For each source the record that it had of each key of the partition."""
    gives_way: int
    """The number of the machine that is to give way; -1: none."""
    damage: int
    """How often disks had been damaged."""


class Proofs:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._begun: dict[tuple[int, int], Begun] = {}
        self._served_at: dict[tuple[int, int], int] = {}
        self._horizons = [0] * len(world.machines)
        """The farthest that each machine has gone by: a new life begins with none, and what was
        purged before stays away."""

    def ticked(self, taker: Machine) -> None:
        """See whether a node has begun to take partitions over, and how far it purges."""
        node = taker.node
        if node is None:
            return
        index = taker.index
        self._horizons[index] = max(self._horizons[index], node.local.copies.horizon)
        for partition, gain in node.moves.gaining.items():
            begun = self._begun.get((taker.index, partition))
            if begun is not None and (begun.life, begun.rid) == (taker.life, gain.rid):
                continue
            world = self._world
            sources = [world.index_of(source) for source in gain.sources]
            self._begun[taker.index, partition] = Begun(
                taker.life,
                gain.rid,
                world.now,
                {source: self._has(source, partition) for source in sources},
                sources[0] if gain.gives_way else -1,
                self._damage(),
            )

    def served(self, taker: Machine, partition: int) -> None:
        """A node says that it serves a partition from now on."""
        world = self._world
        begun = self._begun.pop((taker.index, partition), None)
        self._served_at[taker.index, partition] = world.now
        self._judge_given(taker, partition)
        if begun is None or begun.life != taker.life:  # it asked nobody, so nobody may have it
            serving = [each.index for each in world.machines if _serves(each, partition)]
            serving.remove(taker.index)
            had = {index: self._has(index, partition) for index in serving}
            begun = Begun(taker.life, 0, world.now, had, -1, self._damage())
        if begun.damage == self._damage():
            self._judge_sources(taker, partition, begun)
        place = begun.gives_way
        if place < 0 or self._served_at.get((place, partition), -1) >= begun.at:
            return
        if _serves(world.machines[place], partition):
            raise Violation(
                "proof",
                f"{taker.me.name} serves partition {partition} from now on, and "
                f"{world.machines[place].me.name}, which was to give way to it, goes on to",
            )

    def _judge_given(self, taker: Machine, partition: int) -> None:
        for giver in self._world.machines:
            node = giver.node
            if node is None or node.moves.given_to(partition) != taker.me.node_id:
                continue
            if node.local.routes.roles[partition] != NONE:  # it owns it again, and fills up
                continue
            for key in self._keys(partition):
                there = held_record(OWN, giver.disk.visible.get(OWN + key.data_key))
                why = f"which {giver.me.name} knew that gave it up"
                self._judge_known(taker, giver, key, there, why)

    def _judge_sources(self, taker: Machine, partition: int, begun: Begun) -> None:
        for index, had in begun.had.items():
            source = self._world.machines[index]
            if source.node is None:
                continue
            why = f"which {source.me.name} had when {taker.me.name} began to take it over"
            for key, record in zip(self._keys(partition), had, strict=False):
                self._judge_known(taker, source, key, record, why)

    def _judge_known(
        self, taker: Machine, source: Machine, key: KeyLedger, there: bytes, why: str
    ) -> None:
        held = taker.disk.safe.get(OWN + key.data_key)
        if isinstance(held, Rotten):  # its node has it in memory, or will see the damage
            return
        here = key.known_of.get(held_record(OWN, held), 0)
        lacks = key.known_of.get(there, 0) & ~here & ~key.doubtful & ~key.collected
        if lacks and not self._is_over(there, source, taker):
            raise Violation(
                "proof",
                f"{taker.me.name} serves the partition of {key.name} from now on, and does not "
                f"know {key.causality.names(lacks)}, {why}",
            )

    def _is_over(self, record: bytes, source: Machine, taker: Machine) -> bool:
        """Say whether nothing is left of a record where one of them has brought its copies to."""
        horizon = max(self._horizons[source.index], self._horizons[taker.index])
        return versions.retire(versions.decode(record), horizon) is None

    def _has(self, index: int, partition: int) -> list[bytes]:
        safe = self._world.machines[index].disk.safe
        return [held_record(OWN, safe.get(OWN + key.data_key)) for key in self._keys(partition)]

    def _keys(self, partition: int) -> list[KeyLedger]:
        world = self._world
        partition_of = world.placement.partition_of
        return [key for key in world.all_keys if partition_of(key.data_key) == partition]

    def _damage(self) -> int:
        return sum(self._world.faults[fault] for fault in DISK_FAULTS)


def _serves(machine: Machine, partition: int) -> bool:
    return machine.node is not None and bool(machine.node.local.serves >> partition & 1)
