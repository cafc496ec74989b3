"""A crowd: as many nodes as memory holds, of which only their gossip is run, and their pings.

    tick of 1 ms: every node for which frames arrived, or whose timer is due, handles them at once,
    as the server's driver does with all that one turn of its loop finds; what it says goes out as
    one frame for each destination, through core/wire.py, and arrives 1 to 3 ms later

What runs is whatever is behind ``Peer``; ``NodePeer`` (peers.py) is a real core. Another gossip
inside ``Node`` needs no change here; one outside it needs a class with these methods.

A crowd begins at rest: all know each other and are connected, and their timers are out of step.
Connections are modelled as far as gossip sees them: who starts dials everyone whom it knows, and
is dialled by everyone who comes to know it; a process that ends breaks its connections, a machine
that falls silent does not. A cut breaks those that it crosses; when it heals each pair is dialled
again within ``REDIAL_MS``, as server/peers.py does. A frame that is lost is lost for good, which
is worse than TCP, where only what was under way when a connection broke is; pings are left out of
that, for they ask about silence.

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

from everwrite.core.cluster.holdings import all_bits, packed
from everwrite.core.cluster.members import Known, founding
from everwrite.core.messages.members import Member, Ruling
from everwrite.core.messages.message import Message
from everwrite.core.wire import encode_frame
from everwrite.sim.scale.peers import LIVENESS, NodePeer

DELAY_MIN_MS, DELAY_MAX_MS = 1, 3
HANDSHAKE_DELAYS = 3
REDIAL_MS = 500
"""How often a node dials a peer to whom it has no connection."""
ZONES = 10
PARTITIONS, REPLICAS = 256, 3
"""What an entry's bitmaps tell of: as long as those of a cluster with the usual settings."""
PHASE_MS = 1000
START_MS = 10_000
"""All have run for a while."""

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

    def want_in(self) -> None:
        """Rule oneself in as soon as a cluster is known."""

    def decide(self, orders: Sequence[tuple[bytes, int, float]]) -> None:
        """Rule on nodes, (id, standing, weight), all in one plan that is committed here."""

    def change(self, held: bytes) -> None:
        """Serve and keep other partitions."""

    def knows(self) -> bytes:
        """Return a digest of all that this node knows of the members."""

    def ruling_on(self, node_id: bytes) -> Ruling | None:
        """Return the ruling on a node, as far as this one knows."""

    def incarnation_of(self, node_id: bytes) -> int:
        """Return which life of a node this one knows of; 0 for none."""

    def sees(self, node_id: bytes) -> bool:
        """Say whether a node seems up from here."""

    def out_for_good(self) -> bool:
        """Say whether this node was removed, and knows it."""

    def kept(self) -> Known:
        """Return what its disk has of the members."""


