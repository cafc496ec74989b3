"""Which nodes serve a key now: the preference list seen through what nodes hold, and through
liveness (Dynamo 4.5, 4.6: the sloppy quorum).

A request goes to the owners that serve the partition, and in place of each that does not yet, to a
node that serves and owns it no more (docs/design/moving.md). For each of these that seems down, the
next node that is up stands in, and is told for whom. Routes are made once per partition and
forgotten when somebody comes or goes, so a request pays one look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from everwrite.core.cluster.holdings import FILLS, NONE, SERVES, all_bits, displaced
from everwrite.core.cluster.liveness import Liveness
from everwrite.core.cluster.placement import Placement
from everwrite.core.probes import sometimes

NOTHING: Mapping[bytes, int] = MappingProxyType({})

Target = tuple[bytes, bytes]
"""(node, owner whom it stands in for); the second is empty for an owner."""


class Route:
    """Where the requests of one partition go now.

    ``owners`` are the nodes whose copies count; ``whole`` says that there are as many as asked for,
    and ``stray`` that somebody else has copies too. ``targets`` are those of them that are up and a
    stand-in for each that is not, in order of preference; ``late`` the owners that take copies
    without a vote; ``spares`` the nodes that could stand in next; ``unheld`` the owners down for
    whom no stand-in is left; ``mine`` says what this node is among the targets: None for none,
    empty for an owner, else the owner whom it stands in for. ``first`` is whom a node stands in for
    that was no target.
    """

    __slots__ = (
        "first",
        "late",
        "mine",
        "owners",
        "spares",
        "stray",
        "targets",
        "unheld",
        "whole",
    )

    def __init__(
        self,
        preference: tuple[bytes, ...],
        n: int,
        me: bytes,
        up: set[bytes],
        serving: tuple[bytes, ...] | None = None,
        filling: tuple[bytes, ...] = (),
    ) -> None:
        """``serving`` and ``filling`` are given where not just all owners serve."""
        self.whole = True
        self.stray = False
        if serving is None:
            self.owners = preference[:n]
            alive = [node for node in preference[n:] if node == me or node in up]
            waiting: list[bytes] = []
        else:
            self.owners = serving[:n]
            self.whole = len(self.owners) >= n
            known = {*serving, *filling}
            missing = max(0, n - len(self.owners))
            waiting = list(filling[:missing])
            rest = (node for node in preference if node not in known)
            others = (*serving[n:], *filling[missing:], *rest)
            alive = [node for node in others if node == me or node in up]
        self.first = (*self.owners, *waiting, *preference)[0]
        targets: list[Target] = []
        unheld: list[bytes] = []
        for owner in self.owners:
            if owner == me or owner in up:
                targets.append((owner, b""))
            elif alive:
                targets.append((alive.pop(0), owner))
            else:
                sometimes("an owner is down and nobody can stand in")
                unheld.append(owner)
        for owner in waiting:  # it has not all that it must: its copy counts as a stand-in's
            if owner == me or owner in up:
                sometimes("an owner that fills up stands in for itself")
                targets.append((owner, owner))
            elif alive:
                targets.append((alive.pop(0), owner))
            else:
                unheld.append(owner)
        asked = dict(targets)
        self.late = tuple(node for node in filling if node in up and asked.get(node, b"") != node)
        self.targets = tuple(targets)
        self.spares = tuple(alive)
        self.unheld = tuple(unheld)
        mine = asked.get(me)
        self.mine = b"" if mine == me else mine


class Routes:
    """The routes of one node."""

    def __init__(self, me: bytes, placement: Placement, liveness: Liveness) -> None:
        self._me = me
        self._liveness = liveness
        self._made: dict[tuple[int, int] | int, Route] = {}
        self._serves: Mapping[bytes, int] = {}
        self.placement = placement
        self._shift = 64 - (placement.partitions.bit_length() - 1)
        self.placed = 0
        """How often the placement has changed."""
        self._stray = 0
        """Bit p: somebody who does not own partition p has copies of it."""
        self._owned_by: dict[bytes, int] = {}
        self.owned = 0
        """Bit p: this node is an owner of partition p."""
        self.roles = bytearray(placement.partitions)
        """What this node is to each partition: NONE, SERVES, FILLS (holdings.py)."""
        self._find_owned()

    def place(self, placement: Placement) -> None:
        """Go by another placement from now on; ``hold`` must follow."""
        self.placement = placement
        self.placed += 1
        self._shift = 64 - (placement.partitions.bit_length() - 1)
        self._made.clear()
        self._find_owned()

    def hold(self, serves: Mapping[bytes, int], keeps: Mapping[bytes, int] = NOTHING) -> None:
        """Go by what these nodes say that they serve and keep, bitmaps by node id; the own ones
        too.
        """
        self._serves = serves
        self._stray = 0
        for node, kept in keeps.items():
            self._stray |= (kept | serves.get(node, 0)) & ~self._owned_by.get(node, 0)
        self._made.clear()
        mine, owned = serves.get(self._me, 0), self.owned
        for partition in range(self.placement.partitions):
            if mine >> partition & 1:
                role = SERVES
            else:
                role = FILLS if owned >> partition & 1 else NONE
            self.roles[partition] = role

    def _find_owned(self) -> None:
        self._owned_by = {
            node: all_bits(partitions) for node, partitions in self.placement.owned().items()
        }
        self.owned = self._owned_by.get(self._me, 0)
        self.roles = bytearray(self.placement.partitions)

    def forget(self) -> None:
        """Somebody came or went: make the routes anew."""
        self._made.clear()

    def partition_of(self, data_key: bytes) -> int:
        return int.from_bytes(data_key[:8], "big") >> self._shift

    def role(self, data_key: bytes) -> int:
        """Return what this node is to the partition of a key."""
        return self.roles[int.from_bytes(data_key[:8], "big") >> self._shift]

    def route(self, data_key: bytes, n: int) -> Route:
        """Return the route of a key for ``n`` replicas (1 to the default number; 0: that)."""
        partition = int.from_bytes(data_key[:8], "big") >> self._shift
        route = self._made.get((partition, n) if n else partition)
        return self._make(partition, n) if route is None else route

    # -- who holds a partition ---------------------------------------------------------------------

    def serving(self, partition: int) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Return (owners that serve, owners that do not, others that serve)."""
        serves = self._serves
        owners = self.placement.owners(partition)
        there = [node for node in owners if serves.get(node, 0) >> partition & 1]
        if len(there) == len(owners):
            return there, [], []
        filling = [node for node in owners if node not in there]
        others = displaced(self.placement.preference[partition], owners, serves, partition)
        return there, filling, others

    def moving(self) -> dict[int, tuple[bytes, ...]]:
        """Return who serves each partition that some owner does not serve yet."""
        found: dict[int, tuple[bytes, ...]] = {}
        for partition in range(self.placement.partitions):
            if not self.settled(partition):
                route = self._made.get(partition) or self._make(partition, 0)
                found[partition] = route.owners
        return found

    def settled(self, partition: int) -> bool:
        """Say whether all owners of a partition serve it."""
        serves = self._serves
        return all(
            serves.get(node, 0) >> partition & 1 for node in self.placement.owners(partition)
        )

    def stray(self, partition: int) -> bool:
        """Say whether somebody has copies of a partition who does not own it."""
        return bool(self._stray >> partition & 1)

    def owned_by(self, node: bytes) -> int:
        """Return the partitions that a node owns, as a bitmap."""
        return self._owned_by.get(node, 0)

    def takes(self, node: bytes, data_key: bytes) -> bool:
        """Say whether a node takes copies of a key: it owns its partition, or serves it."""
        partition = self.partition_of(data_key)
        return (
            node in self.placement.owners(partition)
            or self._serves.get(node, 0) >> partition & 1 == 1
        )

    def _make(self, partition: int, n: int) -> Route:
        preference = self.placement.preference[partition]
        count = n or self.placement.replicas
        there, filling, others = self.serving(partition)
        if filling:
            sometimes("a partition is served by others than its owners")
            # Each owner's place is kept for it: who serves in its stead stands where it will.
            room = self.placement.replicas - len(there)
            serving = self._in_place(partition, there, others[:room])
            route = Route(preference, count, self._me, self._liveness.up, serving, tuple(filling))
        else:
            route = Route(preference, count, self._me, self._liveness.up)
        if self._stray >> partition & 1:
            sometimes("somebody has copies of a partition that it does not own")
            route.stray = True
        self._made[(partition, n) if n else partition] = route
        return route

    def _in_place(
        self, partition: int, there: list[bytes], others: list[bytes]
    ) -> tuple[bytes, ...]:
        others = list(others)
        chosen: list[bytes] = []
        for owner in self.placement.owners(partition):
            if owner in there:
                chosen.append(owner)
            elif others:
                chosen.append(others.pop(0))
        return tuple(chosen)
