"""What a life of a node begins with: what its disk says of the members, and of what it holds.

The simulator's share of server/boot.py: who founds the cluster, who joins it, and what becomes of a
node whose disk is new, or older than its last life.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from everwrite.core.cluster.holdings import all_bits, bits, decode_held, encode_held, packed
from everwrite.core.cluster.members import (
    Known,
    MemberTable,
    decode_known,
    encode_known,
    founding,
)
from everwrite.core.config import STAMP_BITS
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.messages.members import REMOVED, News
from everwrite.core.probes import sometimes
from everwrite.core.records import CONFIRMED, HELD, OWN, STATE
from everwrite.core.trees.quarantine import SPOILT
from everwrite.core.trees.walk import SCRUB

if TYPE_CHECKING:
    from everwrite.core.node import Node
    from everwrite.sim.machine import Machine

TREES = STATE + b"trees"
STARTED = STATE + b"started"
"""How often the node of a disk was started: its incarnation."""


def begin(machine: Machine) -> MemberTable:
    """Return what the disk says of the members and of what this node holds. A node that starts
    for the first time founds the cluster with the others; one whose disk was lost knows whom it
    belonged to, and holds nothing.
    """
    disk = machine.disk
    first = not machine.founded
    if first and machine.seed is None:
        mine = machine.me
        disk.write({HELD: encode_held(bits(mine.serves), bits(mine.keeps))}, machine.world.now)
        disk.sync(disk.mark())
    replaced = _count_start(machine)
    machine.founded = True
    held = disk.readable(HELD)
    serves, keeps = decode_held(held) if held else (0, 0)
    if held and replaced:
        sometimes("a node that was refused rejoins with its copies")
        serves, keeps = 0, all_bits(_partitions_here(machine))
        disk.write({HELD: encode_held(serves, keeps)}, machine.world.now)
        disk.sync(disk.mark())
    me = msgspec.structs.replace(
        machine.me,
        incarnation=machine.incarnation,
        life=machine.rng.randbytes(8),
        serves=packed(serves),
        keeps=packed(keeps),
    )
    stored = disk.readable(MEMBERS)
    if stored:
        known = decode_known(stored)
    elif not first:  # its disk was lost: somebody tells it whom it belonged to
        known = machine.world.known()
    elif machine.seed is not None:
        known = Known([machine.seed])
    else:
        known = Known(machine.members, founding(machine.members))
    table = MemberTable(me, known.entries, known.rulings, known.draft)
    if replaced and _was_alone(table):
        # Whoever lets it rejoin says whom to ask; and its next start knows them too.
        now = machine.world.known()
        table.merge(News(now.entries, now.rulings))
        disk.write({MEMBERS: encode_known(table)}, machine.world.now)
        disk.sync(disk.mark())
    return table


def _was_alone(table: MemberTable) -> bool:
    """Say whether a disk is of a time when its node was the only one that was in, though it may
    have met who was about to join.
    """
    me = table.me.node_id
    return all(
        ruling.standing == REMOVED for node_id, ruling in table.rulings.items() if node_id != me
    )


def _count_start(machine: Machine) -> bool:
    """Number this start as its disk counts them. Return whether it is one of a node that is new to
    the cluster: one that was refused, or whose disk was lost.

    A new node has an identity that nobody knows, and so nothing that it could go behind; the
    machine keeps its id here. So it comes under a number that none of its starts had, with a
    confirmation above all that they gave. That is no easier: whoever has something for it from
    before, or expects something of it, goes on with that. But what it had confirmed of tombstones
    that were collected since is forgotten, and its copies are not put aside (server/rejoin.py).
    """
    disk = machine.disk
    started, confirmed = disk.readable(STARTED), disk.readable(CONFIRMED)
    replaced = machine.rejoins or (machine.founded and started is None)
    batch: dict[bytes, bytes | None] = {}
    if replaced:
        machine.incarnation = machine.newest + 1
        batch[CONFIRMED] = (machine.incarnation << STAMP_BITS).to_bytes(8, "big")
    else:
        floor = int.from_bytes(confirmed or b"", "big")
        machine.incarnation = 1 + max(int.from_bytes(started or b"", "big"), floor >> STAMP_BITS)
    machine.newest = max(machine.newest, machine.incarnation)
    machine.rejoins = False
    batch[STARTED] = machine.incarnation.to_bytes(8, "big")
    disk.write(batch, machine.world.now)
    disk.sync(disk.mark())
    return replaced


def bring_trees(machine: Machine, node: Node) -> None:
    """Give a node the tree that a clean stop has left; else it makes it anew. See
    server/trees.py."""
    disk, trees = machine.disk, node.local.trees
    saved = disk.readable(TREES)
    disk.write({TREES: None}, machine.world.now)
    disk.sync(disk.mark())
    if not disk.keys(OWN):
        trees.empty()
    elif saved and trees.load(saved):
        sometimes("a node starts with the tree of its last life")
    node.walk.restore(disk.readable(SCRUB) or b"")
    node.quarantine.restore(
        (key[len(SPOILT) :], disk.readable(key) or b"") for key in disk.keys(SPOILT)
    )


def leave_trees(machine: Machine, node: Node) -> None:
    """A clean stop: the tree is on the disk behind everything else."""
    disk = machine.disk
    if machine.world.now >= disk.full_until:
        disk.write({TREES: node.local.trees.save()}, machine.world.now)
        disk.sync(disk.mark())


def _partitions_here(machine: Machine) -> list[int]:
    """Return the partitions of which the disk has an owner's copies."""
    shift = 64 - (machine.cluster.partitions.bit_length() - 1)
    return [int.from_bytes(key[1:9], "big") >> shift for key in machine.disk.keys(OWN)]
