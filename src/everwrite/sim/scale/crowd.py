"""A crowd: as many nodes as memory holds, of which only their gossip is run.

    tick of 1 ms: every node for which frames arrived, or whose timer is due, handles them at once,
    as the server's driver does with all that one turn of its loop finds; what it says goes out as
    one frame for each destination, through core/wire.py, and arrives 1 to 3 ms later

What runs is whatever is behind ``Peer``. ``NodePeer`` is a real core with one partition (placing a
thousand nodes on many would be the whole cost) and no disk. Another gossip inside ``Node`` needs no
change here; one outside it needs a class with these five methods.

A crowd begins at rest: all know each other and are connected, and their timers are out of step.
Connections are modelled as far as gossip sees them: who starts dials everyone whom it knows, and
is dialled by everyone who comes to know it; a process that ends breaks its connections, a machine
that falls silent does not. A frame that is lost comes late, since TCP sends it again.

Bytes are those of frames. TCP and IP add 40 to 60 for each packet, which for small frames is more
than they are themselves.

Costs: 8 us for each frame, so 20 s for a second of a thousand nodes that all ping each other.
Source: Dynamo 4.8.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import msgspec

from everwrite.core.cluster.members import MemberTable
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data.epochs import Epochs
from everwrite.core.messages import Member, Message
from everwrite.core.node import Node
from everwrite.core.wire import decode_payload, encode_frame

DELAY_MIN_MS, DELAY_MAX_MS = 1, 3
HANDSHAKE_DELAYS = 3
RESEND_MS = 200
"""How long TCP waits before it sends again what was lost, at least; twice as long each time."""
CONFIG = NodeConfig()
CLUSTER = ClusterConfig(cluster_id=b"crowd".ljust(16), partitions=1)
ZONES = 10

Arrived = tuple[bytes, bytes]
"""(source, frame); an empty frame: a connection was made."""


class Peer(Protocol):
    """One node's gossip, as a crowd sees it."""

    def tick(
        self, now_ms: int, lost: Iterable[bytes], arrived: Iterable[Arrived]
    ) -> Mapping[bytes, Sequence[Message]]:
        """Handle what happened; return what is to be said, by destination."""

    def next_wake_ms(self) -> int:
        """Return when a tick is due if nothing else happens."""

    def meet(self, others: Iterable[bytes], now_ms: int) -> None:
        """Take others for up, heard just before, without a word from them."""

    def incarnation_of(self, node_id: bytes) -> int:
        """Return which life of a node this one knows of; 0 for none."""

    def sees(self, node_id: bytes) -> bool:
        """Say whether a node seems up from here."""


MakePeer = Callable[[Member, Sequence[Member], int], Peer]
"""Makes the peer of a node from its own entry, the members that it knows, and the time."""


