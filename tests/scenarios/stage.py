"""A stage for one fault at a time: a simulated cluster, and plain steps for what happens to it.

The cluster is the simulator's (``everwrite.sim``), without its dice: no random faults, no random
clients, one seed. Tests say in order what clients ask and what breaks. The simulator's white-box
judge watches as in any seed: a wrong merge, a dot that stands for two writes, an answer that claims
too much raises ``Violation`` at the step that shows it. ``settle`` ends all faults and holds the
cluster to everything that the simulator asks of one at rest.

Nodes are numbered from 1, times are virtual. A write is named by its id, which is its value too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.scenarios.audience import NOTHING, Audience, Call

from everwrite.core.cluster.holdings import partitions_in
from everwrite.core.data import versions
from everwrite.core.data.versions import EMPTY, Record
from everwrite.core.messages.members import REMOVED
from everwrite.core.messages.requests import Get, Put
from everwrite.core.node import Node
from everwrite.core.records import HINT, OWN
from everwrite.sim.audit import Auditor
from everwrite.sim.checkers import check_history
from everwrite.sim.disk import ROTTEN
from everwrite.sim.fuse import Fuse
from everwrite.sim.history import Operation
from everwrite.sim.machine import Machine
from everwrite.sim.options import draw
from everwrite.sim.run import allowed
from everwrite.sim.truth import Knowledge
from everwrite.sim.world import World

scenario = pytest.mark.scenario
"""``@scenario(17, "in a few words")``: the number is that of docs/design/scenarios.md."""

FOREVER_US = 1 << 60
PATIENCE_MS = 10_000
SECOND = 1_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Frame(msgspec.Struct, frozen=True):
    """One frame that came from a node to another; both by their index, as the world has them."""

    at_us: int
    source: int
    to: int
    data: bytes


class Theatre(World):
    """A world that remembers its frames."""

    def __init__(self, *arguments: Any) -> None:
        self.carried: list[Frame] = []
        super().__init__(*arguments)

    def _deliver(self, source: int, to: int, data: bytes) -> None:
        self.carried.append(Frame(self.now, source, to, data))
        super()._deliver(source, to, data)


class Stage:
    """See the module. ``faults`` are the simulator's classes, with their rates; ``knobs`` fields of
    NodeConfig; ``seed`` decides what is left to chance: delays, salts, what a power cut leaves.
    ``spares`` are machines past the nodes that may join; ``changing``: members come and go.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        replicas: int = 3,
        keys: int = 1,
        fsync: bool = True,
        epoch_block: int = 1 << 20,
        faults: dict[str, float] | None = None,
        chaos_ms: int = 60_000,
        seed: int = 1,
        spares: int = 0,
        changing: bool = False,
        **knobs: int,
    ) -> None:
        options = msgspec.structs.replace(
            draw(seed),
            nodes=nodes,
            replicas=replicas,
            partitions=16,
            zones=nodes,
            weighted=False,
            fsync=fsync,
            clients=1,
            keys=keys,
            operations=0,
            chaos_ms=chaos_ms,
            near_us=200,
            spread_us=100,
            disk_us=500,
            wide_puts=False,
            epoch_block=epoch_block,
            faults=faults or {},
            knobs=knobs,
            survivors=0,
            lost_by="",
            spares=spares,
            changes_ms=1000 if spares or changing else 0,  # none by chance: the plan is empty
        )
        self.world = Theatre(options, [])
        self.world.fences.up = True  # disks may be put back by hand
        self.audience = Audience(self.world)
        self.world.clients = [self.audience]  # type: ignore[list-item]
        self._gets = 0
        for machine in self.world.machines:
            machine.start()
        assert self.until(self.world.calm, 5 * SECOND), self.world.unrest()

    # -- what clients do ---------------------------------------------------------------------------

    def ask_put(
        self,
        name: str,
        at: int = 1,
        *,
        key: int = 0,
        seen: Knowledge = NOTHING,
        delete: bool = False,
        **fields: Any,
    ) -> Call:
        """Send a put, named ``name``, to a node, and wait for nothing."""
        ledger = self.world.keys[key]
        operation = Operation(
            name, "audience", "delete" if delete else "put", ledger.name, self.world.now
        )
        known = ledger.causality.frontier(seen.mask | seen.named)
        operation.seen = sorted(
            each for each, place in ledger.causality.place.items() if known >> place & 1
        )
        n = fields.get("n") or self.world.options.copies
        operation.n, operation.q = n, fields.get("w") or n // 2 + 1
        dw = fields.get("dw", -1)
        operation.dw = dw if dw >= 0 else operation.q if self.world.options.fsync else 0
        operation.strict = fields.get("strict", False)
        operation.tries = 1
        place = self.world.ledger.invoked(ledger, operation, seen)
        self.world.history.append(operation)
        call = Call(ledger, operation, place, self.world.now)
        value = None if delete else name.encode() + b"|"
        put = Put(0, ledger.data_key, value, seen.token, name.encode(), 2 * SECOND)
        self.audience.ask(at, call, msgspec.structs.replace(put, **fields))
        return call

    def ask_again(
        self, earlier: Call, at: int, *, seen: Knowledge = NOTHING, **fields: Any
    ) -> Call:
        """Send a put once more, as a client does that got no answer: same id, marked as a retry."""
        operation = earlier.operation
        operation.tries += 1
        call = Call(earlier.key, operation, earlier.place, self.world.now)
        name = operation.id.encode()
        value = None if operation.kind == "delete" else name + b"|"
        put = Put(0, earlier.key.data_key, value, seen.token, name, 2 * SECOND, retry=True)
        self.audience.ask(at, call, msgspec.structs.replace(put, **fields))
        return call

    def ask_get(self, at: int = 1, *, key: int = 0, **fields: Any) -> Call:
        """Send a get to a node, and wait for nothing."""
        ledger = self.world.keys[key]
        self._gets += 1
        operation = Operation(
            f"read {self._gets}", "audience", "get", ledger.name, self.world.now, tries=1
        )
        operation.n = self.world.options.copies
        operation.q = fields.get("r") or operation.n // 2 + 1
        self.world.history.append(operation)
        call = Call(ledger, operation, -1, self.world.now)
        get = Get(0, ledger.data_key, 2 * SECOND)
        self.audience.ask(at, call, msgspec.structs.replace(get, **fields))
        return call

    def put(self, name: str, at: int = 1, **options: Any) -> Call:
        """Put, and wait for the answer, whatever it is."""
        return self.answered(self.ask_put(name, at, **options))

    def delete(self, name: str, at: int = 1, **options: Any) -> Call:
        """Delete, under a name of its own, and wait for the answer."""
        return self.answered(self.ask_put(name, at, delete=True, **options))

    def get(self, at: int = 1, **options: Any) -> Call:
        """Get, and wait for the answer, whatever it is."""
        return self.answered(self.ask_get(at, **options))

    def answered(self, *calls: Call) -> Call:
        """Wait until all these calls are over; return the last."""
        assert self.until(lambda: all(call.done for call in calls)), "nobody answered"
        return calls[-1]

    # -- time --------------------------------------------------------------------------------------

    def run(self, ms: float) -> None:
        """Let this time pass."""
        self.world.run(self.world.now + int(ms * 1000))

    def until(self, condition: Callable[[], bool], within_ms: int = PATIENCE_MS) -> bool:
        """Let time pass, from event to event, until a condition holds; say whether it did."""
        end = self.world.now + within_ms * 1000
        while not condition():
            queue = self.world._queue
            if not queue or queue[0][0] > end:
                self.world.run(end)
                return condition()
            self.world.run(queue[0][0])
        return True

    def settle(self) -> None:
        """End all faults, and hold the cluster to all that is asked of one at rest: hints home,
        nothing open, the owners of each key identical, no acknowledged write lost, no false
        sibling, no resurrection, and every node able to write to all owners.
        """
        world = self.world
        world.heal()
        auditor = Auditor(world)
        auditor.audit()
        spared = allowed(world)
        breaches = check_history(world.history, spared, world.options.copies)
        assert not breaches, [breach.sentence for breach in breaches]
        auditor.try_all()

    # -- processes ---------------------------------------------------------------------------------

    def machine(self, node: int) -> Machine:
        return self.world.machines[node - 1]

    def node(self, node: int) -> Node:
        """The core of a node that runs."""
        core = self.machine(node).node
        assert core is not None, f"node {node} is down"
        return core

    def is_up(self, node: int) -> bool:
        return self.machine(node).node is not None

    def kill(self, *nodes: int) -> None:
        """End processes; what they wrote stays, synced or not."""
        for node in nodes:
            assert self.is_up(node), f"node {node} is down already"
            self.machine(node).stop()
        self.run(10)

    def cut_power(self, *nodes: int) -> bool:
        """End machines at one moment, with what they had not synced; say whether that was any."""
        for node in nodes:
            self.machine(node).stop()
        lost = [self.machine(node).disk.cut_power() for node in nodes]
        self.run(10)
        return any(lost)

    def restart(self, *nodes: int) -> None:
        """Start nodes again, and wait until those that can meet have met."""
        for node in nodes:
            assert not self.is_up(node), f"node {node} runs"
            self.machine(node).start()
        self.run(50)

    def burn(self, node: int, point: str, *, power: bool = False, down_ms: int = 500) -> None:
        """Have a node crash at the next effect boundary of this kind."""
        self.machine(node).fuse = Fuse(point, power, down_ms * 1000)

    def pause(self, node: int) -> None:
        self.machine(node).pause()

    def resume(self, node: int) -> None:
        self.machine(node).resume()

    def up_in_the_eyes_of(self, node: int) -> set[int]:
        """Return which peers a node takes for up."""
        return {self.world.index_of(peer) + 1 for peer in self.node(node).local.liveness.up}

    # -- members -----------------------------------------------------------------------------------

    def join(self, *nodes: int, through: int = 1) -> None:
        """Spare machines join through a node, and do not wait to be in."""
        for node in nodes:
            assert self.machine(node).spare, f"node {node} is no spare"
            self.machine(node).join(self.machine(through).me)

    def rule(self, node: int, standing: int, at: int = 1, weight: float = 0.0) -> None:
        """Say an operator's word on a node to a node."""
        self.world.changes.say(self.machine(at), self.machine(node), standing, weight)

    def remove(self, node: int, at: int = 1) -> None:
        """A node is dead for good, its disk with it, and an operator removes it."""
        self.machine(node).retire()
        self.machine(node).disk.lose()
        self.rule(node, REMOVED, at)

    def served(self, node: int) -> set[int]:
        """Return the partitions whose copies count at a node; none if it is down."""
        core = self.machine(node).node
        return set(partitions_in(core.local.serves)) if core is not None else set()

    def views(self, *nodes: int) -> set[bytes]:
        """Return the placements that these nodes go by: one, if they agree."""
        return {self.node(node).local.routes.placement.digest for node in nodes}

    def partition(self, key: int = 0) -> int:
        return self.world.placement.partition_of(self.world.keys[key].data_key)

    # -- disks -------------------------------------------------------------------------------------

    def owners(self, key: int = 0) -> list[int]:
        """Return all nodes as a key prefers them: the first ``replicas`` own it."""
        machine = next(each for each in self.world.machines if each.node is not None)
        placement = machine.node.local.routes.placement  # type: ignore[union-attr]
        preference = placement.preference[placement.partition_of(self.world.keys[key].data_key)]
        return [self.world.index_of(each) + 1 for each in preference]

    def record(self, node: int, key: int = 0) -> Record:
        """Return what an owner's disk holds of a key."""
        payload = self.machine(node).disk.readable(OWN + self.world.keys[key].data_key)
        return versions.decode(payload[8:]) if payload else EMPTY

    def held(self, node: int, key: int = 0) -> list[str]:
        """Return the ids of the siblings that an owner's disk holds, deletes too, sorted."""
        return sorted(version.op.decode() for version in self.record(node, key).siblings)

    def hints(self, *nodes: int) -> int:
        """Return how many hints stand on the disks of these nodes, or of all."""
        chosen = nodes or range(1, len(self.world.machines) + 1)
        return sum(len(self.machine(node).disk.keys(HINT)) for node in chosen)

    def lose_disk(self, node: int) -> None:
        """The disk of a node that is down is gone; a new one takes its place."""
        disk = self.machine(node).disk
        assert not self.is_up(node) and disk.visible, "a fault that would do nothing"
        disk.lose()

    def forget(self, node: int, key: int = 0, *, kind: bytes = OWN) -> None:
        """One key is gone from a disk, and from the node's memory, as if it had never been. Its
        tree has no memory of it either: such a leaf is counted anew.
        """
        disk, disk_key = self.machine(node).disk, kind + self.world.keys[key].data_key
        held = disk.visible.pop(disk_key)
        disk.safe.pop(disk_key, None)
        self.world.ledger.dropped(disk.index, disk_key, held)
        core = self.machine(node).node
        if core is not None:
            core.local.records.forget([disk_key])
            if kind == OWN:
                trees = core.local.trees
                trees.doubt(trees.leaf_of(disk_key[len(OWN) :]))
        self.cool(node)

    def rot(self, node: int, key: int = 0, *, kind: bytes = OWN) -> None:
        """One value is damaged on a disk, and no node has it in memory."""
        disk, disk_key = self.machine(node).disk, kind + self.world.keys[key].data_key
        assert disk_key in disk.settled_keys(), "a fault that would do nothing"
        disk.rot(disk_key)
        assert disk.visible[disk_key] is ROTTEN
        self.cool(node)

    def cool(self, node: int) -> None:
        """Empty a node's cache: it must read its disk."""
        core = self.machine(node).node
        if core is not None:
            core.local.records.forget(sorted(self.machine(node).disk.visible))

    def fill_disk(self, node: int) -> None:
        self.machine(node).disk.full_until = FOREVER_US

    def free_disk(self, node: int) -> None:
        self.machine(node).disk.full_until = 0

    # -- links -------------------------------------------------------------------------------------

    def cut(self, one: int, other: int) -> None:
        """Nothing goes between two nodes any more, and nobody is told."""
        self.cut_one_way(one, other)
        self.cut_one_way(other, one)

    def cut_one_way(self, source: int, to: int) -> None:
        self.world.network.cut_link(source - 1, to - 1)

    def mend(self, one: int, other: int) -> None:
        self.world.network.mend_link(one - 1, other - 1)
        self.world.network.mend_link(other - 1, one - 1)

    def split(self, *groups: set[int]) -> None:
        """Nodes of different groups cannot talk."""
        for node, other in self._across(groups):
            self.cut(node, other)

    def unite(self, *groups: set[int]) -> None:
        """The same groups can talk again."""
        for node, other in self._across(groups):
            self.mend(node, other)

    def _across(self, groups: tuple[set[int], ...]) -> list[tuple[int, int]]:
        return [
            (node, other)
            for place, group in enumerate(groups)
            for rest in groups[place + 1 :]
            for node in sorted(group)
            for other in sorted(rest)
        ]

    @property
    def frames_cut(self) -> int:
        """How many frames a cut has swallowed so far."""
        return self.world.faults["frames_cut"]

    def replay(self, frame: Frame) -> None:
        """Bring a frame of long ago once more to where it went."""
        machine = self.world.machines[frame.to]
        assert machine.node is not None
        machine.arrive(self.world.machines[frame.source].me.node_id, frame.data)
