"""Nodes on one machine tell each other how their requests fare.

Background work of one process takes the processor from the requests of another. The one that works
may serve nobody, as a node that has just joined: it would not notice. So each tells those whose
address has the same host: how strained it is (control.py), how much background work it does,
and whether it serves anybody. On machines of their own nodes say nothing.

Costs: four messages of 9 bytes a second for each neighbour, while there is something to say.
"""

from __future__ import annotations

from everwrite.core.local import Local
from everwrite.core.messages.load import Load
from everwrite.core.outbox import Place
from everwrite.core.pace.control import Said

TELL_MS = 250


class Neighbours:
    """What one node tells its neighbours, and hears of them."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._next_ms = local.now
        self._told = False
        """Whether what was said last was worth saying."""

    def wake(self) -> None:
        """Say how this node fares, if there is anything to say, and once when there is not."""
        local, control = self._local, self._local.pace.control
        if local.now < self._next_ms:
            return
        self._next_ms = local.now + TELL_MS
        local.pace.wake(local.now)
        serves = control.serves(local.now)
        worth = serves or control.per_s >= 1
        if not (worth or self._told):
            return
        self._told = worth
        host = local.members.me.host
        strain_pct = max(-1, round(control.strain * 100))
        load = Load(strain_pct, round(control.per_s), serves, round(control.unhurried_per_s))
        for member in local.members.others():
            if member.host == host and member.node_id in local.liveness.up:
                local.out.send(member.node_id, load)

    def said(self, source: Place, message: Load) -> None:
        """A neighbour says how it fares."""
        local = self._local
        if isinstance(source, bytes):
            strain = message.strain_pct / 100 if message.strain_pct >= 0 else -1.0
            said = Said(local.now, strain, message.per_s, message.serves, message.unhurried_per_s)
            local.pace.control.neighbours[source] = said

    def forget(self, peer: bytes) -> None:
        """A member was removed."""
        self._local.pace.control.neighbours.pop(peer, None)
