"""The judge of a cluster at rest: after the heal, before anybody reads.

    handoff     every acknowledged write is on all its owners, brought by hints and by nothing else
    placement   no node has an owner's copy of what it does not own; none leaves with any copy
    members     all nodes agree on who belongs to the cluster, as the latest lives of these say
    bounds      every table is back to where it began

A read mends what it finds, so the audit that follows would hide who was left out. Hand-off is owed
only where no node died and no disk failed: whoever coordinates a put keeps in memory who has not
acknowledged it yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.records import OWN
from everwrite.sim.bounds import judge_emptied
from everwrite.sim.causality import indices
from everwrite.sim.disk import COPIES, Rotten
from everwrite.sim.truth import KeyLedger, Violation, held_record

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World

AGREE_WITHIN_US = 120_000_000
"""Virtual time in which the lists of members must agree: each second one peer gets a list."""

BREAK_HANDOFF = (
    "kill",
    "power_cut",
    "crash_loop",
    "others_dead",
    "fsync_error",
    "lost_disk",
    "old_disk",
    "bit_rot",
    "read_errors",
    "full_disk",
    "blackout",
)
"""Faults after which nobody may know any more who lacks a copy."""


def judge_end(world: World) -> None:
    """Raise Violation for what the audit's reads and writes left behind."""
    for machine in world.members:
        judge_emptied(machine, world.asked_before)
    for key in world.all_keys:
        _judge_placement(world, key)


def judge_rest(world: World) -> None:
    """Raise Violation for what is not as it must be now."""
    for machine in world.members:
        judge_emptied(machine, world.asked_before)
    for key in world.all_keys:
        _judge_placement(world, key)
        if _owes_handoff(world):
            _judge_handoff(world, key)
    if not world.run(world.now + AGREE_WITHIN_US, lambda: not _strangers(world)):
        raise Violation("members", _strangers(world))


def judge_left(machine: Machine) -> None:
    """Raise Violation if a node that leaves by itself takes a copy along, its own or a hint. What
    is damaged may go: nobody can read it.
    """
    node = machine.node
    if node is None or not node.rounds.left:
        return
    held = machine.disk.visible.items()
    taken = sum(key[:1] in COPIES and not isinstance(payload, Rotten) for key, payload in held)
    if taken:
        raise Violation(
            "placement", f"{machine.me.name} has left the cluster, and {taken} copies with it"
        )


def _judge_placement(world: World, key: KeyLedger) -> None:
    """A copy like an owner's is on nobody else."""
    owners = world.owners(key.data_key, 0)
    for machine in world.machines:
        if machine.retired and machine.node is None:
            continue
        if machine.index not in owners and OWN + key.data_key in machine.disk.visible:
            raise Violation(
                "placement",
                f"{machine.me.name} has a copy of {key.name} like an owner's, and owns it not",
            )


def _owes_handoff(world: World) -> bool:
    if any(world.faults[kind] for kind in BREAK_HANDOFF):
        return False
    if world.options.changes_ms:
        return False
    if world.machines[0].parks_few:  # a hint may be refused then
        return False
    nodes = [machine.node for machine in world.machines]
    return all(node is not None and not node.local.counters.hints_refused for node in nodes)


def _judge_handoff(world: World, key: KeyLedger) -> None:
    owed = (key.hard | key.soft) & ~key.doubtful
    for place in indices(owed):
        operation = key.operations[place]
        for owner in world.owners(key.data_key, operation.n or world.options.copies):
            held = world.machines[owner].disk.visible.get(OWN + key.data_key)
            if isinstance(held, Rotten):
                continue
            known = key.known_of.get(held_record(OWN, held), 0) if held is not None else 0
            if not (known | key.collected) >> place & 1:
                raise Violation(
                    "handoff",
                    f"{operation.describe()}: acknowledged, all is at rest, and its owner node "
                    f"{owner + 1} has not heard of it",
                )


def _strangers(world: World) -> str:
    """Return who goes by an earlier life of whom, in words; empty if nobody does."""
    for machine in world.members:
        node = machine.node
        if node is None:
            return f"{machine.me.name} is down"
        for other in world.members:
            if other.node is None:
                return f"{other.me.name} is down"
            entry, lives = node.local.members.get(other.me.node_id), other.node.local.members.me
            if entry is None:
                return f"{machine.me.name} knows nothing of {other.me.name}"
            if (entry.incarnation, entry.life) != (lives.incarnation, lives.life):
                return (
                    f"{machine.me.name} knows start {entry.incarnation} of {other.me.name} (life "
                    f"{entry.life.hex()}), which runs as start {lives.incarnation} (life "
                    f"{lives.life.hex()})"
                )
    return ""
