"""The world: virtual time, one queue of events, and everything in it that one seed made.

    boot -> chaos: clients work, the plan of faults strikes -> heal: all faults end, all nodes are
    up -> calm: hints are home, requests have ended -> audit: every key is read from all its owners
    until they agree -> judged

Time is in microseconds and moves only from event to event. Every draw comes from a stream of the
seed, and nothing iterates over a set of strings, so a seed is a run, to the byte: ``trace`` is a
digest of all frames in their order, the same in any process.

Costs: an event is a heap operation (1 us) and what it does; a tick of a core takes 10 to 50 us.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import xxhash

from everwrite.core.cluster.holdings import all_bits, packed, partitions_in
from everwrite.core.cluster.members import Known, founding
from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.config import ClusterConfig
from everwrite.core.data.keys import data_key
from everwrite.core.messages.members import IN, LEAVING, Member
from everwrite.core.messages.message import Message
from everwrite.core.wire import encode_frame
from everwrite.sim.bounds import EVERY, judge_tables, siblings_max, unfinished
from everwrite.sim.changes import Changes
from everwrite.sim.clients import Caller, Client
from everwrite.sim.collected import Collected
from everwrite.sim.disk import Disk
from everwrite.sim.fences import Fences
from everwrite.sim.health import Health
from everwrite.sim.history import Operation
from everwrite.sim.ledger import Ledger
from everwrite.sim.machine import STALL_TAIL_US, Machine
from everwrite.sim.nemesis import Nemesis
from everwrite.sim.network import Network
from everwrite.sim.options import Fault, Options, plan, stream
from everwrite.sim.proof import Proofs
from everwrite.sim.rest import judge_left
from everwrite.sim.retries import judge_second_mint
from everwrite.sim.told import Told
from everwrite.sim.touches import Touches
from everwrite.sim.truth import KeyLedger, Violation
from everwrite.sim.typed.workload import open_keys, share_out, typed_clients

CALM_WITHIN_US = 120_000_000
"""Virtual time after the heal in which hints must be home: many times the longest time-out."""

BUCKET = b"carts"

Event = tuple[int, int, Callable[..., None], tuple[Any, ...]]


class World:
    """See the module."""

    def __init__(self, options: Options, faults: list[Fault] | None = None) -> None:
        self.options = options
        self.now = 0
        self.events = 0
        self.healed = False
        self.faults: Counter[str] = Counter()
        self.history: list[Operation] = []
        self.overheard: Callable[[int, int, list[Message]], None] | None = None
        """Hears all that nodes say to each other, while somebody listens."""
        self._queue: list[Event] = []
        self._sequence = 0
        self._trace = xxhash.xxh3_64()
        self._connections: dict[int, tuple[Caller, int]] = {}
        """Connection -> who made it, to which machine. Numbers are never used again."""
        self._connected: dict[tuple[str, int], int] = {}
        self.asked_before: set[int] = set()
        """Requests that were open when somebody began to wait until the cluster is at rest."""
        self.ledger = Ledger(options.machines)
        self.ledger.now = lambda: self.now
        self.ledger.changing = options.changes_ms > 0
        self.ledger.siblings_max = siblings_max(options.knobs)
        self.network = Network(
            options, stream(options.seed, "network"), self.later, self.count, self._deliver
        )
        self.network.keep_time(lambda: self.now)
        self.machines = self._make_machines()
        self.proofs = Proofs(self)
        self.fences = Fences(self)
        self._index = {machine.me.node_id: machine.index for machine in self.machines}
        self.ledger.owners = self.owners_seen
        self.ledger.node_ids = [machine.me.node_id for machine in self.machines]
        self.keys = self._open_keys()
        self.typed_keys = open_keys(self, BUCKET)
        self.clients: list[Client] = [
            Client(self, f"c{i}", stream(options.seed, f"client {i}"), self.keys)
            for i in range(options.clients)
        ]
        self.clients += typed_clients(self)
        self.nemesis = Nemesis(self)
        self.ledger.collected = Collected(self)
        self.ledger.touches = self.touches = Touches(self)
        self.ledger.minted_twice = partial(judge_second_mint, self)
        self.told = Told(self)
        self.ledger.minted, self.ledger.unfound = self.told.minted, self.told.unfound
        self.health = Health(self)
        self.struck = self.health.struck
        self.network.upset, self.network.failed = self.health.link_changed, self.health.lost
        self.plan = plan(options) if faults is None else faults

    def _make_machines(self) -> list[Machine]:
        options, rng = self.options, stream(self.options.seed, "machines")
        cluster = ClusterConfig(
            cluster_id=b"simulated".ljust(16),
            partitions=options.partitions,
            replicas=options.replicas,
        )
        members = _drawn(options, rng)
        founders = members[: options.nodes]
        self.placement = place(
            [Candidate(member.node_id, member.zone, member.weight) for member in founders],
            options.partitions,
            options.replicas,
        )
        owned = {node: packed(all_bits(held)) for node, held in self.placement.owned().items()}
        members = [
            msgspec.structs.replace(
                member,
                serves=owned.get(member.node_id, b""),
                keeps=owned.get(member.node_id, b""),
            )
            for member in members
        ]
        founders = members[: options.nodes]
        self.changes = Changes(self, founding(founders))
        machines = []
        for i in range(options.machines):
            own = stream(options.seed, f"machine {i}")
            disk = Disk(i, self.ledger, stream(options.seed, f"disk {i}"))
            machine = Machine(
                self,
                i,
                members[i],
                founders,
                options.config(),
                cluster,
                disk,
                own,
                disk_us=options.disk_us,
                epoch_block=options.epoch_block,
            )
            machine.spare = machine.gone = i >= options.nodes
            machine.clock_offset_ms = own.randrange(10**9)
            if "clock_drift" in options.faults:
                # A node alone goes by its own clock: what ends by it must not be off by seconds.
                most = 5_000 if options.ttl_share or options.touch_share else 50_000
                machine.clock_ppm = 1_000_000 + own.randint(-most, most)
                self.count("clock_drift")
            machines.append(machine)
        return machines

    def _open_keys(self) -> list[KeyLedger]:
        names = [f"cart{i}" for i in range(self.options.keys)]
        return [self.ledger.open_key(data_key(BUCKET, name.encode()), name) for name in names]

    @property
    def all_keys(self) -> list[KeyLedger]:
        """All keys: first those that are data types, since plain ones may be added."""
        return [*self.typed_keys, *self.keys]

    def index_of(self, node_id: bytes) -> int:
        """Return the number of the machine of a node."""
        return self._index[node_id]

    def owners(self, data_key: bytes, n: int) -> list[int]:
        """Return the machines that own a key; n = 0: the default number of them."""
        preference = self.placement.preference[self.placement.partition_of(data_key)]
        return [self._index[node] for node in preference[: n or self.placement.replicas]]

    def serving(self, data_key: bytes, n: int) -> list[int]:
        """Return the owners of a key that serve it, and where members change all who do."""
        owners = self.owners(data_key, n)
        if not self.options.changes_ms:
            return [index for index in owners if self.serves(index, data_key)]
        return [each.index for each in self.machines if self.serves(each.index, data_key)]

    def serves(self, index: int, data_key: bytes) -> bool:
        """Say whether a machine's copies of a key count in quorums."""
        node = self.machines[index].node
        return node is not None and bool(
            node.local.serves >> self.placement.partition_of(data_key) & 1
        )

    # -- time --------------------------------------------------------------------------------------

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        """Have ``action(*arguments)`` done after a delay; what is asked first is done first."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_us, self._sequence, action, arguments))

    def run(self, until: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until then, or until ``done`` (asked now and then); return whether it was
        done.
        """
        queue, pop = self._queue, heapq.heappop
        while queue and queue[0][0] <= until:
            self.now, _, action, arguments = pop(queue)
            self.events += 1
            action(*arguments)
            if done is not None and not self.events & 31 and done():
                return True
        if done is not None and done():
            return True
        self.now = max(self.now, until)
        return False

    @property
    def trace(self) -> str:
        """A digest of everything that was carried so far, and when."""
        return self._trace.hexdigest()

    def count(self, what: str) -> None:
        """Count a fault that happened."""
        self.faults[what] += 1

    # -- frames ------------------------------------------------------------------------------------

    def send(self, source: int, to: bytes, messages: list[Message]) -> None:
        self.told.sent(source, self._index[to], messages)
        if self.overheard is not None:
            self.overheard(source, self._index[to], messages)
        self.network.send(source, self._index[to], messages)

    def _deliver(self, source: int, to: int, data: bytes) -> None:
        self._trace.update(b"%d %d %d " % (self.now, source, to))
        self._trace.update(data)
        self.fences.bring(self.machines[source], self.machines[to], data)

    def owners_seen(self, index: int, data_key: bytes) -> list[int]:
        """Return the machines that own a key in the eyes of a machine."""
        node = self.machines[index].node
        if node is None:
            return self.owners(data_key, 0)
        placement = node.local.routes.placement
        owners = placement.owners(placement.partition_of(data_key))
        return [self._index[owner] for owner in owners]

    def doors(self) -> list[int]:
        """Return the machines that a client may try: who is no spare, and not gone for good."""
        there = [each.index for each in self.machines if not each.spare and not each.retired]
        return there or [0]

    def connect(self, caller: Caller, machine: int) -> int:
        """Return the number of a connection to a machine, made when there is none."""
        known = self._connected.get((caller.name, machine))
        if known is None:
            known = len(self._connections) + 1
            self._connected[caller.name, machine] = known
            self._connections[known] = caller, machine
        return known

    def request(self, connection: int, message: Message) -> None:
        self.told.requested(connection, self._connections[connection][1], message)
        self.health.requested(connection, self._connections[connection][1], message)
        self.later(
            self.network.client_delay(), self._requested, connection, encode_frame([message])
        )

    def _requested(self, connection: int, data: bytes) -> None:
        machine = self.machines[self._connections[connection][1]]
        if self._is_open(connection) and machine.node is not None:
            self._trace.update(b"%d c%d " % (self.now, connection))
            self._trace.update(data)
            machine.arrive(connection, data)
        else:
            self._refuse(connection)

    def answer(self, source: int, connection: int, messages: list[Message]) -> None:
        if not self._is_open(connection):
            return
        for message in messages:
            self.ledger.answering(connection, message)
            self.touches.answering(connection, message)
            self.told.answering(source, connection, message)
            self.health.answering(connection, message)
        self.later(self.network.client_delay(), self._answered, connection, encode_frame(messages))

    def _answered(self, connection: int, data: bytes) -> None:
        if self._is_open(connection):
            self._trace.update(b"%d a%d " % (self.now, connection))
            self._trace.update(data)
            self._connections[connection][0].receive(connection, data)

    def _is_open(self, connection: int) -> bool:
        client, machine = self._connections[connection]
        return self._connected.get((client.name, machine)) == connection

    def _refuse(self, connection: int) -> None:
        client, machine = self._connections[connection]
        if self._is_open(connection):
            del self._connected[client.name, machine]
        client.broken(connection)

    def ticked(self, index: int) -> None:
        """Look at the tables of a node now and then."""
        machine = self.machines[index]
        self.proofs.ticked(machine)
        if not machine.ticks % EVERY:
            judge_tables(machine)
            self.health.judge_views(index)
            self.health.sweep()

    # -- machines that come and go -----------------------------------------------------------------

    def known(self) -> Known:
        """Return the members as they are now, each as it is known where it is known best."""
        entries: dict[bytes, Member] = {}
        for machine in self.members:
            entries[machine.me.node_id] = machine.me
        for machine in self.members:
            for entry in machine.node.local.members if machine.node is not None else ():
                known = entries.get(entry.node_id)
                if known is not None and (entry.incarnation, entry.version) > (
                    known.incarnation,
                    known.version,
                ):
                    entries[entry.node_id] = entry
        rulings = self.changes.rulings
        return Known(
            [entries[node_id] for node_id in sorted(entries)],
            [rulings[node_id] for node_id in sorted(rulings)],
        )

    def served(self, index: int, partitions: int) -> None:
        for partition in partitions_in(partitions):
            self.proofs.served(self.machines[index], partition)

    def members_changed(self, index: int) -> None:
        self.changes.hear(self.machines[index])
        judge_left(self.machines[index])

    @property
    def members(self) -> list[Machine]:
        """The machines that belong to the cluster now, or are about to leave it."""
        return [
            machine for machine in self.machines if self.changes.standing(machine) in (IN, LEAVING)
        ]

    def machine_stopped(self, index: int) -> None:
        """Connections break: peers notice at once unless the network hides it; clients do too."""
        self.health.changed(index)
        me = self.machines[index].me.node_id
        for other in self.machines:
            if other.index != index and not self.network.is_cut(index, other.index):
                self.later(self.network.client_delay(), self._notice_lost, other.index, me)
        for client in self.clients:
            connection = self._connected.pop((client.name, index), None)
            if connection is not None:
                self.later(self.network.client_delay(), client.broken, connection)

    def _notice_lost(self, index: int, peer: bytes) -> None:
        self.machines[index].lost(peer)

    def machine_started(self, index: int) -> None:
        """A node that starts connects to all others."""
        self.health.changed(index)
        for other in self.machines:
            if other.index != index:
                self._connect_soon(index, other.index)
                self._connect_soon(other.index, index)

    def break_link(self, one: int, other: int) -> None:
        """Break the connection between two machines; it is made again soon."""
        for here, there in ((one, other), (other, one)):
            self.health.link_changed((here, there))
            self.later(
                self.network.client_delay(),
                self._notice_lost,
                here,
                self.machines[there].me.node_id,
            )
            self.later(50_000, self._connect_soon, here, there)

    def _connect_soon(self, source: int, to: int) -> None:
        self.later(self.network.client_delay(), self._connect, source, to)

    def _connect(self, source: int, to: int) -> None:
        if self.machines[source].node is not None and not self.network.is_cut(source, to):
            self.fences.bring(self.machines[source], self.machines[to], b"")

    # -- phases ------------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start all nodes, and plan everything that happens to them."""
        rng = random.Random(self.options.seed)
        for machine in self.machines:
            self.later(rng.randrange(20_000), machine.start)
        share_out(self, self.options.operations)
        for client in self.clients:
            self.later(60_000 + rng.randrange(20_000), client.begin)
        for fault in self.plan:
            self.later(100_000 + fault.at_us, self.nemesis.strike, fault)

    def chaos(self) -> None:
        """Let clients and faults work until the clients are done or the time is over."""
        self.run(100_000 + self.options.chaos_ms * 1000, self.clients_done)
        for client in self.clients:
            client.left = 0

    def clients_done(self) -> bool:
        """Whether no client has anything left to do."""
        return all(client.left <= 0 and not client.busy for client in self.clients)

    def heal(self) -> None:
        """End all faults, and wait until the cluster has nothing left to do."""
        self.healed = True
        self.nemesis.heal()
        self.health.all_changed()
        self.run(self.now + 2 * STALL_TAIL_US)  # who stood still takes what it reads for late
        # What is still under way may bring anything, even a write that nobody counts on any more.
        self.run(self.network.quiet_at)
        self.run(self.now + CALM_WITHIN_US, self._all_run)
        self.changes.settle()
        self.come_to_rest(CALM_WITHIN_US, lambda: self.clients_done() and self.calm())
        if not self.calm():
            raise Violation("calm", f"after {CALM_WITHIN_US / 1e6:.0f} s {self.unrest()}")

    def _all_run(self) -> bool:
        return all(machine.node is not None or machine.gone for machine in self.machines)

    def come_to_rest(self, within_us: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass until the cluster is calm, or until ``done``, which asks for that too;
        return whether it was.

        A cluster at rest goes on asking whether it is, and so many nodes that there may be no
        moment in which none of them does. So each request that is open now must end; of those made
        later only what is not made again and again.
        """
        nodes = [machine.node for machine in self.machines if machine.node is not None]
        self.asked_before = {rid for node in nodes for rid in node.local.requests}
        return self.run(self.now + within_us, done or self.calm)

    def calm(self) -> bool:
        """Whether no node has anything left to do."""
        return not self.unrest()

    def unrest(self) -> str:
        """Return what a node still has to do, in words; empty if no node has."""
        members = self.members
        for machine in members:
            node = machine.node
            if node is None:
                return f"node {machine.index + 1} is down"
            local = node.local
            if node.hints.notes or node.hints.waiting:
                return f"node {machine.index + 1} still keeps {node.hints.notes} hints"
            if node.hints.uncertain:
                return f"node {machine.index + 1} is not sure of all its hints"
            if left := unfinished(node, self.asked_before):
                return f"node {machine.index + 1} still has {left} open requests"
            if parked := local.records.parked_count:
                return f"node {machine.index + 1} still has {parked} messages waiting for the disk"
            if self.changes.standing(machine) == LEAVING and not local.routes.owned:
                return f"node {machine.index + 1} has not left: {node.moves.progress()}"
            if not {each.me.node_id for each in members} <= local.liveness.up | {local.me}:
                return f"node {machine.index + 1} does not see all others"
            if node.moves.busy:
                return f"node {machine.index + 1} has partitions to move: {node.moves.progress()}"
            if local.trees.any_wrong:
                return f"node {machine.index + 1} still makes leaves of its tree anew"
            if local.out:
                return f"node {machine.index + 1} has not sent everything"
        views = {machine.node.local.members.digest() for machine in members if machine.node}
        if self.options.changing and len(views) > 1:
            return "the nodes do not agree on the members yet"
        for machine in members:
            if machine.node is not None and machine.node.local.routes.moving():
                return f"node {machine.index + 1} has not heard that all owners serve"
        return ""


def _drawn(options: Options, rng: random.Random) -> list[Member]:
    """Return the members at first, and those who may join, before anything was ruled on them."""
    return [
        Member(
            rng.randbytes(8),
            f"n{i + 1}",
            "127.0.0.1",
            7401 + i,
            f"zone {i % options.zones}",
            rng.choice((0.5, 1.0, 2.0)) if options.weighted else 1.0,
            0,
            1,
        )
        for i in range(options.machines)
    ]
