"""Rounds: pings for liveness, and the list of members passed around (Dynamo 4.8.1, 4.8.3).

Each ``ping_every_ms`` a peer that said nothing meanwhile is asked; one that stays silent for
``down_after_ms`` is taken for down, and for up again at its next frame. The list of members goes to
a peer when it comes up, and to one peer in turn each second, so that no two halves keep different
lists for long. What changed in it goes to all at once.

Costs, for n nodes: at rest each sends 1.3 n small messages and one list per second; whoever hears
of a change sends n more (measured up to n = 1000, see docs/scale).
"""

from __future__ import annotations

from everwrite.core.cluster.members import encode_members
from everwrite.core.cluster.placement import place
from everwrite.core.local import Local
from everwrite.core.messages import Members, Ping, Pong
from everwrite.core.outbox import Place
from everwrite.core.probes import sometimes
from everwrite.core.records import STATE

MEMBERS = STATE + b"members"


class Rounds:
    """Membership and liveness of one node."""

    def __init__(self, local: Local) -> None:
        self._local = local
        self._next_ms = local.now
        self._next_list_ms = local.now
        # Each begins behind its own place in the list: so all lists of a second go to different
        # peers, even if all nodes started together.
        self._turn = sum(member.node_id < local.me for member in local.members) - 1
        self._told_of_data = False
        self.members_version = 0
        """Goes up when the list of members changed: the shell dials whoever is new."""

    def heard(self, peer: bytes) -> bool:
        """A frame of a peer came; return whether it was down until now."""
        local = self._local
        if not local.liveness.heard(peer, local.now):
            return False
        local.routes.forget()
        local.out.send(peer, self._list())
        return True

    def lost(self, peer: bytes) -> bool:
        """A peer's connection broke, or it was silent for too long; return whether it was up."""
        if not self._local.liveness.lost(peer):
            return False
        self._local.routes.forget()
        return True

    def ping(self, source: Place, message: Ping) -> None:
        self._local.out.send(source, Pong(message.rid))

    def pong(self, source: Place, message: Pong) -> None:
        """That its frame came is all there is to know."""

    def members(self, source: Place, message: Members) -> None:
        """Take what is newer. No new member once the cluster holds data, which all hear of: those
        nodes too on which none of it fell.
        """
        local = self._local
        taken = local.members.merge(message.members, may_grow=not local.has_data)
        local.has_data |= message.holds_data
        if not taken:
            return
        self.members_version += 1
        cluster = local.cluster
        candidates = tuple(local.members.candidates())
        if candidates != local.routes.placement.candidates:  # a restart changes nothing of the ring
            local.routes.place(place(candidates, cluster.partitions, cluster.replicas))
        local.records.write(MEMBERS, encode_members(list(local.members)))
        news = Members(taken, local.has_data)
        for peer in sorted(local.liveness.up):
            if peer != source:
                local.out.send(peer, news)

    def wake(self) -> list[bytes]:
        """Ping whoever was silent; return the peers that were silent for too long."""
        local = self._local
        if local.now < self._next_ms:
            return []
        every = local.config.ping_every_ms
        self._next_ms = local.now + every
        others = local.members.others()
        for member in others:
            silent = local.liveness.silent_ms(member.node_id, local.now)
            if silent < 0 or silent >= every:
                local.out.send(member.node_id, Ping(0))
        if local.has_data and not self._told_of_data:
            self._told_of_data = True
            told = self._list()
            for peer in sorted(local.liveness.up):
                local.out.send(peer, told)
        elif others and local.now >= self._next_list_ms:
            self._next_list_ms = local.now + 1000
            self._turn = (self._turn + 1) % len(others)
            local.out.send(others[self._turn].node_id, self._list())
        overdue = local.liveness.overdue(local.now)
        if overdue:
            sometimes("a peer is taken for down since it was silent")
        return overdue

    def _list(self) -> Members:
        return Members(list(self._local.members), self._local.has_data)

    def next_wake_ms(self) -> int:
        return self._next_ms
