"""A cluster of cores in one thread: no sockets, no disk, no clock but ``now``.

What a node leaves in its outbox the world carries out in the order of core/outbox.py, one tick per
node in turn, until nobody has anything left to say. Tests say what goes wrong by plain sets and one
function:

    dead       processes that are gone: their peers know, since the connection broke
    silent     processes that hang: they hear nothing and say nothing, and nobody is told
    lose       (from, to, message) -> whether the network loses this message
    full       disks that take no writes
    unsynced   disks whose fsync has not ended yet
    unread     disks whose reads have not ended yet
    rotten     (node, disk key) whose bytes are damaged;  ``broken``: that the disk will not give

``watch`` is called after each round of ticks: there a test sees what is true halfway. Memory is
what the core holds; ``disk`` (copies) and ``state`` (members and bitmaps) what would be there after
kill -9.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from everwrite.core.cluster.holdings import all_bits, decode_held, encode_held, packed
from everwrite.core.cluster.members import (
    Known,
    MemberTable,
    decode_known,
    encode_known,
    founding,
)
from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.data import versions
from everwrite.core.data.epochs import Epochs
from everwrite.core.data.keys import data_key
from everwrite.core.data.versions import EMPTY, Record
from everwrite.core.gossip.rounds import MEMBERS
from everwrite.core.hints.kept import split_hint
from everwrite.core.messages.members import LEAVING, Member, News, Ruling
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, GetReply, Put, PutReply
from everwrite.core.moving.ranges import Scan, Scanned
from everwrite.core.node import Node
from everwrite.core.outbox import Place
from everwrite.core.records import CONFIRMED, FLOORS, HELD, HINT, OWN, STATE, Damaged
from everwrite.core.trees.walk import SCRUB

KEY = data_key(b"carts", b"alice")
SECRET = b"k" * 32
TIMEOUT_MS = 1000
STEP_MS = 20
WALL_MS = 1_700_000_000_000
"""What all machines' clocks of the day show beyond the time of the world."""

Loss = Callable[[bytes, Place, Message], bool]


