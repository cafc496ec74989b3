"""An arena: simulated machines without faults of their own and without judges, for much traffic.

The machines are those of ``sim/machine.py`` with their disks, so a real core behind the driver's
order of effects. The network is a calm one: links keep their order, as TCP does. In place of the
judges there is a tally (traffic.py), told of every frame.

Costs: 60 us for each frame.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Sequence
from math import log
from typing import Any, Protocol

import msgspec

from everwrite.core.cluster.holdings import all_bits, packed
from everwrite.core.cluster.members import Known, founding
from everwrite.core.cluster.placement import Candidate, place
from everwrite.core.config import ClusterConfig, NodeConfig
from everwrite.core.messages.members import Member
from everwrite.core.messages.message import Message
from everwrite.core.wire import encode_frame
from everwrite.sim.disk import Disk, Held, Payload
from everwrite.sim.machine import Machine

NEAR_US, SPREAD_US = 200, 100
"""One way between any two machines: at least, and the mean of what comes on top (one data centre).
"""
SYNC_US = 500
"""Mean of an fsync, and of a read that is not in memory."""
EPOCH_BLOCK = 1 << 20

Mark = tuple[Any, int]
"""An operation that a message belongs to, and how many hops it was under way when that arrives."""


class Tally(Protocol):
    """Who counts what is carried."""

    def sent(self, source: int, to: int, messages: Sequence[Message], size: int) -> list[Mark]:
        """A frame goes from one machine to another."""

    def arrived(self, to: int, marks: Sequence[Mark]) -> None:
        """It is there."""


class Caller(Protocol):
    """A client with a connection to every machine; its number stands for all of them."""

    def receive(self, machine: int, messages: Sequence[Message]) -> None:
        """An answer came."""

    def broken(self, machine: int) -> None:
        """The connection to a machine broke."""


class Unwitnessed:
    """Takes no note of what becomes of the payloads on a disk."""

    def wrote(self, index: int, key: bytes, payload: Payload, before: Held | None) -> int:
        return 0

    def refused(self, index: int, key: bytes, payload: Payload, before: Held | None) -> None:
        """Nobody asks."""

    def synced(self, index: int, key: bytes, known: int) -> None:
        """Nobody asks."""

    def dropped(self, index: int, key: bytes, held: Held | None) -> None:
        """Nobody asks."""


class Arena:
    """See the module."""

    def __init__(self, nodes: int, partitions: int, replicas: int, seed: int, tally: Tally) -> None:
        self.now = 0
        self.tally = tally
        self.callers: dict[int, Caller] = {}
        """By the number of their connection."""
        self.silent: set[int] = set()
        """Machines that nobody hears and that hear nobody."""
        self._rng = rng = random.Random(f"{seed}/arena")
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._last: dict[tuple[int, int], int] = {}
        members = [
            Member(rng.randbytes(8), f"n{i + 1}", "127.0.0.1", 7401 + i, f"zone {i}", 1.0, 0, 1)
            for i in range(nodes)
        ]
        self._ring = place(
            [Candidate(each.node_id, each.zone, each.weight) for each in members],
            partitions,
            replicas,
        )
        owned = {node: packed(all_bits(held)) for node, held in self._ring.owned().items()}
        members = [
            msgspec.structs.replace(each, serves=owned[each.node_id], keeps=owned[each.node_id])
            for each in members
        ]
        cluster = ClusterConfig(
            cluster_id=b"arena".ljust(16), partitions=partitions, replicas=replicas
        )
        self.machines = [
            Machine(
                self,
                i,
                members[i],
                members,
                NodeConfig(place_at_once=1 << 30),
                cluster,
                Disk(i, Unwitnessed(), random.Random(f"{seed}/disk {i}")),
                random.Random(f"{seed}/machine {i}"),
                disk_us=SYNC_US,
                epoch_block=EPOCH_BLOCK,
            )
            for i in range(nodes)
        ]
        self._index = {member.node_id: i for i, member in enumerate(members)}

    def boot(self) -> None:
        """Start all machines within the time between two pings."""
        every = self.machines[0].config.ping_every_ms
        for machine in self.machines:
            self.later(self._rng.randrange(every * 1000), machine.start)

    # -- what a machine needs of its world ---------------------------------------------------------

    def later(self, delay_us: int, action: Callable[..., None], *arguments: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_us, self._sequence, action, arguments))

    def send(self, source: int, to: bytes, messages: list[Message]) -> None:
        index = self._index[to]
        data = encode_frame(messages)
        marks = self.tally.sent(source, index, messages, len(data))
        self._carry(source, index, self._deliver, source, index, data, marks)

    def answer(self, source: int, connection: int, messages: list[Message]) -> None:
        if source not in self.silent:
            caller = self.callers[connection]
            self._carry(source, ~connection, caller.receive, source, messages)

    def ticked(self, index: int) -> None:
        """Clusters of this size are measured, not judged."""

    def known(self) -> Known:
        """Return the members as they were founded: no disk is lost here, nobody comes or goes."""
        members = [machine.me for machine in self.machines]
        return Known(members, founding(members))

    def served(self, index: int, partitions: int) -> None:
        """Nothing moves."""

    def members_changed(self, index: int) -> None:
        """Nobody asks."""

    def machine_stopped(self, index: int) -> None:
        """Its connections break: nodes and clients notice at once."""
        me = self.machines[index].me.node_id
        for other in self.machines:
            if other.index != index:
                self.later(self._delay(), other.lost, me)
        for caller in self.callers.values():
            self.later(self._delay(), caller.broken, index)

    def machine_started(self, index: int) -> None:
        """A node that starts connects to all others."""
        for other in self.machines:
            if other.index != index and other.node is not None:
                self._carry(index, other.index, self._deliver, index, other.index, b"", [])
                self._carry(other.index, index, self._deliver, other.index, index, b"", [])

    # -- for those who use it ----------------------------------------------------------------------

    def request(self, connection: int, machine: int, message: Message) -> None:
        """Send a client's request to a machine."""
        self._carry(~connection, machine, self._requested, connection, machine, message)

    def run(self, for_us: int, done: Callable[[], bool] | None = None) -> bool:
        """Let time pass, or until ``done`` (asked now and then); return whether it was done."""
        until, queue, pop, turns = self.now + for_us, self._queue, heapq.heappop, 0
        while queue and queue[0][0] <= until:
            self.now, _, action, arguments = pop(queue)
            action(*arguments)
            turns += 1
            if done is not None and not turns & 255 and done():
                return True
        self.now = until
        return done is not None and done()

    def owners(self, key: bytes) -> list[int]:
        """Return the machines that own a key, as a client that knows the ring would."""
        ring = self._ring
        return [self._index[each] for each in ring.owners(ring.partition_of(key))]

    def up(self) -> list[int]:
        """Return the machines that run and can be reached."""
        return [
            machine.index
            for machine in self.machines
            if machine.node is not None and machine.index not in self.silent
        ]

    # -- the network -------------------------------------------------------------------------------

    def _carry(self, source: int, to: int, action: Callable[..., None], *arguments: Any) -> None:
        at = max(self.now + self._delay(), self._last.get((source, to), 0) + 1)
        self._last[source, to] = at
        self.later(at - self.now, action, *arguments)

    def _delay(self) -> int:
        return NEAR_US - int(SPREAD_US * log(1.0 - self._rng.random()))

    def _deliver(self, source: int, to: int, data: bytes, marks: Sequence[Mark]) -> None:
        if source in self.silent or to in self.silent:
            return
        self.tally.arrived(to, marks)
        self.machines[to].arrive(self.machines[source].me.node_id, data)

    def _requested(self, connection: int, machine: int, message: Message) -> None:
        if self.machines[machine].node is None:
            self.callers[connection].broken(machine)
        elif machine not in self.silent:
            self.machines[machine].arrive(connection, encode_frame([message]))
