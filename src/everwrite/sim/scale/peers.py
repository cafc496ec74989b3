"""The gossip of a real core, for a crowd: no disk, no requests, nothing that moves.

One partition, since to place a thousand nodes on many would be the whole cost; what entries say of
256 is carried and not looked at. A core's pings can be left out: they know nothing of members, and
are most of what a large crowd costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from everwrite.core.cluster.members import Known, MemberTable
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data.epochs import Epochs
from everwrite.core.messages.members import Member, News, Ruling
from everwrite.core.messages.message import Message
from everwrite.core.node import Node
from everwrite.core.wire import decode_payload

CONFIG = NodeConfig(leaf_bits=1, place_at_once=1 << 30)
"""All nodes are in one process, which makes each placement once for all of them: at once."""
CLUSTER = ClusterConfig(cluster_id=b"crowd".ljust(16), partitions=1)
LIVENESS = frozenset(("Ping", "Pong", "Probe", "Probed"))
"""Messages that are there to see who is up."""


class NodePeer:
    """See the module, and ``Peer`` in crowd.py."""

    def __init__(self, me: Member, known: Known, now_ms: int, pings: bool) -> None:
        table = MemberTable(me, known.entries, known.rulings, known.draft)
        epochs = Epochs(me.node_id, 1, me.incarnation)
        self.node = Node(CONFIG, CLUSTER, table, epochs, b"k" * 32, now_ms)
        self._pings = pings

    def tick(
        self, now_ms: int, lost: Iterable[bytes], arrived: Iterable[tuple[bytes, bytes]]
    ) -> Mapping[bytes, Sequence[Message]]:
        node = self.node
        node.local.now = now_ms
        for peer in lost:
            node.lost(peer)
        for source, data in arrived:
            node.heard(source)
            if data:
                for message in decode_payload(data[4:]):
                    node.receive(source, message)
        if now_ms >= self.next_wake_ms():
            if self._pings:
                node.detector.wake()
            node.rounds.wake()
        out = node.out
        out.writes.clear()  # the list of members, for a disk that is not here
        said, out.sends = out.sends, {}
        return said  # type: ignore[return-value]

    def next_wake_ms(self) -> int:
        due = self.node.rounds.next_wake_ms()
        return min(due, self.node.detector.next_wake_ms()) if self._pings else due

    def meet(self, others: Iterable[bytes], now_ms: int) -> None:
        for other in others:
            self.node.local.liveness.heard(other, now_ms)

    def want_in(self) -> None:
        self.node.rounds.wants_in = True

    def decide(self, orders: Sequence[tuple[bytes, int, float]]) -> None:
        members = self.node.local.members
        stamp, plan = members.next_stamp(), members.digest()
        rulings = []
        for node_id, standing, weight in orders:
            before = members.rulings[node_id]
            rulings.append(Ruling(node_id, before.name, standing, before.zone, weight, stamp, plan))
        self.node.rounds.publish(News([], rulings))

    def change(self, held: bytes) -> None:
        self.node.rounds.changed_me(serves=held, keeps=held)

    def knows(self) -> bytes:
        return self.node.local.members.digest()

    def ruling_on(self, node_id: bytes) -> Ruling | None:
        return self.node.local.members.rulings.get(node_id)

    def incarnation_of(self, node_id: bytes) -> int:
        member = self.node.local.members.get(node_id)
        return member.incarnation if member else 0

    def sees(self, node_id: bytes) -> bool:
        return node_id in self.node.local.liveness.up

    def out_for_good(self) -> bool:
        return self.node.rounds.out_for_good

    def kept(self) -> Known:
        members = self.node.local.members
        others = [each for each in members if each.node_id != members.me.node_id]
        return Known(others, list(members.rulings.values()), members.draft)