class NodePeer:
    """The gossip of a real core."""

    def __init__(self, me: Member, known: Sequence[Member], now_ms: int) -> None:
        table = MemberTable(me, list(known))
        epochs = Epochs(me.node_id, 1, me.incarnation)
        self.node = Node(CONFIG, CLUSTER, table, epochs, b"k" * 32, now_ms)

    def tick(
        self, now_ms: int, lost: Iterable[bytes], arrived: Iterable[Arrived]
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
        if now_ms >= node.next_wake_ms():
            node.wake()
        out = node.out
        out.writes.clear()  # the list of members, for a disk that is not here
        said, out.sends = out.sends, {}
        return said  # type: ignore[return-value]

    def next_wake_ms(self) -> int:
        return self.node.next_wake_ms()

    def meet(self, others: Iterable[bytes], now_ms: int) -> None:
        for other in others:
            self.node.local.liveness.heard(other, now_ms)

    def incarnation_of(self, node_id: bytes) -> int:
        member = self.node.local.members.get(node_id)
        return member.incarnation if member else 0

    def sees(self, node_id: bytes) -> bool:
        return node_id in self.node.local.liveness.up


class Traffic:
    """What was carried since the last ``Crowd.count_anew``."""

    def __init__(self, nodes: int, since_ms: int) -> None:
        self.since_ms = since_ms
        self.frames = 0
        self.bytes = 0
        self.messages_of: Counter[str] = Counter()
        self.bytes_of: Counter[str] = Counter()
        self.bytes_to = [0] * nodes


class Crowd:
    """See the module."""

    def __init__(
        self, nodes: int, seed: int, *, loss: float = 0.0, make: MakePeer = NodePeer
    ) -> None:
        self.now = 0
        self._rng = rng = random.Random(f"{seed}/crowd")
        self._loss = loss
        self._make = make
        self.members = [_member(rng, i) for i in range(nodes)]
        self._index = {member.node_id: i for i, member in enumerate(self.members)}
        self.peers: list[Peer | None] = []
        self._frames: defaultdict[int, list[tuple[int, bytes, bytes]]] = defaultdict(list)
        self._calls: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """Timers and connections to be made by the time at which they are due."""
        self._losses: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        self._due: list[int] = []
        self._apart: dict[int, set[int]] = {}
        """Machines that came anew, and those to which they have no connection yet."""
        self._dialling: set[tuple[int, int]] = set()
        self.silent: set[int] = set()
        self.watch: Callable[[int, Peer], None] | None = None
        """Called after each tick of a node, with its number."""
        every = CONFIG.ping_every_ms
        for member in self.members:
            phase = rng.randrange(every)
            peer = make(member, self.members, phase)
            others = [each.node_id for each in self.members if each is not member]
            peer.meet(others, phase - rng.randrange(every))
            self._enter(len(self.peers), peer)
        self.traffic = Traffic(nodes, 0)

    # -- what an experiment does -------------------------------------------------------------------

    def count_anew(self) -> Traffic:
        """Begin to count; return what was counted until now."""
        old, self.traffic = self.traffic, Traffic(len(self.peers), self.now)
        return old

    def stop(self, index: int) -> None:
        """End a node's process: its connections break, and all others notice."""
        self.peers[index] = None
        self._apart[index] = set(range(len(self.peers))) - {index}
        for other in sorted(self._apart[index]):
            self._losses[self.now + self._delay()].append((other, self.members[index].node_id))

    def start(self, index: int) -> None:
        """Start a stopped node again, with the members that it knew."""
        me = self.members[index]
        self.members[index] = me = _next_life(me)
        self._begin(index, self._make(me, self.members, self.now))

    def join(self, by: int) -> int:
        """Start a node that knows nothing but the address of one other; return its number."""
        index = len(self.peers)
        self.members.append(_member(self._rng, index))
        self._index[self.members[index].node_id] = index
        self.peers.append(None)
        self._due.append(-1)
        self.traffic.bytes_to.append(0)
        self._apart[index] = set(range(index))
        self._begin(index, self._make(self.members[index], (), self.now))
        self._dial(index, by)
        return index

    def any_node(self) -> int:
        """Return the number of a node that runs, by chance."""
        running = [
            i for i, peer in enumerate(self.peers) if peer is not None and i not in self.silent
        ]
        return self._rng.choice(running)

    def silence(self, index: int) -> None:
        """Cut a machine off: nobody is told, it just says and hears nothing more."""
        self.silent.add(index)

    def run(self, ms: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass, or until ``done``; return whether it was done."""
        until = self.now + ms
        while self.now < until:
            self._turn()
            if done is not None and done():
                return True
        return False

    # -- one millisecond ---------------------------------------------------------------------------

    def _turn(self) -> None:
        self.now = now = self.now + 1
        arrived: defaultdict[int, list[Arrived]] = defaultdict(list)
        lost: defaultdict[int, list[bytes]] = defaultdict(list)
        ticking: dict[int, None] = {}
        for to, peer in self._losses.pop(now, ()):
            lost[to].append(peer)
            ticking[to] = None
        for one, other in self._calls.pop(now, ()):
            if one == other:  # a timer
                if self._due[one] == now:
                    ticking[one] = None
            else:
                self._connect(one, other, arrived)
        for to, source, data in self._frames.pop(now, ()):
            arrived[to].append((source, data))
        ticking.update(dict.fromkeys(arrived))
        for index in ticking:
            found = self.peers[index]
            if found is None or index in self.silent:
                continue
            said = found.tick(now, lost.get(index, ()), arrived.get(index, ()))
            if said:
                self._say(index, said)
            self._set_timer(index, found)
            if self._apart:
                self._dial_news(index, found)
            if self.watch is not None:
                self.watch(index, found)

    def _say(self, index: int, said: Mapping[bytes, Sequence[Message]]) -> None:
        me, now, traffic, frames = self.members[index].node_id, self.now, self.traffic, self._frames
        chance, places, apart = self._rng.random, self._index, self._apart
        for place, messages in said.items():
            to = places[place]
            if apart and (to in apart.get(index, ()) or index in apart.get(to, ())):
                continue
            data = encode_frame(messages)
            size = len(data)
            traffic.frames += 1
            traffic.bytes += size
            traffic.bytes_to[to] += size
            for message in messages:
                kind = type(message).__name__
                traffic.messages_of[kind] += 1
                traffic.bytes_of[kind] += (
                    size if len(messages) == 1 else len(encode_frame([message]))
                )
            at = now + DELAY_MIN_MS + int(chance() * (DELAY_MAX_MS - DELAY_MIN_MS + 1))
            again_ms = RESEND_MS
            while self._loss and chance() < self._loss:
                at += again_ms
                again_ms *= 2
            frames[at].append((to, me, data))

    def _set_timer(self, index: int, peer: Peer) -> None:
        due = max(peer.next_wake_ms(), self.now + 1)
        if due != self._due[index]:
            self._due[index] = due
            self._calls[due].append((index, index))

    # -- connections -------------------------------------------------------------------------------

    def _enter(self, index: int, peer: Peer) -> None:
        if index == len(self.peers):
            self.peers.append(peer)
            self._due.append(-1)
        self.peers[index] = peer
        self._due[index] = -1
        self._set_timer(index, peer)

    def _begin(self, index: int, peer: Peer) -> None:
        self._enter(index, peer)
        self._dial_news(index, peer)

    def _dial_news(self, index: int, peer: Peer) -> None:
        """Dial whoever this node knows of and has no connection to."""
        for other in sorted(self._apart.get(index, ())):
            if peer.incarnation_of(self.members[other].node_id):
                self._dial(index, other)
        for other, strangers in self._apart.items():
            if index in strangers and peer.incarnation_of(self.members[other].node_id):
                self._dial(index, other)

    def _dial(self, one: int, other: int) -> None:
        pair = (min(one, other), max(one, other))
        if pair in self._dialling or self.peers[one] is None or self.peers[other] is None:
            return
        self._dialling.add(pair)
        delay = sum(self._delay() for _ in range(HANDSHAKE_DELAYS))
        self._calls[self.now + delay].append((one, other))

    def _connect(self, one: int, other: int, arrived: defaultdict[int, list[Arrived]]) -> None:
        self._dialling.discard((min(one, other), max(one, other)))
        for here, there in ((one, other), (other, one)):
            arrived[here].append((self.members[there].node_id, b""))
            strangers = self._apart.get(here, set())
            strangers.discard(there)
            if not strangers:
                self._apart.pop(here, None)

    def _delay(self) -> int:
        return self._rng.randint(DELAY_MIN_MS, DELAY_MAX_MS)


def _member(rng: random.Random, index: int) -> Member:
    """Return the entry of a node as a cluster on a few racks would have it."""
    host = f"10.0.{index // 250}.{index % 250 + 1}"
    return Member(
        rng.randbytes(8), f"node-{index + 1}", host, 7400, f"rack-{index % ZONES}", 1.0, 1, 1
    )


def _next_life(me: Member) -> Member:
    return msgspec.structs.replace(me, incarnation=me.incarnation + 1)