class World:
    """See the module. Nodes know each other and are up; ``knobs`` are those of NodeConfig."""

    def __init__(self, nodes: int = 3, *, replicas: int = 3, **knobs: Any) -> None:
        self.ids: list[bytes] = []
        self.cluster = ClusterConfig(cluster_id=b"c" * 16, partitions=16, replicas=replicas)
        self.config = NodeConfig(**{"leaf_bits": 8, **knobs})
        self.now = 1_000_000
        self.disk: dict[bytes, dict[bytes, bytes]] = {}
        self.state: dict[bytes, dict[bytes, bytes]] = {}
        self.nodes: dict[bytes, Node] = {}
        self.dead: set[bytes] = set()
        self.silent: set[bytes] = set()
        self.full: set[bytes] = set()
        self.unsynced: set[bytes] = set()
        self.unread: set[bytes] = set()
        self.rotten: set[tuple[bytes, bytes]] = set()
        self.broken: set[tuple[bytes, bytes]] = set()
        self.leased: dict[bytes, int] = {}
        """The first epoch that a node's disk says nobody has leased, where that is not 1."""
        self.lose: Loss = lambda source, target, message: False
        self.watch: Callable[[], None] = lambda: None
        self.sent: list[tuple[bytes, Place, Message]] = []
        """All that went from one node to another, in order, lost or not."""
        self.answers: dict[int, list[Message]] = {}
        self._clients = 0
        self._waiting_acks: dict[bytes, list[tuple[Place, Message]]] = {}
        self._waiting_reads: dict[bytes, list[bytes]] = {}
        self._waiting_scans: dict[bytes, list[Scan]] = {}
        self._lives = 0
        for number in range(1, nodes + 1):
            self._install(number)
        self._found()
        for number, node in enumerate(self.ids):
            self._boot(node, run=number)
        self.meet()

    # -- what a client does ------------------------------------------------------------------------

    def send_put(self, node: bytes, value: bytes | None, **options: Any) -> int:
        """Send a put to a node and return the client's number; nothing has happened yet."""
        client = self._client()
        fields = {"key": KEY, "context": b"", "op": b"op%d" % client, "timeout_ms": TIMEOUT_MS}
        self.nodes[node].receive(client, Put(rid=client, value=value, **{**fields, **options}))
        return client

    def send_get(self, node: bytes, **options: Any) -> int:
        """Send a get to a node and return the client's number; nothing has happened yet."""
        client = self._client()
        fields = {"key": KEY, "timeout_ms": TIMEOUT_MS}
        self.nodes[node].receive(client, Get(rid=client, **{**fields, **options}))
        return client

    def put(self, node: bytes, value: bytes | None, **options: Any) -> PutReply:
        """Put, and return the answer that came without any time passing."""
        client = self.send_put(node, value, **options)
        self.run()
        return self.reply(client, PutReply)

    def get(self, node: bytes, **options: Any) -> GetReply:
        """Get, and return the answer that came without any time passing."""
        client = self.send_get(node, **options)
        self.run()
        return self.reply(client, GetReply)

    def reply(self, client: int, kind: type[Any]) -> Any:
        """Return the one answer that a client got; it must be of this kind."""
        (answer,) = self.answers[client]
        assert type(answer) is kind, answer
        return answer

    def failure(self, client: int) -> Failure:
        failure: Failure = self.reply(client, Failure)
        return failure

    def refused_put(self, node: bytes, value: bytes | None, **options: Any) -> Failure:
        """Put, and return the failure that came without any time passing."""
        client = self.send_put(node, value, **options)
        self.run()
        return self.failure(client)

    def refused_get(self, node: bytes, **options: Any) -> Failure:
        client = self.send_get(node, **options)
        self.run()
        return self.failure(client)

    # -- what goes wrong ---------------------------------------------------------------------------

    def kill(self, *nodes: bytes) -> None:
        """End processes: what they had not written is gone, and their peers see it at once."""
        for node in nodes:
            self.dead.add(node)
            self._waiting_acks[node].clear()
            self._waiting_reads[node].clear()
            self._waiting_scans[node].clear()
            for other in self.ids:
                if other not in self.dead:
                    self.nodes[other].local.now = self.now
                    self.nodes[other].lost(node)

    def start(self, *nodes: bytes) -> None:
        """Start dead processes again from their disks; all meet."""
        for node in nodes:
            self.dead.discard(node)
            self._boot(node, run=self.now)
        self.meet()

    def meet(self) -> None:
        """Let all nodes that run hear each other, and say what they then have to say."""
        for node in self._running():
            for other in self._running():
                if other != node:
                    self.nodes[node].local.now = self.now
                    self.nodes[node].heard(other)
        self.run()

    # -- what operators do -------------------------------------------------------------------------

    def join(self) -> bytes:
        """Start a node that nobody knows yet, and that wants in; return its id."""
        node = self._install(len(self.ids) + 1)
        self._boot(node, run=self.now)
        self.nodes[node].rounds.wants_in = True
        self.meet()
        return node

    def rule(self, by: bytes, node: bytes, standing: int) -> None:
        """Say at a node what another one is to the cluster; nothing has happened yet."""
        members = self.nodes[by].local.members
        known = members.rulings[node]
        ruling = Ruling(
            node, known.name, standing, known.zone, known.weight, members.next_stamp(), b"plan"
        )
        self.nodes[by].local.now = self.now
        self.nodes[by].rounds.publish(News([], [ruling]))

    # -- what stands where -------------------------------------------------------------------------

    def order(self, key: bytes = KEY) -> list[bytes]:
        """Return all nodes as the key prefers them: the first ``replicas`` own it."""
        placement = self.nodes[self.ids[0]].local.routes.placement
        return list(placement.preference[placement.partition_of(key)])

    def record(self, node: bytes, key: bytes = KEY) -> Record:
        """Return what a node's disk has of a key as its owner."""
        payload = self.disk[node].get(OWN + key)
        return versions.decode(payload[8:]) if payload is not None else EMPTY

    def values(self, node: bytes, key: bytes = KEY) -> list[bytes | None]:
        """Return the siblings on a node's disk, tombstones as None, sorted."""
        found = [version.value for version in self.record(node, key).siblings]
        return sorted(found, key=lambda value: (value is None, value or b""))

    def hint(self, node: bytes, key: bytes = KEY) -> tuple[list[bytes], list[bytes | None]]:
        """Return for whom a node's disk keeps a copy of a key, and its siblings."""
        payload = self.disk[node].get(HINT + key)
        if payload is None:
            return [], []
        _, owners, data = split_hint(payload)
        return list(owners), [version.value for version in versions.decode(data).siblings]

    def held(self, node: bytes) -> tuple[int, int]:
        """Return what a node's disk says that it serves and keeps, as bitmaps."""
        return decode_held(self.state[node][HELD])

    def messages(self, kind: type[Any], *, to: Place | None = None) -> list[Any]:
        """Return the messages of a kind that nodes have sent to others (or to one of them)."""
        return [
            message
            for _, target, message in self.sent
            if type(message) is kind and to in (None, target)
        ]

    # -- time --------------------------------------------------------------------------------------

    def advance(self, ms: int) -> None:
        """Let this time pass."""
        end = self.now + ms
        while self.now < end:
            self.now = min(self.now + STEP_MS, end)
            for node in self._running():
                self.nodes[node].local.now = self.now
                self.nodes[node].local.clock.own(self.now, self.now)
                self.nodes[node].local.placer.step()
                self.nodes[node].wake()
            self.run()

    def until(self, holds: Callable[[], bool], ms: int = 60_000) -> None:
        """Let time pass until something holds; it must within this time."""
        end = self.now + ms
        while not holds():
            assert self.now < end, "it never came to hold"
            self.advance(STEP_MS)

    def settle(self, ms: int = 60_000) -> None:
        """Let time pass until no node that runs has anything left to move, nor to tell."""
        self.until(self.settled, ms)

    def settled(self) -> bool:
        """Say whether all that runs and belongs here knows the same, and moves nothing."""
        running = [self.nodes[node] for node in self._running()]
        here = [node for node in running if not node.rounds.out_for_good]
        standings = {ruling.standing for ruling in here[0].local.members.rulings.values()}
        known = {node.local.members.digest() for node in here}
        return (
            len(known) == 1
            and LEAVING not in standings
            and not any(node.moves.busy for node in here)
        )

    def run(self) -> None:
        """Go on until nobody has anything left to do in this moment."""
        for _ in range(10_000):
            busy = [node for node in self._running() if self._tick(node)]
            if not busy:
                return
            self.watch()
        raise AssertionError("the nodes never come to rest")

    # -- parts -------------------------------------------------------------------------------------

    def _install(self, number: int) -> bytes:
        """Give a node a disk, with its entry on it."""
        node = bytes((number,)) * 8
        me = Member(
            node, f"n{number}", "127.0.0.1", 7400 + number, f"z{number}", 1.0, 0, 1, b"", b"", b""
        )
        self.disk[node] = {}
        self.state[node] = {MEMBERS: encode_known(MemberTable(me))}
        self._waiting_acks[node], self._waiting_reads[node] = [], []
        self._waiting_scans[node] = []
        self.ids.append(node)
        return node

    def _found(self) -> None:
        """Let the nodes found the cluster together: each serves what it owns."""
        entries = [self._known(node).entries[0] for node in self.ids]
        candidates = [Candidate(each.node_id, each.zone, each.weight) for each in entries]
        owned = place(candidates, self.cluster.partitions, self.cluster.replicas).owned()
        holding = []
        for entry in entries:
            bits = all_bits(owned[entry.node_id])
            held = packed(bits)
            holding.append(replace(entry, serves=held, keeps=held))
            self.state[entry.node_id][HELD] = encode_held(bits, bits)
        for entry in holding:
            table = MemberTable(entry, holding, founding(holding))
            self.state[entry.node_id][MEMBERS] = encode_known(table)

    def _known(self, node: bytes) -> Known:
        return decode_known(self.state[node][MEMBERS])

    def _boot(self, node: bytes, run: int) -> None:
        """Begin a life of a node from its disk."""
        known, held = self._known(node), self.state[node].get(HELD)
        serves, keeps = decode_held(held) if held else (0, 0)
        (mine,) = (entry for entry in known.entries if entry.node_id == node)
        self._lives += 1
        me = replace(
            mine,
            incarnation=mine.incarnation + 1,
            version=1,
            life=self._lives.to_bytes(8, "big"),
            serves=packed(serves),
            keeps=packed(keeps),
        )
        epochs = Epochs(node, self.leased.get(node, 1), run % (1 << 24))
        table = MemberTable(me, known.entries, known.rulings, known.draft)
        started = Node(self.config, self.cluster, table, epochs, SECRET, self.now, wall_ms=self.now)
        started.local.clock.own(self.now, self.now)
        self.state[node][MEMBERS] = encode_known(table)
        kept = self.state[node]
        started.confirmations.restore(kept.get(FLOORS, b""), kept.get(CONFIRMED, b""))
        if not any(key.startswith(OWN) for key in self.disk[node]):
            started.local.trees.empty()
        started.walk.restore(self.state[node].get(SCRUB, b""))
        started.hints.count()
        self.nodes[node] = started

    def _client(self) -> int:
        self._clients += 1
        self.answers[self._clients] = []
        return self._clients

    def _running(self) -> list[bytes]:
        return [node for node in self.ids if node not in self.dead and node not in self.silent]

    def _tick(self, me: bytes) -> bool:
        """Carry out one node's outbox; return whether there was anything in it."""
        node = self.nodes[me]
        node.local.now = self.now
        out = node.out
        waiting = self._waiting_reads[me] or self._waiting_scans[me]
        finished_reads = waiting and me not in self.unread
        finished_syncs = self._waiting_acks[me] and me not in self.unsynced
        if not out and not finished_reads and not finished_syncs:
            return False
        self._commit(me)
        self._waiting_reads[me] += out.reads
        out.reads.clear()
        self._waiting_scans[me] += out.scans
        out.scans.clear()
        sends, out.sends = out.sends, {}
        if me not in self.unsynced:
            for place, message in self._waiting_acks[me]:
                sends.setdefault(place, []).append(message)
            self._waiting_acks[me].clear()
        for place, messages in sends.items():
            self._deliver(me, place, messages)
        if me not in self.unread:
            keys, self._waiting_reads[me] = self._waiting_reads[me], []
            for key in keys:
                self._load(me, key)
            scans, self._waiting_scans[me] = self._waiting_scans[me], []
            for scan in scans:
                self._scan(me, scan)
        node.local.records.turn()
        return True

    def _commit(self, me: bytes) -> None:
        out = self.nodes[me].out
        writes, on_write, on_sync = out.writes, out.on_write, out.on_sync
        out.writes, out.on_write, out.on_sync = {}, [], []
        if writes and me in self.full:
            self.nodes[me].write_failed(writes, on_write + on_sync)
            return
        for key, payload in writes.items():
            self.rotten.discard((me, key))
            kept = self.state[me] if key.startswith(STATE) else self.disk[me]
            if payload is None:
                kept.pop(key, None)
            else:
                kept[key] = payload
        for target, message in on_write:
            out.send(target, message)
        self._waiting_acks[me] += on_sync

    def _deliver(self, me: bytes, place: Place, messages: list[Message]) -> None:
        if isinstance(place, int):
            self.answers[place] += messages
            return
        if place != me:
            self.sent += [(me, place, message) for message in messages]
            messages = [message for message in messages if not self.lose(me, place, message)]
            if not messages or place in self.dead or place in self.silent:
                return
            self.nodes[place].local.now = self.now
            self.nodes[place].heard(me)
        for message in messages:
            self.nodes[place].receive(me, message)

    def _load(self, me: bytes, key: bytes) -> None:
        node = self.nodes[me]
        if (me, key) in self.rotten:
            node.unreadable(key, "the checksum is wrong", corrupt=True)
        elif (me, key) in self.broken:
            node.unreadable(key, "input/output error", corrupt=False)
        else:
            node.loaded(key, self.disk[me].get(key))

    def _scan(self, me: bytes, scan: Scan) -> None:
        node, disk = self.nodes[me], self.disk[me]
        keys = sorted(key for key in disk if scan.start <= key < scan.end)
        if any((me, key) in self.broken for key in keys):
            node.unscanned(scan.rid, "input/output error")
            return
        pairs: list[tuple[bytes, bytes | Damaged]] = []
        size = 0
        for key in keys:
            if len(pairs) >= scan.keys or size >= scan.size:
                break
            rotten = (me, key) in self.rotten
            pairs.append((key, Damaged("the checksum is wrong", True) if rotten else disk[key]))
            size += len(disk[key])
        node.scanned(scan.rid, Scanned(pairs, len(pairs) < len(keys)))
