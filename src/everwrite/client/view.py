"""The client's view of the cluster: its members, and hence which nodes own a key.

A client computes the placement from the members just as the nodes do, and goes by it only if its
digest is the one that the node told: with another version's placement it would ask the wrong
owners, so it then leaves the routing to the nodes.

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
from everwrite.core.messages import Quality

if TYPE_CHECKING:
    from everwrite.client.connection import Connection


class Node(msgspec.Struct, frozen=True):
    """A member, as a node tells it to clients."""

    id: str
    name: str
    host: str
    port: int
    zone: str = ""
    weight: float = 1.0

    @property
    def node_id(self) -> bytes:
        return bytes.fromhex(self.id)


class _Told(msgspec.Struct):
    cluster_id: str
    cluster_name: str
    partitions: int
    replicas: int
    digest: str
    members: list[Node]


class View(msgspec.Struct, frozen=True):
    """What a node told of the cluster, and the placement that follows."""

    cluster_id: bytes
    cluster_name: str
    nodes: Mapping[bytes, Node]
    placement: Placement
    digest: bytes
    """The placement's digest; empty if the node computes it in another way than we do."""

    @property
    def quorum(self) -> int:
        """Return the default R: a majority of the replicas."""
        return self.placement.replicas // 2 + 1


def parse_view(answer: bytes) -> View:
    """Return the view in a node's answer to Ask "view"; ProtocolError if there is none."""
    try:
        told = msgspec.json.decode(answer, type=_Told)
        nodes = {node.node_id: node for node in told.members}
        candidates = [Candidate(node.node_id, node.zone, node.weight) for node in told.members]
        placement = place(candidates, told.partitions, told.replicas)
        cluster_id = bytes.fromhex(told.cluster_id)
    except (msgspec.MsgspecError, ValueError, ConfigError) as error:
        raise ProtocolError(f"The node's view of the cluster makes no sense: {error}") from error
    digest = placement.digest if placement.digest.hex() == told.digest else b""
    return View(cluster_id, told.cluster_name, nodes, placement, digest)


Order = tuple["Connection", ...]


class Routes:
    """Where the requests of each partition go now.

    ``orders[p]`` are the usable connections in the order in which partition p prefers their nodes;
    ``reads[p]`` the sets of R owners that a client-coordinated read may ask, each beginning with
    the one that sends its copy: a read takes the next one in turn, so that owners share the work.
    None: not made yet. ``reads[p]`` is empty if too few owners are usable, or the placement is not
    to be trusted.
    """

    __slots__ = ("_usable", "orders", "quality", "reads", "shift", "spare", "view")

    def __init__(self, view: View, usable: Iterable[Connection]) -> None:
        self.view = view
        self.quality = Quality(view.quorum, 0, view.quorum)
        """That of a client-coordinated read that found a value."""
        self.shift = view.placement.shift
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
        ranked = self.view.placement.preference[partition]
        order = tuple(self._usable[node] for node in ranked if node in self._usable)
        self.orders[partition] = order
        return order

    def make_reads(self, partition: int) -> tuple[Order, ...]:
        """Return (and keep) the sets of owners that a read of this partition may ask."""
        view = self.view
        owners = [
            self._usable[node] for node in view.placement.owners(partition) if node in self._usable
        ]
        reads: tuple[Order, ...] = ()
        if len(owners) >= view.quorum and view.digest:
            twice = owners + owners
            reads = tuple(tuple(twice[i : i + view.quorum]) for i in range(len(owners)))
        self.reads[partition] = reads
        return reads