MakePeer = Callable[[Member, Known, int, bool], Peer]
"""Makes the peer of a node from its own entry, what it knows, the time, and whether it pings."""


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
        self,
        nodes: int,
        seed: int,
        *,
        loss: float = 0.0,
        pings: bool = True,
        make: MakePeer = NodePeer,
    ) -> None:
        self.now = START_MS
        self.rng = rng = random.Random(f"{seed}/crowd")
        self._loss = loss
        self._make = make
        self._pings = pings
        self.members = [_member(rng, i, nodes) for i in range(nodes)]
        self._index = {member.node_id: i for i, member in enumerate(self.members)}
        self.peers: list[Peer | None] = []
        self._stopped: dict[int, Peer] = {}
        self._frames: defaultdict[int, list[tuple[int, bytes, bytes]]] = defaultdict(list)
        self._calls: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        """Timers and connections to be made by the time at which they are due."""
        self._losses: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)
        self._due: list[int] = []
        self._apart: dict[int, set[int]] = {}
        """Machines that came anew, and those to which they have no connection yet."""
        self._unlinked: set[tuple[int, int]] = set()
        """Pairs, lower number first, that a cut parts, or parted and are not connected again."""
        self._dialling: set[tuple[int, int]] = set()
        self.silent: set[int] = set()
        self.watch: Callable[[int, Peer], None] | None = None
        """Called after each tick of a node, with its number."""
        known = Known(self.members, founding(self.members))
        for member in self.members:
            phase = START_MS + rng.randrange(PHASE_MS)
            peer = make(member, known, phase, pings)
            others = [each.node_id for each in self.members if each is not member]
            peer.meet(others, phase - rng.randrange(PHASE_MS // 2))
            self._enter(len(self.peers), peer)
        self.traffic = Traffic(nodes, START_MS)

    # -- what an experiment does -------------------------------------------------------------------

    def count_anew(self) -> Traffic:
        """Begin to count; return what was counted until now."""
        old, self.traffic = self.traffic, Traffic(len(self.peers), self.now)
        return old

    def stop(self, index: int) -> None:
        """End a node's process: its connections break, and all others notice."""
        peer, self.peers[index] = self.peers[index], None
        if peer is not None:
            self._stopped[index] = peer
        self._apart[index] = set(range(len(self.peers))) - {index}
        for other in sorted(self._apart[index]):
            self._losses[self.now + self._delay()].append((other, self.members[index].node_id))

    def start(self, index: int) -> None:
        """Start a stopped node again, with what its disk has."""
        me, known = self.members[index], self._stopped.pop(index).kept()
        self.members[index] = me = msgspec.structs.replace(
            me, incarnation=me.incarnation + 1, life=self.rng.randbytes(8)
        )
        self._begin(index, self._make(me, known, self.now, self._pings))

    def join(self, by: int) -> int:
        """Start a node that knows nothing but the address of one other, and is to join; return its
        number.
        """
        index = len(self.peers)
        me = msgspec.structs.replace(_member(self.rng, index, index), serves=b"", keeps=b"")
        self.members.append(me)
        self._index[me.node_id] = index
        self.peers.append(None)
        self._due.append(-1)
        self.traffic.bytes_to.append(0)
        self._apart[index] = set(range(index))
        peer = self._make(me, Known([]), self.now, self._pings)
        peer.want_in()
        self._begin(index, peer)
        self._dial(index, by)
        return index

    def running(self) -> list[int]:
        """Return the numbers of the nodes that run and can be heard."""
        return [i for i, peer in enumerate(self.peers) if peer is not None and i not in self.silent]

    def any_node(self) -> int:
        """Return the number of a node that runs, by chance."""
        return self.rng.choice(self.running())

    def peer(self, index: int) -> Peer:
        """Return a node that runs."""
        peer = self.peers[index]
        if peer is None:
            raise LookupError(f"Node {index} does not run.")
        return peer

    def act(self, index: int) -> None:
        """Have a tick of a node at once, since it was told something."""
        self._tick(index, (), ())

    def silence(self, index: int) -> None:
        """Cut a machine off: nobody is told, it just says and hears nothing more."""
        self.silent.add(index)

    def cut(self) -> tuple[list[int], list[int]]:
        """Cut the crowd into two halves, by chance: what crosses breaks. Return the halves."""
        shuffled = self.running()
        self.rng.shuffle(shuffled)
        half = len(shuffled) // 2
        one, other = sorted(shuffled[:half]), sorted(shuffled[half:])
        for a in one:
            for b in other:
                self._unlinked.add((min(a, b), max(a, b)))
                self._losses[self.now + self._delay()].append((a, self.members[b].node_id))
                self._losses[self.now + self._delay()].append((b, self.members[a].node_id))
        return one, other

    def mend(self) -> None:
        """End the cut: each of both nodes of a pair dials when its time has come."""
        for pair in sorted(self._unlinked):
            wait = min(self.rng.randrange(REDIAL_MS), self.rng.randrange(REDIAL_MS))
            self._dialling.add(pair)
            self._calls[self.now + 1 + wait + self._handshake()].append(pair)

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
            self._tick(index, lost.get(index, ()), arrived.get(index, ()))

    def _tick(self, index: int, lost: Iterable[bytes], arrived: Iterable[Arrived]) -> None:
        found = self.peers[index]
        if found is None or index in self.silent:
            return
        said = found.tick(self.now, lost, arrived)
        if said:
            self._say(index, said)
        if found.out_for_good():  # its process ends itself
            self.stop(index)
            return
        self._set_timer(index, found)
        if self._apart:
            self._dial_news(index, found)
        if self.watch is not None:
            self.watch(index, found)

    def _say(self, index: int, said: Mapping[bytes, Sequence[Message]]) -> None:
        me, now, traffic, frames = self.members[index].node_id, self.now, self.traffic, self._frames
        chance, places, apart = self.rng.random, self._index, self._apart
        for place, messages in said.items():
            to = places[place]
            if apart and (to in apart.get(index, ()) or index in apart.get(to, ())):
                continue
            if self._unlinked and (min(index, to), max(index, to)) in self._unlinked:
                continue
            data = encode_frame(messages)
            size = len(data)
            traffic.frames += 1
            traffic.bytes += size
            traffic.bytes_to[to] += size
            about_liveness = True
            for message in messages:
                kind = type(message).__name__
                about_liveness = about_liveness and kind in LIVENESS
                traffic.messages_of[kind] += 1
                traffic.bytes_of[kind] += (
                    size if len(messages) == 1 else len(encode_frame([message]))
                )
            at = now + DELAY_MIN_MS + int(chance() * (DELAY_MAX_MS - DELAY_MIN_MS + 1))
            if not self._loss or about_liveness or chance() >= self._loss:
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
        self._calls[self.now + self._handshake()].append((one, other))

    def _connect(self, one: int, other: int, arrived: defaultdict[int, list[Arrived]]) -> None:
        pair = (min(one, other), max(one, other))
        self._dialling.discard(pair)
        self._unlinked.discard(pair)
        if self.peers[one] is None or self.peers[other] is None:
            return
        for here, there in ((one, other), (other, one)):
            arrived[here].append((self.members[there].node_id, b""))
            strangers = self._apart.get(here, set())
            strangers.discard(there)
            if not strangers:
                self._apart.pop(here, None)

    def _handshake(self) -> int:
        return sum(self._delay() for _ in range(HANDSHAKE_DELAYS))

    def _delay(self) -> int:
        return self.rng.randint(DELAY_MIN_MS, DELAY_MAX_MS)


def some_partitions(rng: random.Random, nodes: int) -> bytes:
    """Return the bitmap of a node's fair share of partitions, drawn by chance."""
    share = min(PARTITIONS, PARTITIONS * REPLICAS // max(1, nodes))
    return packed(all_bits(rng.sample(range(PARTITIONS), max(1, share))))


def _member(rng: random.Random, index: int, nodes: int) -> Member:
    """Return the entry of a node as a cluster on a few racks would have it."""
    host = f"10.0.{index // 250}.{index % 250 + 1}"
    held = some_partitions(rng, nodes)
    return Member(
        rng.randbytes(8),
        f"node-{index + 1}",
        host,
        7400,
        f"rack-{index % ZONES}",
        1.0,
        1,
        1,
        rng.randbytes(8),
        held,
        held,
    )
