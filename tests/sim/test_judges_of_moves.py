"""The judge of moves: what a new owner may lack, and what not, in worlds that were made by hand."""

from __future__ import annotations

import msgspec
import pytest
from tests.sim.judged import actor_of, minted, write

from everwrite.core.data import versions
from everwrite.core.data.versions import Record
from everwrite.core.messages.moving import GiveUp
from everwrite.core.moving.gain import Gain
from everwrite.core.node import Node
from everwrite.core.records import OWN
from everwrite.sim.machine import Machine
from everwrite.sim.truth import TIME_ZERO_MS, Violation
from everwrite.sim.world import World

END_MS = TIME_ZERO_MS + 2_000
LATER_MS = TIME_ZERO_MS + 30_000
NOW_US = 10_000_000


class Move:
    """The partition of the first key on its way to an owner, from a node that owns it no more."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.key = world.keys[0]
        self.partition = world.placement.partition_of(self.key.data_key)
        owners = world.owners(self.key.data_key, 0)
        self.taker = world.machines[owners[0]]
        self.source = next(each for each in world.machines if each.index not in owners)
        for machine in world.machines:
            machine.start()
        world.now = NOW_US

    def begin(self, record: Record) -> None:
        """The source has this record for good, and the other one begins to take it over."""
        write(self.world, record)
        disk = self.source.disk
        disk.write({self.disk_key: bytes(8) + versions.encode(record)}, NOW_US)
        disk.sync(disk.mark())
        node, partition = node_of(self.taker), self.partition
        gain = Gain(node.local, node.moves, partition, [self.source.me.node_id], gives_way=True)
        node.moves.gaining[partition] = gain
        self.world.proofs.ticked(self.taker)

    @property
    def disk_key(self) -> bytes:
        return OWN + self.key.data_key

    def purge(self, machine: Machine, horizon: int) -> None:
        """A node goes by this horizon from now on."""
        node_of(machine).local.copies.horizon = horizon
        self.world.proofs.ticked(machine)

    def remove(self) -> None:
        """The source's copy is not there any more."""
        self.source.disk.write({self.disk_key: None}, NOW_US)
        self.source.disk.sync(self.source.disk.mark())

    def give_up(self) -> None:
        """The source gives the partition up, and keeps its copy."""
        node = node_of(self.source)
        node.local.serves |= 1 << self.partition
        node.moves.give_up(self.taker.me.node_id, GiveUp(0, self.partition))
        assert node.moves.given_to(self.partition) == self.taker.me.node_id

    def prove(self) -> None:
        """The other one says that it serves the partition, and has nothing of the key."""
        self.world.proofs.served(self.taker, self.partition)

    def is_refused(self, words: str) -> None:
        with pytest.raises(Violation, match=words) as violation:
            self.prove()
        assert violation.value.rule == "proof"


@pytest.fixture
def move(fresh: World) -> Move:
    return Move(fresh)


def node_of(machine: Machine) -> Node:
    assert machine.node is not None
    return machine.node


def ending(world: World, *ends: int) -> Record:
    """Return the record of blind puts, siblings, that end then."""
    actor = actor_of(world, 1)
    siblings = [
        msgspec.structs.replace(minted(world, f"a{i}", actor, i), expires=end, pure=True)
        for i, end in enumerate(ends, 1)
    ]
    return Record({actor: len(ends)}, siblings)


def test_what_its_source_purged_before_it_was_asked_a_new_owner_need_not_know(move: Move) -> None:
    move.begin(ending(move.world, END_MS))
    move.purge(move.source, END_MS + 1)
    move.remove()

    move.prove()


def test_what_was_purged_before_its_source_began_anew_a_new_owner_need_not_know(
    move: Move,
) -> None:
    move.begin(ending(move.world, END_MS))
    move.purge(move.source, END_MS + 1)
    move.remove()
    move.source.stop()
    move.source.start()
    move.world.proofs.ticked(move.source)
    assert node_of(move.source).local.copies.horizon == 0

    move.prove()


def test_what_has_ended_for_a_new_owner_it_need_not_know_though_its_source_has_it_yet(
    move: Move,
) -> None:
    move.begin(ending(move.world, END_MS))
    move.purge(move.taker, END_MS + 1)
    move.give_up()

    move.prove()


def test_what_ended_and_is_above_both_horizons_a_new_owner_has_to_know(move: Move) -> None:
    move.begin(ending(move.world, END_MS))
    move.purge(move.source, END_MS)
    move.purge(move.taker, END_MS)
    move.remove()

    move.is_refused("does not know a1, which .* had when")


def test_what_who_gave_it_up_has_above_both_horizons_a_new_owner_has_to_know(move: Move) -> None:
    move.begin(ending(move.world, END_MS))
    move.purge(move.source, END_MS)
    move.purge(move.taker, END_MS)
    move.give_up()

    move.is_refused("does not know a1, which .* knew that gave it up")


def test_what_ended_beside_what_lives_a_new_owner_has_to_know(move: Move) -> None:
    move.begin(ending(move.world, END_MS, LATER_MS))
    move.purge(move.source, END_MS + 1)
    move.purge(move.taker, END_MS + 1)
    move.give_up()

    move.is_refused("does not know a1 a2")


@pytest.mark.parametrize("end", [0, END_MS])
def test_a_tombstone_a_new_owner_has_to_know_at_every_horizon(move: Move, end: int) -> None:
    """Of a delete, and of a rewrite that has ended, copies elsewhere may lack it yet."""
    actor = actor_of(move.world, 1)
    tomb = msgspec.structs.replace(minted(move.world, "d", actor, 1), value=None, expires=end)
    move.begin(Record({actor: 1}, [tomb]))
    move.purge(move.source, LATER_MS)
    move.purge(move.taker, LATER_MS)
    move.remove()

    move.is_refused("does not know d, which .* had when")
