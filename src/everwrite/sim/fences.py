"""The fences of a simulated cluster: which start of a node is let in, as server/fences.py has it
when two nodes greet each other.

A node counts its starts on its own disk, so one whose disk went back in time counts anew from
there. Nothing but what its peers know tells that:

    nobody who is reached knows of a later start    it is let in, and serves what its disk says: a
                                                    number stands for two lives
    a peer knows of one, or of another life that    it hears so, and stops for good; the operator
    has this number, or of a later confirmation     lets its disk rejoin (``beginning.py``)
    it hears by gossip of another life of its own   it stops, and the operator starts it again

Frames here need no connection, so every frame stands for a greeting. One that comes from, or to,
somebody who is not let in is lost; where only one direction of a link is dead, he is told nothing.

Differs: a peer knows here what is in its list of members. A real one also knows a start by a
connection that still stands, and refuses a little more.

Costs: nothing until a disk is put back; then two look-ups for each frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from everwrite.core.probes import sometimes

if TYPE_CHECKING:
    from everwrite.sim.machine import Machine
    from everwrite.sim.world import World

RESTART_US = 100_000
"""Until an operator has seen why a node has stopped."""


class Fences:
    """See the module."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.up = False
        """Whether a disk was ever put back."""

    def bring(self, source: Machine, to: Machine, data: bytes) -> None:
        """Let a frame arrive, if both may run; stop who hears now that he may not."""
        if not self.up or (self._lets_in(to, source) and self._lets_in(source, to)):
            to.arrive(source.me.node_id, data)

    def _lets_in(self, peer: Machine, machine: Machine) -> bool:
        here, there = peer.node, machine.node
        if here is None or there is None:  # who sent it was let in then
            return True
        me = there.local.members.me
        if me.node_id in there.local.members.clones:
            # No probe: who knows of it has mostly refused it before.
            machine.crash(power=False, down_us=RESTART_US)
            return False
        known = here.local.members.get(me.node_id)
        later = known is None or me.incarnation > known.incarnation
        same = known is not None and (me.incarnation, me.life) == (known.incarnation, known.life)
        went_back = there.confirmations.given < here.local.floors.get(me.node_id, 0)
        if (later or same) and not went_back:
            return True
        if not self._world.network.is_cut(peer.index, machine.index):
            sometimes("a node with an older disk is refused")
            machine.rejoins = True
            machine.crash(power=False, down_us=RESTART_US)
        return False
