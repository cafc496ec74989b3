"""A cluster at rest whose disks are made to differ behind the nodes' backs."""

from __future__ import annotations

from typing import Any

from tests.core.moving.towns import settled_town
from tests.core.world import World

from everwrite.core.data import versions
from everwrite.core.data.versions import Record, Seen, Version
from everwrite.core.messages.requests import Store
from everwrite.core.messages.trees import Differing, Entries, Rooted, Roots, Summed, Sums
from everwrite.core.records import OWN
from everwrite.core.repair.met import RepairCounters

EXCHANGES = (Roots, Rooted, Sums, Summed, Entries, Differing)
KNOBS = {
    "repair_every_ms": 200,
    "repair_round_ms": 2_000,
    "repair_settle_ms": 100,
    "repair_retry_ms": 1_000,
}


def town(nodes: int = 3, **knobs: Any) -> World:
    """Return a cluster at rest, with a value of each key on all its owners, that compares often."""
    return settled_town(nodes, **{**KNOBS, **knobs})


def still(world: World) -> World:
    """Return the world with all nodes at one horizon, for questions that are made by hand."""
    for node in world.ids:
        world.nodes[node].repairs.horizon = lambda partition: 0
    return world


def lose(world: World, node: bytes, *keys: bytes) -> None:
    """Take copies from a node, as if it had never been given them: its tree knows."""
    for key in keys:
        world.nodes[node].local.records.write(OWN + key, None)
    world.run()
    for key in keys:
        assert OWN + key not in world.disk[node]


def write(world: World, node: bytes, key: bytes, value: bytes, number: int = 1) -> None:
    """Give one node alone a version that nobody else has heard of."""
    actor = node + number.to_bytes(8, "big")
    version = Version(actor, 1, value, 1, b"lonely%d" % number)
    _give(world, node, key, versions.merge(world.record(node, key), Record({actor: 1}, [version])))


def supersede(world: World, node: bytes, key: bytes, value: bytes | None) -> None:
    """Give one node a version that supersedes all that it has; the same each time."""
    mine = world.record(node, key)
    version = Version(b"somebody" * 2, 1, value, 1, b"once")
    _give(world, node, key, versions.put(mine, Seen(mine.clock, []), version))


def _give(world: World, node: bytes, key: bytes, record: Record) -> None:
    epoch = world.disk[node].get(OWN + key, bytes(8))[:8]
    world.nodes[node].local.records.write(OWN + key, epoch + versions.encode(record))
    world.run()


def copies(world: World, node: bytes) -> dict[bytes, bytes]:
    """Return the records on a node's disk by data key."""
    return {key[1:]: data[8:] for key, data in world.disk[node].items() if key.startswith(OWN)}


def agree(world: World) -> bool:
    """Say whether all owners that run have the same records of each key."""
    placement = world.nodes[world.ids[0]].local.routes.placement
    keys = {key for node in world.ids for key in copies(world, node)}
    for key in keys:
        owners = placement.owners(placement.partition_of(key))
        here = [node for node in owners if node not in world.dead and node not in world.silent]
        if len({copies(world, node).get(key) for node in here}) > 1:
            return False
    return True


def counted(world: World, node: bytes) -> RepairCounters:
    return world.nodes[node].repairs.counters


def moved(world: World) -> int:
    """Return how many copies all nodes have given and taken in exchanges, as the askers count."""
    return sum(counted(world, node).keys_in + counted(world, node).keys_out for node in world.ids)


def said(world: World) -> list[tuple[bytes, Any, Any]]:
    """Return all that was said in exchanges, records on their way included."""
    return [row for row in world.sent if isinstance(row[2], (*EXCHANGES, Store))]


def at_rest(world: World) -> None:
    """Check that nothing is under way, and that nothing is repaired any more."""
    world.advance(3_000)
    before = [counted(world, node).exchanges for node in world.ids]
    world.sent.clear()
    world.advance(6_000)
    assert [counted(world, node).exchanges for node in world.ids] == before
    kinds = {type(message) for _, _, message in said(world)}
    assert kinds <= {Roots, Rooted}
    for node in world.ids:
        if node not in world.dead:
            assert not world.nodes[node].repairs.running
            assert not world.nodes[node].local.requests
            assert world.nodes[node].local.background == 0
