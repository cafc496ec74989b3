"""Which nodes serve a key now: the preference list seen through liveness (Dynamo 4.5, 4.6: the
sloppy quorum).

For each of the first N nodes of a partition's preference list that seems down, the next node that
is up stands in, and is told for whom. Routes are made once per partition and forgotten when
somebody comes or goes, so a request pays one look-up.
"""

from __future__ import annotations

from everwrite.core.cluster.liveness import Liveness
from everwrite.core.cluster.placement import Placement
from everwrite.core.probes import sometimes

Target = tuple[bytes, bytes]
"""(node, owner whom it stands in for); the second is empty for an owner."""


class Route:
    """Where the requests of one partition go now.

    ``targets`` are the owners that are up and a stand-in for each that is not, in order of
    preference; ``spares`` the nodes that could stand in next; ``unheld`` the owners down for whom
    no stand-in is left; ``mine`` says what this node is among the targets: None for none, empty for
    an owner, else the owner whom it stands in for.
    """

    __slots__ = ("mine", "owners", "owns", "spares", "targets", "unheld")

    def __init__(self, preference: tuple[bytes, ...], n: int, me: bytes, up: set[bytes]) -> None:
        self.owners = preference[:n]
        self.owns = me in self.owners
        alive = [node for node in preference[n:] if node == me or node in up]
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
        self.targets = tuple(targets)
        self.spares = tuple(alive)
        self.unheld = tuple(unheld)
        self.mine = dict(targets).get(me)


class Routes:
    """The routes of one node."""

    def __init__(self, me: bytes, placement: Placement, liveness: Liveness) -> None:
        self._me = me
        self._liveness = liveness
        self._made: dict[tuple[int, int] | int, Route] = {}
        self.placement = placement
        self._shift = 64 - (placement.partitions.bit_length() - 1)

    def place(self, placement: Placement) -> None:
        """Go by another placement from now on."""
        self.placement = placement
        self._shift = 64 - (placement.partitions.bit_length() - 1)
        self._made.clear()

    def forget(self) -> None:
        """Somebody came or went: make the routes anew."""
        self._made.clear()

    def route(self, data_key: bytes, n: int) -> Route:
        """Return the route of a key for ``n`` replicas (1 to the number of members; 0: the
        default).
        """
        partition = int.from_bytes(data_key[:8], "big") >> self._shift
        route = self._made.get((partition, n) if n else partition)
        return self._make(partition, n) if route is None else route

    def _make(self, partition: int, n: int) -> Route:
        preference = self.placement.preference[partition]
        route = Route(preference, n or self.placement.replicas, self._me, self._liveness.up)
        self._made[(partition, n) if n else partition] = route
        return route
