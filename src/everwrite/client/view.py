"""The client's view of the cluster: its members, and hence which nodes serve a key.

A client computes the placement from the nodes that are ruled in, just as the nodes do, and goes by
it only if its digest is the one that the node told: with another version's placement it would ask
the wrong owners, so it then leaves the routing to the nodes.

Where a partition is on its way to other owners, the node tells who serves it now. Those may have
changed when a request comes to them: who does not serve a partition any more says so, and the
client leaves its reads to the nodes (``Routes.doubt``) until it has asked for the view again.

``Routes`` is the view seen through the connections that are usable now. A partition's routes are
made when the first request needs them and forgotten when a node comes or goes, so a request pays
one look-up.

Source: Dynamo 6.4 (the client polls a node for the membership state).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec

from everwrite.core.cluster.placement import Candidate, Placement, place
from everwrite.core.errors import ConfigError, ProtocolError
from everwrite.core.messages.requests import Ask, Quality

if TYPE_CHECKING:
    from everwrite.client.connection import Connection


class Node(msgspec.Struct, frozen=True):
    """A member, as a node tells it to clients; whether or not it owns anything."""

    id: str
    name: str
    host: str
    port: int

    @property
    def node_id(self) -> bytes:
        return bytes.fromhex(self.id)


class _Candidate(msgspec.Struct):
    """A node that may own partitions, with the zone and weight that it is ruled to have."""

    id: str
    zone: str
    weight: float


class _Same(msgspec.Struct):
    same: str = ""
    """The version that was asked with, if there is no other."""


class _Told(msgspec.Struct):
    cluster_id: str
    cluster_name: str
    partitions: int
    replicas: int
    digest: str
    stamp: int
    members: list[Node]
    candidates: list[_Candidate]
    moving: dict[int, list[str]]
    version: str = ""


class View(msgspec.Struct, frozen=True):
    """What a node told of the cluster, and the placement that follows."""

    cluster_id: bytes
    cluster_name: str
    nodes: Mapping[bytes, Node]
    placement: Placement
    digest: bytes
    """The placement's digest; empty if the node computes it in another way than we do."""
    stamp: int
    """The highest of the rulings that the node knew: a view with a lower one is older."""
    moving: Mapping[int, tuple[bytes, ...]]
    """Who serves each partition that some of its owners do not serve yet."""
    version: str
    """Nodes that know the same give it the same name."""

    @property
    def quorum(self) -> int:
        """Return the default R: a majority of the replicas."""
        return self.placement.replicas // 2 + 1

    def serving(self, partition: int) -> tuple[bytes, ...]:
        """Return the nodes whose copies of a partition count now; may be fewer than N."""
        serving = self.moving.get(partition)
        return self.placement.owners(partition) if serving is None else serving

    def name(self, node_id: bytes) -> str:
        """Return a node's name; its id if it is ruled in and has not been heard of."""
        node = self.nodes.get(node_id)
        return node_id.hex() if node is None else node.name


def ask_for_view(known: str) -> Ask:
    """Return the question for the view, by one who knows it in this version (empty: in none)."""
    return Ask(0, "view", msgspec.json.encode({"known": known}))


def parse_view(answer: bytes, before: View | None = None) -> View:
    """Return the view in a node's answer to Ask "view"; ProtocolError if there is none.

    Returns the view ``before`` itself if the answer is that there is no other. The placement is
    that of ``before`` if it is the same: while partitions move, only who serves them changes.
    """
    try:
        same = msgspec.json.decode(answer, type=_Same).same
        if before is not None and same and same == before.version:
            return before
        told = msgspec.json.decode(answer, type=_Told)
        nodes = {node.node_id: node for node in told.members}
        if not nodes:
            raise ValueError("it has no members")
        if before is not None and before.digest and before.digest.hex() == told.digest:
            placement = before.placement
        else:
            candidates = [
                Candidate(bytes.fromhex(node.id), node.zone, node.weight)
                for node in told.candidates
            ]
            placement = place(candidates, told.partitions, told.replicas)
        moving = {
            partition: tuple(map(bytes.fromhex, serving))
            for partition, serving in told.moving.items()
        }
        cluster_id = bytes.fromhex(told.cluster_id)
    except (msgspec.MsgspecError, ValueError, ConfigError) as error:
        raise ProtocolError(f"The node's view of the cluster makes no sense: {error}") from error
    digest = placement.digest if placement.digest.hex() == told.digest else b""
    return View(
        cluster_id,
        told.cluster_name,
        nodes,
        placement,
        digest,
        told.stamp,
        moving,
        told.version,
    )


Order = tuple["Connection", ...]


class Routes:
    """Where the requests of each partition go now.

    ``orders[p]`` are the usable connections in the order in which partition p prefers their nodes:
    those that serve it, then its preference list, then whoever else can hand a request on.
    ``reads[p]`` are the sets of R serving nodes that a client-coordinated read may ask, each
    beginning with the one that sends its copy: a read takes the next one in turn, so that they
    share the work. None: not made yet. ``reads[p]`` is empty if fewer than N nodes serve, too few
    of them are usable, or the placement is not to be trusted: then a node does it.
    """

    __slots__ = (
        "_doubted",
        "_usable",
        "orders",
        "quality",
        "reads",
        "shift",
        "spare",
        "view",
    )

    def __init__(self, view: View, usable: Iterable[Connection]) -> None:
        self.view = view
        self.quality = Quality(view.quorum, 0, view.quorum)
        """That of a client-coordinated read that found a value."""
        self.shift = view.placement.shift
        self._doubted: set[int] = set()
        self.usable(usable)

    def usable(self, connections: Iterable[Connection]) -> None:
        """Forget all routes; from now on these connections may be used, the better ones first."""
        found: dict[bytes, Connection] = {}
        for connection in connections:
            found.setdefault(connection.node_id, connection)
        self._usable = found
        count = self.view.placement.partitions
        self.spare: Order = tuple(found.values())
        self.orders: list[Order | None] = [None] * count
        self.reads: list[tuple[Order, ...] | None] = [None] * count

    def make_order(self, partition: int) -> Order:
        """Return (and keep) the order of a partition; nodes that seem down are not in it."""
        view, usable = self.view, self._usable
        ranked = (*view.serving(partition), *view.placement.preference[partition], *usable)
        order = tuple(usable[node] for node in dict.fromkeys(ranked) if node in usable)
        self.orders[partition] = order
        return order

    def make_reads(self, partition: int) -> tuple[Order, ...]:
        """Return (and keep) the sets of nodes that a read of this partition may ask."""
        view = self.view
        serving = view.serving(partition)
        there = [self._usable[node] for node in serving if node in self._usable]
        whole = len(serving) >= view.placement.replicas and partition not in self._doubted
        reads: tuple[Order, ...] = ()
        if whole and len(there) >= view.quorum and view.digest:
            twice = there + there
            reads = tuple(tuple(twice[i : i + view.quorum]) for i in range(len(there)))
        self.reads[partition] = reads
        return reads

    def doubt(self, partition: int) -> None:
        """A node that should serve this partition does not: leave its reads to the nodes."""
        self._doubted.add(partition)
        self.reads[partition] = ()

    def trust(self) -> None:
        """The view was asked for again, and is still the same: go by it."""
        for partition in self._doubted:
            self.reads[partition] = None
        self._doubted.clear()
