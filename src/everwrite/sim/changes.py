"""Changes of members as events of a run: nodes that join, leave, are removed, change their weight.

They strike like faults, between faults and during them, at any node that is up: an operator's word
goes to one node, and spreads from there. Spare machines wait for their turn to join; who was
removed never comes back, and who has left ends by itself.

A node is removed as an operator removes one: it is dead, and its disk is gone with it. So that may
happen only where no promised write has its last copy there (``atlas.py``).

Source: the swarm of FoundationDB; riak_core 913 (test whole histories of changes).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec
import xxhash

from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.messages.members import IN, LEAVING, REMOVED, News, Ruling
from everwrite.core.probes import sometimes
from everwrite.sim.atlas import may_lose
from everwrite.sim.truth import Violation

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.options import Fault
    from everwrite.sim.world import World

WEIGHTS = (0.5, 1.0, 1.0, 2.0)


class Changes:
    """What operators do in one world, and what is true of the members because of it."""

    def __init__(self, world: World, rulings: list[Ruling]) -> None:
        self._world = world
        self.rulings = {ruling.node_id: ruling for ruling in rulings}
        self.count = 0
        """Of changes that were made so far."""
        self._gone: dict[tuple[int, int], set[bytes]] = {}
        """For each life of a machine whom it knows to be removed."""

    # -- what is true ------------------------------------------------------------------------------

    def hear(self, machine: Machine) -> None:
        """A node knows other members than before: rulings are true from where they are made on."""
        if machine.node is None:
            return
        changed = False
        rulings = machine.node.local.members.rulings
        self._judge_removed(machine, rulings)
        for node_id, ruling in rulings.items():
            known = self.rulings.get(node_id)
            if known is None or _overrules(ruling) > _overrules(known):
                self.rulings[node_id] = ruling
                changed = True
        if changed:
            self._place()

    def settle(self) -> None:
        """At rest: what nobody alive knows was never said. That who is gone is removed, operators
        say once more.
        """
        world = self._world
        self.rulings = {}
        for machine in world.machines:
            self.hear(machine)
        rng = random.Random(world.options.seed)
        for machine in world.machines:
            if machine.retired and self.standing(machine) in (IN, LEAVING):
                self._rule(machine, REMOVED, rng)

    def _judge_removed(self, machine: Machine, rulings: dict[bytes, Ruling]) -> None:
        """Who was once removed in the eyes of a node is that for as long as the node lives."""
        gone = self._gone.setdefault((machine.index, machine.life), set())
        for node_id, ruling in sorted(rulings.items()):
            if ruling.standing == REMOVED:
                gone.add(node_id)
            elif node_id in gone:
                raise Violation(
                    "members", f"{machine.me.name} takes in {ruling.name}, which was removed"
                )

    def _place(self) -> None:
        world = self._world
        for standing in (IN, LEAVING):
            ruled = [
                Candidate(ruling.node_id, ruling.zone, ruling.weight)
                for ruling in self.rulings.values()
                if ruling.standing == standing
            ]
            if ruled:
                world.placement = place(ruled, world.options.partitions, world.options.replicas)
                return

    def standing(self, machine: Machine) -> int | None:
        ruling = self.rulings.get(machine.me.node_id)
        return None if ruling is None else ruling.standing

    # -- what operators do -------------------------------------------------------------------------

    def join(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """A spare machine joins through some node that is up; now and then all of them at once."""
        spares = [each for each in self._world.machines if each.spare]
        if not spares:
            return False
        for spare in spares if rng.random() < 0.2 else spares[:1]:
            seeds = self._up()
            if not seeds:
                return False
            spare.join(rng.choice(seeds).me)
            self.count += 1
        return True

    def leave(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """An operator lets a node leave; or changes his mind."""
        standing = self.standing(machine)
        if standing == LEAVING:
            sometimes("a node that was to leave stays")
            return self._rule(machine, IN, rng)
        if standing != IN or self._members_left() < 2:
            return False
        return self._rule(machine, LEAVING, rng)

    def reweigh(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """A node gets another weight."""
        if self.standing(machine) != IN:
            return False
        return self._rule(machine, IN, rng, rng.choice(WEIGHTS))

    def remove(self, fault: Fault, machine: Machine, rng: random.Random) -> bool:
        """A node is dead for good, and removed; now and then a spare joins in its place."""
        world = self._world
        if self.standing(machine) not in (IN, LEAVING) or self._members_left() < 2:
            return False
        disks = [each.disk for each in world.machines]
        if not may_lose(world.ledger, disks, machine.index, sorted(machine.disk.visible), {}):
            return False
        if not self._tellers(machine, REMOVED):
            return False
        machine.retire()
        machine.disk.lose()
        if rng.random() < 0.5:
            self.join(fault, machine, rng)
        ruled = self._rule(machine, REMOVED, rng)
        for _ in range(rng.choice((0, 0, 2))):  # an operator elsewhere has not heard of it yet
            if self._rule(machine, IN, rng, rng.choice(WEIGHTS)):
                sometimes("a word is said on a node that was removed elsewhere")
        return ruled

    def _rule(
        self, machine: Machine, standing: int, rng: random.Random, weight: float = 0.0
    ) -> bool:
        """Say a word on a machine to some node that is up."""
        tellers = self._tellers(machine, standing)
        if not tellers:
            return False
        self.say(rng.choice(tellers), machine, standing, weight)
        return True

    def say(self, teller: Machine, machine: Machine, standing: int, weight: float = 0.0) -> None:
        """Say a word on a machine to a node that runs; weight 0: as it is."""
        node = teller.node
        assert node is not None
        known = node.local.members.rulings[machine.me.node_id]
        stamp = node.local.members.next_stamp()
        plan = xxhash.xxh3_64_digest(b"%d %d %d" % (teller.index, self._world.now, stamp))
        ruling = msgspec.structs.replace(
            known, standing=standing, weight=weight or known.weight, stamp=stamp, plan=plan
        )
        node.local.now = teller.clock_ms()
        node.rounds.publish(News([], [ruling]))
        self.hear(teller)
        teller.soon()
        self.count += 1

    def _tellers(self, machine: Machine, standing: int) -> list[Machine]:
        """Return who may be told a word on a machine: whoever knows it, but not of its removal."""
        tellers = []
        for each in self._up():
            members = each.node.local.members if each.node is not None else None
            if members is None or (each is machine and standing == REMOVED):
                continue
            if members.standing(machine.me.node_id) in (IN, LEAVING):
                tellers.append(each)
        return tellers

    def _up(self) -> list[Machine]:
        """Return the machines of members that run."""
        return [
            machine
            for machine in self._world.machines
            if machine.node is not None
            and not machine.paused
            and self.standing(machine) in (IN, LEAVING)
        ]

    def _members_left(self) -> int:
        return sum(ruling.standing == IN for ruling in self.rulings.values())


def _overrules(ruling: Ruling) -> tuple[bool, int, bytes]:
    """Return by what the judges compare rulings. Said here once more, and not taken from the core:
    a mistake there must not make the same mistake here.
    """
    return ruling.standing == REMOVED, ruling.stamp, ruling.plan
