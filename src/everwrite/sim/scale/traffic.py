"""Traffic by numbers: requests through all nodes of a cluster, at rest and with nodes gone.

Clients read keys, and half of the time write them back with the context of what they read. A client
asks any node, or (``owner``) knows the ring and asks an owner. Each has one operation under way,
and where the connection breaks or no answer comes it tries another node. One cluster lives through:

    calm      all nodes are up
    killed    5 % of the processes end; peers and clients notice at once
    silent    5 % of the machines fall silent; nobody is told

and between two of them through a while in which the hints come home. Only operations count that
began in the phase. A hop is one message on the way from a client's request to its answer: 2 where
the node that was asked answers by itself, 4 where it asks replicas, 6 where it had to hand the
request on. Hops and messages are counted for operations that had their key to themselves meanwhile,
for only then it is sure to which of them a message belongs.

Latencies are virtual: what the network (0.3 ms one way) and fsyncs (0.5 ms) leave, with a CPU that
costs nothing. They say how long the protocol makes a client wait, not how fast a node works.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean
from typing import NamedTuple

from everwrite.core.data.keys import data_key
from everwrite.core.messages.message import Message
from everwrite.core.messages.requests import Failure, Get, GetReply, Put, PutReply
from everwrite.sim.scale.arena import Arena
from everwrite.sim.scale.figures import imbalance, rank, spread
from everwrite.sim.scale.tally import Operation, Tally

REPLICAS = 3
BUCKET = b"load"
VALUE = b"x" * 100
PATIENCE_US = 1_000_000
TIMEOUT_MS = 900
TRIES_MAX = 5
HOT_SHARE = 0.1
DOWN_SHARE = 0.05
WARM_UP_US = 2_000_000
CALM_MAX_US = 120_000_000
VIAS = ("any", "owner")


class Size(NamedTuple):
    """How large a cluster, and how much to do in each phase."""

    nodes: int = 100
    partitions: int = 1024
    clients: int = 200
    keys: int = 10_000
    hot_keys: int = 50
    """Of these keys are a tenth of the operations."""
    pace_us: int = 50_000
    """Mean time that a client thinks between two operations."""
    phase_us: int = 2_000_000


class Phase(NamedTuple):
    """A row of ``traffic``: one phase, for one way of asking; all seeds together."""

    phase: str
    via: str
    nodes: int
    nodes_down: int
    seeds: int
    operations: int
    failed: int
    tried_again: int
    get_p50_ms: float
    get_p99_ms: float
    put_p50_ms: float
    put_p99_ms: float
    messages_per_get: float
    messages_per_put: float
    bytes_per_operation: float
    load_max_over_mean: float
    """Messages that a node gets, gossip aside: the busiest over the mean of those that are up."""
    siblings_mean: float
    siblings_max: int
    hints: int
    calm_again_s: float
    """After all nodes are back, until the last hint is home; the longest of all seeds."""


class Hops(NamedTuple):
    """A row of ``traffic_hops``."""

    phase: str
    via: str
    kind: str
    hops: int
    share_of_operations: float


class StandIns(NamedTuple):
    """A row of ``traffic_standins``: who keeps the hints for one node that is down."""

    phase: str
    via: str
    seed: int
    node: str
    hints: int
    stand_ins: int
    busiest_share: float


class Shopper:
    """A client: reads a key, writes it back or not, thinks, and does so again."""

    def __init__(self, arena: Arena, tally: Tally, size: Size, via: str, number: int) -> None:
        self._arena = arena
        self._tally = tally
        self._size = size
        self._via = via
        self._number = number
        self._rng = random.Random(f"{via}/{number}")
        self._rid = 0
        self._operation: Operation | None = None
        self._context = b""
        self._asked = -1
        self._tried: set[int] = set()

    def begin(self) -> None:
        """Do the next read."""
        size, rng = self._size, self._rng
        hot = rng.random() < HOT_SHARE
        number = rng.randrange(size.hot_keys if hot else size.keys)
        self._open("get", data_key(BUCKET, b"%s %d" % (b"hot" if hot else b"key", number)))

    def receive(self, machine: int, messages: Sequence[Message]) -> None:
        """An answer came."""
        for message in messages:
            operation = self._operation
            if operation is None or getattr(message, "rid", 0) != self._rid:
                continue
            if isinstance(message, Failure):
                self._again()
                continue
            self._tally.answered(operation, machine)
            if isinstance(message, GetReply):
                operation.siblings = len(message.values)
                self._context = message.context
            elif isinstance(message, PutReply):
                operation.siblings = message.siblings
            self._close(operation)

    def broken(self, machine: int) -> None:
        """The connection to a machine broke."""
        if self._operation is not None and machine == self._asked:
            self._again()

    def _open(self, kind: str, key: bytes) -> None:
        self._operation = operation = Operation(kind, key, self._arena.now)
        self._tally.begin(operation)
        self._op = b"%d.%d" % (self._number, self._rid)
        self._tried.clear()
        self._ask(operation)

    def _ask(self, operation: Operation) -> None:
        self._rid += 1
        operation.tries += 1
        self._asked = machine = self._choose(operation.key)
        self._tried.add(machine)
        self._tally.asked(operation, machine)
        message: Message
        if operation.kind == "get":
            message = Get(self._rid, operation.key, TIMEOUT_MS)
        else:
            again = operation.tries > 1
            message = Put(
                self._rid,
                operation.key,
                VALUE,
                self._context,
                self._op,
                TIMEOUT_MS,
                retry=again,
            )
        self._arena.request(self._number, machine, message)
        self._arena.later(PATIENCE_US, self._no_answer, self._rid)

    def _choose(self, key: bytes) -> int:
        """Return a machine that this operation did not ask yet: an owner, if one is left."""
        arena, tried = self._arena, self._tried
        if len(tried) == len(arena.machines):
            tried.clear()
        owners = arena.owners(key) if self._via == "owner" else []
        left = [each for each in owners if each not in tried]
        return self._rng.choice(
            left or [each for each in range(len(arena.machines)) if each not in tried]
        )

    def _no_answer(self, rid: int) -> None:
        if self._operation is not None and rid == self._rid:
            self._again()

    def _again(self) -> None:
        operation = self._operation
        if operation is None:
            return
        if operation.tries < TRIES_MAX:
            self._ask(operation)
        else:
            operation.failed = True
            self._close(operation)

    def _close(self, operation: Operation) -> None:
        operation.ended = self._arena.now
        self._operation = None
        self._tally.end(operation)
        if operation.kind == "get" and not operation.failed and self._rng.random() < 0.5:
            self._open("put", operation.key)
        else:
            think = int(self._rng.expovariate(1.0) * self._size.pace_us)
            self._arena.later(think, self.begin)


class Counted(NamedTuple):
    """What one phase of one seed came to."""

    operations: list[Operation]
    bytes: int
    load: list[int]
    hints: dict[int, list[int]]
    """For each machine that is down, the hints on each stand-in that has any."""
    calm_again_s: float


class Unrest(Exception):
    """The cluster did not come to rest."""


def measure_traffic(
    size: Size,
    seeds: int,
    *,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[list[Phase], list[Hops], list[StandIns]]:
    """Run ``seeds`` clusters for each way of asking."""
    phases: list[Phase] = []
    hops: list[Hops] = []
    stand_ins: list[StandIns] = []
    for via in VIAS:
        runs = []
        for seed in range(seeds):
            runs.append(run(size, via, seed))
            say(f"traffic: {size.nodes} nodes, asking {via}, seed {seed}")
        for name in ("calm", "killed", "silent"):
            counted = [each[name] for each in runs]
            phases.append(_phase(name, via, size, counted))
            hops += _hops(name, via, counted)
            for seed, each in enumerate(counted):
                stand_ins += [
                    StandIns(
                        name, via, seed, f"n{down + 1}", sum(kept), len(kept), max(kept) / sum(kept)
                    )
                    for down, kept in sorted(each.hints.items())
                    if kept
                ]
    return phases, hops, stand_ins


def run(size: Size, via: str, seed: int) -> dict[str, Counted]:
    """Run one cluster through its phases."""
    tally = Tally(size.nodes)
    arena = Arena(size.nodes, size.partitions, REPLICAS, seed, tally)
    arena.boot()
    arena.run(WARM_UP_US)
    rng = random.Random(f"{seed}/traffic {via}")
    gone = max(1, round(size.nodes * DOWN_SHARE))
    for number in range(1, size.clients + 1):
        shopper = Shopper(arena, tally, size, via, number)
        arena.callers[number] = shopper
        arena.later(rng.randrange(size.pace_us), shopper.begin)
    arena.run(size.phase_us // 3)
    counted = {"calm": _count(arena, tally, size, [])}
    down = rng.sample(range(size.nodes), gone)
    for index in down:
        arena.machines[index].stop()
    killed = _count(arena, tally, size, down)
    for index in down:
        arena.machines[index].start()
    counted["killed"] = killed._replace(calm_again_s=_calm_again(arena))
    down = rng.sample(range(size.nodes), gone)
    arena.silent.update(down)
    silent = _count(arena, tally, size, down)
    arena.silent.clear()
    counted["silent"] = silent._replace(calm_again_s=_calm_again(arena))
    return counted


def _count(arena: Arena, tally: Tally, size: Size, down: Sequence[int]) -> Counted:
    began = arena.now
    tally.take()
    arena.run(size.phase_us)
    ended = arena.now
    operations, carried, load = tally.take()
    hints = {index: _kept_for(arena, index) for index in down}
    up = [load[index] for index in arena.up()]
    # Those that wait for a node that is gone take the longest: they are part of this phase.
    if not arena.run(TRIES_MAX * PATIENCE_US, lambda: not tally.open_since(began, ended)):
        raise Unrest("An operation goes on although its client has given up.")
    operations += tally.take()[0]
    mine = [operation for operation in operations if began <= operation.began < ended]
    return Counted(mine, carried, up, hints, 0.0)


def _kept_for(arena: Arena, index: int) -> list[int]:
    """Return how many hints for a machine each of the others keeps, those that keep none aside."""
    owner = arena.machines[index].me.node_id
    counts = [
        len(machine.node.hints.waiting.get(owner, ()))
        for machine in arena.machines
        if machine.node is not None
    ]
    return [count for count in counts if count]


def _calm_again(arena: Arena) -> float:
    began = arena.now
    if not arena.run(CALM_MAX_US, lambda: not any(_notes(arena))):
        raise Unrest(f"After {CALM_MAX_US / 1e6:.0f} s {sum(_notes(arena))} hints are not home.")
    return (arena.now - began) / 1e6


def _notes(arena: Arena) -> list[int]:
    return [machine.node.hints.notes for machine in arena.machines if machine.node is not None]


# -- rows ------------------------------------------------------------------------------------------


def _phase(name: str, via: str, size: Size, runs: Sequence[Counted]) -> Phase:
    operations = [operation for each in runs for operation in each.operations]
    took: dict[str, list[float]] = {"get": [], "put": []}
    messages: dict[str, list[int]] = {"get": [], "put": []}
    for operation in operations:
        if not operation.failed:
            took[operation.kind].append((operation.ended - operation.began) / 1000)
        if operation.alone:
            messages[operation.kind].append(operation.messages)
    found = [operation.siblings for operation in operations if operation.siblings]
    return Phase(
        name,
        via,
        size.nodes,
        len(runs[0].hints),
        len(runs),
        len(operations),
        sum(operation.failed for operation in operations),
        sum(operation.tries > 1 for operation in operations),
        rank(took["get"], 0.5),
        rank(took["get"], 0.99),
        rank(took["put"], 0.5),
        rank(took["put"], 0.99),
        mean(messages["get"]),
        mean(messages["put"]),
        sum(each.bytes for each in runs) / len(operations),
        mean(imbalance(each.load) for each in runs),
        mean(found),
        max(found),
        sum(sum(kept) for each in runs for kept in each.hints.values()),
        max(each.calm_again_s for each in runs),
    )


def _hops(name: str, via: str, runs: Sequence[Counted]) -> list[Hops]:
    rows: list[Hops] = []
    for kind in ("get", "put"):
        counts = Counter(
            operation.hops
            for each in runs
            for operation in each.operations
            if operation.kind == kind and operation.alone and not operation.failed
        )
        rows += [Hops(name, via, kind, hops, share) for hops, share in spread(counts)]
    return rows
